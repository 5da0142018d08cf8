"""Rows, and the coverage that claims them: in one transaction, or not at all.

* ``writer``: rows and coverage. ``copy_binary``: COPY's binary form from columns. ``indexes``: secondary indexes.
* ``undecoded_logs``: logs that have no row: their data does not fit their event, Postgres refused the row, or they have
  other arguments indexed than their event.
* ``blocks``: the blocks that bore logs; pruning followed blocks that are no longer needed.
* ``failed_ranges``: blocks of history that no node gave, and when they are asked for again. ``history_sources``: what
  became of sources of history that are not nodes.
* ``transactions``, ``transaction_rows``: transaction details (``include``): what is to be fetched; rows, and what no
  node gave.
* ``snapshots``: points and rows of snapshot series.
"""
