// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// A constant-product pool. Its events have the names, types and order of Uniswap V2's, its arithmetic is its own:
/// no minimum liquidity, no price accumulators, no protocol fee, no flash swaps.
///
/// Like the original it works on what was sent to it beforehand: transfer first, then call.
contract Pair is ERC20 {
    event Mint(address indexed sender, uint256 amount0, uint256 amount1);
    event Burn(address indexed sender, uint256 amount0, uint256 amount1, address indexed to);
    event Swap(
        address indexed sender,
        uint256 amount0In,
        uint256 amount1In,
        uint256 amount0Out,
        uint256 amount1Out,
        address indexed to
    );
    event Sync(uint112 reserve0, uint112 reserve1);

    error NothingReceived();
    error ReserveTooLarge();

    address public token0;
    address public token1;
    uint112 public reserve0;
    uint112 public reserve1;

    constructor(address token0_, address token1_) ERC20("Demo Pool Share", "POOL") {
        token0 = token0_;
        token1 = token1_;
    }

    function mint(address to) external returns (uint256 liquidity) {
        (uint256 amount0, uint256 amount1) = _received();
        uint256 supply = totalSupply();
        liquidity = supply == 0
            ? Math.sqrt(amount0 * amount1)
            : Math.min((amount0 * supply) / reserve0, (amount1 * supply) / reserve1);
        if (liquidity == 0) revert NothingReceived();
        _mint(to, liquidity);
        _sync();
        emit Mint(msg.sender, amount0, amount1);
    }

    function burn(address to) external returns (uint256 amount0, uint256 amount1) {
        uint256 liquidity = balanceOf(address(this));
        if (liquidity == 0) revert NothingReceived();
        uint256 supply = totalSupply();
        amount0 = (liquidity * reserve0) / supply;
        amount1 = (liquidity * reserve1) / supply;
        _burn(address(this), liquidity);
        IERC20(token0).transfer(to, amount0);
        IERC20(token1).transfer(to, amount1);
        _sync();
        emit Burn(msg.sender, amount0, amount1, to);
    }

    /// Swaps whatever came in for as much as keeps the product, less 0.3 percent. Both directions at once are allowed.
    function swap(address to) external {
        (uint256 in0, uint256 in1) = _received();
        if (in0 == 0 && in1 == 0) revert NothingReceived();
        uint256 out0 = _quote(in1, reserve1, reserve0);
        uint256 out1 = _quote(in0, reserve0, reserve1);
        if (out0 > 0) IERC20(token0).transfer(to, out0);
        if (out1 > 0) IERC20(token1).transfer(to, out1);
        _sync();
        emit Swap(msg.sender, in0, in1, out0, out1, to);
    }

    function _quote(uint256 amountIn, uint256 reserveIn, uint256 reserveOut) private pure returns (uint256) {
        uint256 afterFee = amountIn * 997;
        return (afterFee * reserveOut) / (reserveIn * 1000 + afterFee);
    }

    function _received() private view returns (uint256, uint256) {
        return (
            IERC20(token0).balanceOf(address(this)) - reserve0,
            IERC20(token1).balanceOf(address(this)) - reserve1
        );
    }

    function _sync() private {
        uint256 balance0 = IERC20(token0).balanceOf(address(this));
        uint256 balance1 = IERC20(token1).balanceOf(address(this));
        if (balance0 > type(uint112).max || balance1 > type(uint112).max) revert ReserveTooLarge();
        reserve0 = uint112(balance0);
        reserve1 = uint112(balance1);
        emit Sync(reserve0, reserve1);
    }
}

/// Makes pairs and announces them with Uniswap V2's event, its unnamed last argument included.
contract Factory {
    event PairCreated(address indexed token0, address indexed token1, address pair, uint256);

    error PairExists(address pair);
    error SameToken();

    mapping(address => mapping(address => address)) public getPair;
    address[] public allPairs;

    function allPairsLength() external view returns (uint256) {
        return allPairs.length;
    }

    function createPair(address tokenA, address tokenB) external returns (address pair) {
        if (tokenA == tokenB) revert SameToken();
        (address token0, address token1) = tokenA < tokenB ? (tokenA, tokenB) : (tokenB, tokenA);
        if (getPair[token0][token1] != address(0)) revert PairExists(getPair[token0][token1]);
        pair = address(new Pair(token0, token1));
        getPair[token0][token1] = pair;
        getPair[token1][token0] = pair;
        allPairs.push(pair);
        emit PairCreated(token0, token1, pair, allPairs.length);
    }
}
