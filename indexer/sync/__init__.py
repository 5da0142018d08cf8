"""Decides what to fetch and does it."""
