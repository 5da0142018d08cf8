// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// The part of a token that both odd ones share: balances and the event, without a single check more than needed.
abstract contract BareToken {
    event Transfer(address indexed from, address indexed to, uint256 value);

    mapping(address => uint256) public balanceOf;
    uint256 public totalSupply;

    function mint(address to, uint256 amount) external {
        totalSupply += amount;
        balanceOf[to] += amount;
        emit Transfer(address(0), to, amount);
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
        emit Transfer(msg.sender, to, amount);
        return true;
    }
}

/// Name and symbol as bytes32, decimals as uint256: the shape of the first tokens, MKR and SAI among them.
contract Bytes32Token is BareToken {
    bytes32 public constant name = "Old Style Token";
    bytes32 public constant symbol = "OLD";
    uint256 public constant decimals = 18;
}

/// Says nothing of itself, in the three ways in which a contract can refuse: a reason, a panic, an error of its own.
contract SilentToken is BareToken {
    error NotToday(address asker, uint256 blockNumber);

    function name() external pure returns (string memory) {
        revert("no name");
    }

    function symbol() external view returns (string memory) {
        // Never true on a chain with a clock, but the compiler cannot know.
        if (block.timestamp == 0) return "";
        assert(false);
        return "";
    }

    function decimals() external view returns (uint8) {
        revert NotToday(msg.sender, block.number);
    }
}
