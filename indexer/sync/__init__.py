"""Decides what to fetch and does it."""

import indexer.recursion_limit  # noqa: F401 - for its effect
