"""A database as the indexer would leave it, made by hand: the real catalog, rows of our own."""

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from indexer.manifest.load import load_manifest
from indexer.store import database
from indexer.store.apply.apply import apply
from indexer.store.catalog import children
from indexer.sync.setup.declaration import declaration

GENESIS = datetime(2023, 1, 1, tzinfo=UTC)
BLOCK_SECONDS = 12


def address(name: str) -> bytes:
    """The same name, the same address."""
    return sha256(f"address {name}".encode()).digest()[:20]


def hex_of(data: bytes) -> str:
    return "0x" + data.hex()


def block_hash(number: int, branch: int = 0) -> bytes:
    return sha256(f"block {branch} {number}".encode()).digest()


def tx_hash(number: int, index: int = 0) -> bytes:
    return sha256(f"transaction {number} {index}".encode()).digest()


def block_time(number: int) -> datetime:
    return GENESIS + timedelta(seconds=BLOCK_SECONDS * number)


class Seed:
    """Writes into one database."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory
        self.connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        self.connection.close()

    def execute(self, statement: Any, values: Sequence[Any] | None = None) -> psycopg.Cursor[Any]:
        return self.connection.execute(statement, values)

    def declare(self, manifest: str, abis: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Make the catalog what a manifest says, with the children of new rules; ABIs of its own by file name."""
        for name, document in (abis or {}).items():
            (self.directory / name).write_text(json.dumps(document))
        path = self.directory / "indexer.toml"
        path.write_text(manifest)
        engine = database.create_engine(self.url)
        declared = declaration(load_manifest(path, {}))
        apply(engine, declared)
        for chain in declared.chains:
            children.adopt(engine, chain.chain_id, threading.Event())
        engine.dispose()

    def event(self, contract: str, event: str) -> tuple[int, str, str, list[dict[str, Any]]]:
        row = self.execute(
            "SELECT e.id, c.schema_name, e.table_name, e.columns FROM gapless.events e "
            "JOIN gapless.contracts c ON c.id = e.contract_id WHERE c.name = %s AND e.api_name = %s",
            (contract, event),
        ).fetchone()
        assert row is not None, (contract, event)
        return row

    def rows(self, contract: str, event: str, rows: Iterable[Mapping[str, Any]], chain_id: int = 1) -> None:
        """Insert rows: ``block``, ``log``, ``address``, and arguments by their ABI names."""
        event_id, schema, table, columns = self.event(contract, event)
        names = ["chain_id", "block_number", "block_time", "tx_hash", "tx_index", "log_index", "contract_address"]
        names += [column["name"] for column in columns]
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(schema, table),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join(sql.Placeholder() * len(names)),
        )
        blocks: dict[int, int] = {}
        with self.connection.cursor() as cursor:
            for row in rows:
                number, log, branch = row["block"], row.get("log", 0), row.get("branch", 0)
                blocks[number] = branch
                arguments = [
                    Jsonb(row[c["argument"]]) if c["pg_type"] == "jsonb" else row[c["argument"]] for c in columns
                ]
                fixed = [chain_id, number, block_time(number), tx_hash(number, log), log, log, row["address"]]
                cursor.execute(statement, [*fixed, *arguments])
        for number, branch in blocks.items():
            self.block(number, branch=branch, chain_id=chain_id)
        self.execute("UPDATE gapless.events SET version = version + 1 WHERE id = %s", (event_id,))

    def block(self, number: int, *, branch: int = 0, chain_id: int = 1) -> None:
        self.execute(
            "INSERT INTO gapless.blocks (chain_id, number, hash, time) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (chain_id, number, block_hash(number, branch), block_time(number)),
        )

    def cover(self, contract: str, *ranges: tuple[int, int], chain_id: int = 1) -> None:
        """Set the coverage of all sources of a contract."""
        text = "{" + ",".join(f"[{first},{last + 1})" for first, last in ranges) + "}"
        self.execute(
            "UPDATE gapless.sources s SET coverage = %s::int8multirange FROM gapless.events e, gapless.contracts c "
            "WHERE e.id = s.event_id AND c.id = e.contract_id AND c.name = %s AND s.chain_id = %s",
            (text, contract, chain_id),
        )

    def head(
        self,
        tip: int,
        *,
        head: int | None = None,
        finalized: int | None = None,
        safe: int | None = None,
        branch: int = 0,
        chain_id: int = 1,
    ) -> None:
        """Set how far the chain is followed."""
        head = tip if head is None else head
        self.execute(
            "UPDATE gapless.chains SET tip_number = %s, tip_hash = %s, tip_time = %s, head_number = %s, "
            "head_time = %s, head_seen_at = now(), finalized_number = %s, safe_number = %s, state = 'following' "
            "WHERE chain_id = %s",
            (
                tip,
                block_hash(tip, branch),
                block_time(tip),
                head,
                block_time(head),
                tip - 64 if finalized is None else finalized,
                tip - 32 if safe is None else safe,
                chain_id,
            ),
        )

    def reorg(self, common: int, old_tip: int, *, branch: int, old_branch: int = 0, chain_id: int = 1) -> None:
        """Drop all above a block and record that, as the follower does; the new branch has no rows yet."""
        with self.connection.transaction():
            for ((schema, table),) in self.execute(
                "SELECT (c.schema_name, e.table_name) FROM gapless.events e "
                "JOIN gapless.contracts c ON c.id = e.contract_id"
            ).fetchall():
                self.execute(
                    sql.SQL("DELETE FROM {} WHERE chain_id = %s AND block_number > %s").format(
                        sql.Identifier(schema, table)
                    ),
                    (chain_id, common),
                )
            row = self.execute(
                "INSERT INTO gapless.reorgs (chain_id, common_number, common_hash, old_tip_number, old_tip_hash, "
                "new_tip_number, new_tip_hash, depth, rows_removed, rows_added) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0, 0) RETURNING id",
                (
                    chain_id,
                    common,
                    block_hash(common, old_branch),
                    old_tip,
                    block_hash(old_tip, old_branch),
                    old_tip,
                    block_hash(old_tip, branch),
                    old_tip - common,
                ),
            ).fetchone()
            assert row is not None
            self.execute(
                "WITH gone AS (DELETE FROM gapless.blocks WHERE chain_id = %s AND number > %s RETURNING number, hash) "
                "INSERT INTO gapless.orphans (chain_id, number, hash, reorg_id) SELECT %s, number, hash, %s FROM gone",
                (chain_id, common, chain_id, row[0]),
            )
            self.head(old_tip, branch=branch, chain_id=chain_id)
            self.execute("UPDATE gapless.events SET version = version + 1")
            for number in range(common + 1, old_tip + 1):
                self.block(number, branch=branch, chain_id=chain_id)
