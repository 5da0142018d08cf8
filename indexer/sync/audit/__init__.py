"""Audits: is what the tables hold what the manifest wants, what was written, and what the chain says?

* ``run``, ``scope``, ``as_json``: one audit, what it is about, its report.
* ``coverage``, ``digest``, ``against``, ``deep``, ``holdings``: the checks: whole, unchanged, a second endpoint,
  proof, balances.
* ``proving``, ``truth``: proven blocks from a node; tables compared with logs from elsewhere.
* ``repair``, ``refetch``, ``redecode``: what was found, made right; ranges fetched anew; logs decoded anew.
"""

from indexer.sync.audit.run import Report, Request, audit

__all__ = ["Report", "Request", "audit"]
