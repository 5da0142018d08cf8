"""Rows, and the coverage that claims them: in one transaction, or not at all.

* ``writer``: rows and coverage. ``copy_binary``: COPY's binary form from columns. ``indexes``: secondary indexes.
* ``rejected_rows``: a row that Postgres refused holds up no other. ``undecoded_logs``: logs whose data does not fit
  their event. ``foreign_shapes``: logs that have other arguments indexed than their event, counted.
* ``blocks``, ``block_retention``: the blocks that bore logs; followed blocks that are no longer needed.
* ``failed_ranges``: blocks of history that no node gave, and when they are asked for again.
* ``transactions``, ``transaction_rows``, ``missing_transactions``: transaction details (``include``): what is to be
  fetched, as rows, and what no node gave.
* ``snapshots``: points and rows of snapshot series.
"""
