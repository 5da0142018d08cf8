"""How Postgres reads for a page: the statements of requests, and the nodes of their plans that read a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
import pytest

from api.database import Database
from tests.integration.api.conftest import Client


def asked_for_pages(
    client: Client, monkeypatch: pytest.MonkeyPatch, paths: Iterable[str]
) -> Iterator[tuple[str, bytes, Any]]:
    """For each path that is asked for: the statement of its page and its values."""
    client.get("/v1")
    asked: list[tuple[bytes, Any]] = []
    query = Database.query

    def noted(database: Database, text: str | bytes, values: Any = ()) -> Any:
        asked.append((text.encode() if isinstance(text, str) else text, values))
        return query(database, text, values)

    monkeypatch.setattr(Database, "query", noted)
    for path in paths:
        asked.clear()
        assert client.get(path)["data"], path
        (found,) = [one for one in asked if b"page AS" in one[0]]
        yield path, *found


def nodes_read(url: str, text: bytes, values: Any, table: str) -> list[dict[str, Any]]:
    """The nodes that read a table when a statement is run."""
    with psycopg.connect(url, cursor_factory=psycopg.RawCursor) as connection:
        row = connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON, TIMING off) " + text, values).fetchone()
    assert row is not None
    return [node for node in _nodes(row[0][0]["Plan"]) if node.get("Relation Name") == table and node["Actual Loops"]]


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]
