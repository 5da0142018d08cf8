"""Derived tables: rows that follow from the rows of events by a rule of the manifest, kept in step with them.

The *coverage* of a derived table says the blocks whose rows are counted in it: at every commit, its rows are what its
rule makes of the rows that the event tables hold in those blocks. So blocks may be counted in any order, and a writer
that changes rows of counted blocks has them taken back first. A row of ``gapless.derived_progress`` locks one
generation's rows on one chain.

* ``rules``: a rule of the catalog. ``statements``: what it says as SQL. ``rule_check``: what Postgres says of it.
* ``levels``: aggregates over the rows of an aggregate, kept in step by triggers.
* ``generations``: the builds of each derived table, and how far they are counted. ``views``: their tables and views.
* ``taken_names``: who has which name in the schema. ``replacing``: views made anew while others read them.
* ``counting``: counting blocks and taking them back; what writers of rows call.
* ``steps``: history, counted in bounded steps, and which build is served. ``recount``: a derived table compared with
  its recomputation, and keys rebuilt.
"""
