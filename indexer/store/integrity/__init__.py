"""What audits ask the tables, and what they found.

* ``checks``: what the tables can be asked about themselves. ``compare``: the tables against logs from elsewhere.
* ``digests``: sums over covered ranges, so that a later change is noticed.
* ``findings``: what was found, kept until it is repaired; blocks proven against receipts roots.
"""
