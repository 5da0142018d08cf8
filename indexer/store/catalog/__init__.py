"""The catalog: what is indexed, as the database knows it.

* ``declaration``: the manifest as the store understands it, and changes of it as people are told.
* ``catalog``: the catalog read. ``version``: its version, which every writer presents; all of it at once, to compare.
* ``children``, ``factory_coverage``: a factory's children, derived from the announcing events; up to which block they
  are known.
* ``table_sizes``: how large the tables are.
* ``ledgers``, ``transfer_standards``: of which contracts balances are kept; which events are transfers.
"""
