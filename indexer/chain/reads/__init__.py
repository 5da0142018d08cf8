"""Single questions, and what contracts answer.

* ``questions``: headers and logs, one checked question at a time, also of nodes that write logs otherwise.
* ``null_blocks``: block numbers without a block, proven by a parent link.
* ``contract_reads``: calls and code of contracts, what goes through Multicall3, and whether a call ran in its block.
  ``multicall``: many calls at one block.
* ``transactions``: the blocks, transactions and receipts of logs.
"""
