"""From the manifest to the catalog: compared first, then done in steps that hold no lock for long.

Nothing that holds data is dropped by applying: what is no longer declared becomes inactive and keeps its rows.

* ``apply``: does what differs. ``planned``: the catalog as it would be, for ``gapless plan``.
* ``derived_tables``: rules of derived tables checked, and their builds begun and ended.
* ``difference``, ``difference_events``, ``difference_sources``: what differs. Pure.
* ``drop``, ``drop_chain``: ``gapless drop`` and ``gapless reset``, in bounded steps.
* ``prune``: ``gapless prune``, rows below a block, in bounded steps too.
* ``readable_views``: a view beside each event table, for people.
* ``migrate``: a Postgres that can be used; the static schema; event tables of earlier versions.
"""
