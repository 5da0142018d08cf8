"""Reads a Gapless API: pages, walks over all pages, streams, and exact tables for Arrow and pandas.

``client`` and ``async_client`` are the two clients; what they have in common does no input or output:

- ``queries``: what is asked: paths, names, parameters; how a walk goes on and stays consistent.
- ``document``: the types of rows, from the API's OpenAPI document; digits become ``int``.
- ``errors``: what can go wrong, and what is tried again when.
- ``events``: server-sent events, and the states of a stream.
- ``tables``: rows as an Arrow table or a pandas data frame.
"""

from gapless_client.async_client import AsyncGapless, AsyncRows
from gapless_client.client import Gapless, Rows
from gapless_client.document import Page
from gapless_client.errors import GaplessError, Reorged, Retries, UnreachableError
from gapless_client.events import Balances, Connection, DerivedRows, Message, Revert, Status, StreamRow

__all__ = [
    "AsyncGapless",
    "AsyncRows",
    "Balances",
    "Connection",
    "DerivedRows",
    "Gapless",
    "GaplessError",
    "Message",
    "Page",
    "Reorged",
    "Retries",
    "Revert",
    "Rows",
    "Status",
    "StreamRow",
    "UnreachableError",
]
