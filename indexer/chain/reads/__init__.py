"""Single questions, and what contracts answer.

* ``questions``: headers and logs, one checked question at a time. ``log_forms``: nodes that write logs otherwise.
* ``null_blocks``: block numbers without a block, proven by a parent link.
* ``reported_heads``: what each endpoint says its newest block is.
* ``contract_reads``: one call, and the code of one contract. ``multicall``, ``aggregate``: many calls at one block,
  and what goes through Multicall3. ``executing_block``: whether a call ran in the block that it was asked for.
* ``transactions``: the blocks, transactions and receipts of logs.
"""
