"""Proving what a node says of a block: the header against its hash, the receipts against the header. Pure, no I/O.

* ``block``: both together. ``header``: the block's hash. ``receipts``: the receipts' root. ``hexes``: strict reading
  of hex.
"""

from indexer.chain.proof.block import ProvenBlock, prove
from indexer.chain.proof.header import header_hash
from indexer.chain.proof.hexes import NotProvableError
from indexer.chain.proof.receipts import receipts_root

__all__ = ["NotProvableError", "ProvenBlock", "header_hash", "prove", "receipts_root"]
