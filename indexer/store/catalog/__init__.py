"""The catalog: what is indexed, as the database knows it.

* ``declaration``: the manifest as the store understands it. ``changes``: differences, summed up for people.
* ``catalog``: the catalog read. ``version``: its version, which every writer presents. ``catalog_rows``: all of it at
  once, to compare.
* ``component_names``: tuples whose components an ABI names otherwise now.
* ``children``, ``factory_coverage``: a factory's children, derived from the announcing events; up to which block they
  are known.
* ``ledgers``, ``transfer_standards``: of which contracts balances are kept; which events are transfers.
"""
