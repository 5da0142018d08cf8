"""Audits: is what the tables hold what the manifest wants, what was written, and what the chain says?

* ``run``, ``scope``: one audit and its report; what it is about.
* ``table_checks``, ``comparison``: the checks: whole and unchanged; a second endpoint, proof.
* ``holdings``, ``derived_rows``, ``program_rows``: the checks of what follows from the rows: balances, derived tables,
  tables of programs.
* ``repair``, ``refetch``, ``redecode``: what was found, made right; ranges fetched anew; logs decoded anew.
"""

from indexer.sync.audit.run import Report, Request, audit

__all__ = ["Report", "Request", "audit"]
