"""What Gapless knows: the tables in Postgres, who writes them and how; and what Redis keeps besides.

Rows and the coverage that claims them are written in one transaction (invariant 1). Every writer presents, as the
last thing before its commit, the version of the catalog that it planned by. Isolation is READ COMMITTED everywhere.

Rooms, each standing on those below it:

* ``status``: what status, monitoring and the page show.
* ``apply``: from the manifest to the catalog, and what goes for good.
* ``head``: blocks that can still be reorganised. ``export``: rows as files.
* ``tokens``: transfers, balances, metadata. ``integrity``: what audits ask. ``access``: keys and jobs of the API.
* ``rows``: rows and coverage.
* ``derived``: what follows from rows by rules of the manifest. ``programs``: what programs in Python keep.
* ``catalog``: what is indexed.
* ``schema``: tables as SQL.
* ``database``: connections, locks that are waited for briefly, what a failure means to an operator. ``leases``: rights
  that end by themselves, and sessions whose process stands still. ``call_permits``: ceilings of endpoints that all
  processes keep together. ``credits``: what endpoints cost in a day, and may.
  ``lag``: how far a chain is behind, as SQL.
  ``cache``: Redis.
* ``embedded``: real servers for machines that have none; production imports nothing of it.
"""
