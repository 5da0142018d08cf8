"""What comes in through the API: its keys, and jobs that were asked for.

* ``keys``, ``key_format``: API keys, kept as hashes. ``jobs``: work that one process takes at a time.
"""
