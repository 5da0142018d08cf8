"""Single questions, and what contracts answer.

* ``questions``: headers and logs, one checked question at a time, also of nodes that write logs otherwise.
* ``null_blocks``: block numbers without a block, proven by a parent link.
* ``contract_reads``: one call, the code of one contract, and whether a call ran in the block that it was asked for.
  ``multicall``, ``aggregate``: many calls at one block, and what goes through Multicall3.
* ``transactions``: the blocks, transactions and receipts of logs.
"""
