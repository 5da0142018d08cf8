"""History: what is missing below ``finalized``, fetched and written chunk by chunk.

A range that fails is kept with its reason and asked for again later; the others go on.

* ``backfill``: subtract, fetch, add. ``pipeline``: fetching and writing at
  once. ``workers``: many processes.
* ``transactions``: transaction details (``include``), right behind the events.
* ``derived_history``: derived tables that lag behind rows are counted further.
* ``estimate``, ``estimate_snapshots``: what it will take (``gapless plan``).
  ``estimate_credits``: and cost. ``estimate_derived``: what derived tables and
  programs have left to do.
"""
