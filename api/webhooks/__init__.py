"""Webhooks: rows, and reorganisations, delivered to whoever subscribed to them, by the rules of Standard Webhooks.

A subscription has a position in its chain's order of events. What follows it becomes a message; the message is kept
until it is acknowledged, and only then the position moves on: so nothing is left out, and the order is the chain's.
"""
