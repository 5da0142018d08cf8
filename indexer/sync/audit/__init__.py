"""Audits: is what the tables hold what the manifest wants, what was written, and what the chain says?"""

from indexer.sync.audit.run import Report, Request, audit

__all__ = ["Report", "Request", "audit"]
