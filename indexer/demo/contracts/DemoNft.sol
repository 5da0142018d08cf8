// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

/// An ERC-721 with ids in sequence from 1, open to everybody.
contract DemoNft is ERC721 {
    uint256 public minted;

    constructor() ERC721("Demo Portraits", "FACE") {}

    function mint(address to, uint256 count) external {
        for (uint256 i = 0; i < count; i++) {
            _mint(to, ++minted);
        }
    }

    function burn(uint256 id) external {
        // Passing the sender makes the library check that it may: the owner, or someone approved.
        _update(address(0), id, msg.sender);
    }
}
