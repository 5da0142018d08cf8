"""Gapless: copies what contracts said and answer from JSON-RPC nodes into typed Postgres tables."""

__version__ = "0.1.0"
