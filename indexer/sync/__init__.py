"""Decide what to fetch, and do it.

Rooms, each standing on those below it:

* ``audit``: whether the tables are true, and mending them.
* ``history``: filling what is missing below ``finalized``.
* ``head``: following a chain's newest blocks.
* ``setup``, ``rows``, ``snapshots``, ``tokens``: the manifest made ready; from logs to rows; series of reads;
  metadata and balances.
"""

import indexer.chain  # noqa: F401 - for its effect on Python's recursion limit
