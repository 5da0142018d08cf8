"""What tokens say of themselves, and who holds them.

* ``metadata_job``: tokens looked up in Redis, else read by multicall. ``metadata``: what their answers mean.
* ``balances``: ledgers that lag behind are taken further through history; nodes are asked whether tokens gave before
  they are counted.
"""
