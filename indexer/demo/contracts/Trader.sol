// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {DemoToken} from "./DemoToken.sol";
import {Factory, Pair} from "./Exchange.sol";

/// Trades on behalf of anybody. It mints what it needs (demo tokens are free), so no approvals come first and one
/// transaction bears the logs of several contracts.
contract Trader {
    Factory public factory;

    constructor(Factory factory_) {
        factory = factory_;
    }

    function provide(Pair pair, uint256 amount0, uint256 amount1, address to) public {
        DemoToken(pair.token0()).mint(address(pair), amount0);
        DemoToken(pair.token1()).mint(address(pair), amount1);
        pair.mint(to);
    }

    /// Takes `thousandths` of the shares that the trader itself holds out of the pool.
    function withdraw(Pair pair, uint256 thousandths, address to) external {
        pair.transfer(address(pair), (pair.balanceOf(address(this)) * thousandths) / 1000);
        pair.burn(to);
    }

    function swap(Pair pair, uint256 amount0, uint256 amount1, address to) public {
        if (amount0 > 0) DemoToken(pair.token0()).mint(address(pair), amount0);
        if (amount1 > 0) DemoToken(pair.token1()).mint(address(pair), amount1);
        pair.swap(to);
    }

    /// There and back on every pair given: a transaction with many logs.
    function sweep(Pair[] calldata pairs, uint256 amount, address to) external {
        for (uint256 i = 0; i < pairs.length; i++) {
            swap(pairs[i], amount, 0, to);
            swap(pairs[i], 0, amount, to);
        }
    }

    /// A new token, its pair with `other`, and first trades, all in one transaction: the pair speaks in the very
    /// transaction in which its factory announces it.
    function launch(string calldata name, string calldata symbol, address other, uint256 amount) external {
        DemoToken token = new DemoToken(name, symbol, 18);
        Pair pair = Pair(factory.createPair(address(token), other));
        provide(pair, amount, amount, address(this));
        swap(pair, amount / 100, 0, msg.sender);
    }
}
