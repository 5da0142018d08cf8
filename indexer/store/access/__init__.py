"""What comes in through the API, its keys and jobs that were asked for; and who may do what in Postgres.

* ``keys``, ``key_format``: API keys, kept as hashes. ``jobs``: work that one process takes at a time.
* ``grants``: roles in Postgres, each with the least that it needs.
"""
