"""``gapless.transfers_v``: what people read beside ``gapless.transfers``, as ``coins.transfer_v`` beside its table.

It reads that view and nothing of the tables below it, so it stays as it is when a contract joins. What is not selected
costs nothing; filters go to the columns ``..._bytes``, which reach the tables' indexes.
"""

from typing import Any, Final

import psycopg
from psycopg import sql

VIEW: Final = sql.Identifier("gapless", "transfers_v")

_COMMENT: Final = "gapless.transfers for people: addresses as text with their names, amounts in units of the token"
#: Of the form in which the view is written here: another one makes it anew.
_VERSION: Final = 1

_AS_TEXT: Final = "as text; {}_bytes is searched by an index"
_COLUMNS: Final = (
    # name, expression, comment
    ("chain_id", "r.chain_id", "EIP-155 chain id"),
    ("chain", "n.name::text", "name of the chain in the manifest"),
    ("block_number", "r.block_number", "block that bore the log"),
    ("block_time", "r.block_time", "the block's timestamp"),
    ("tx_hash", "gapless.hex(r.tx_hash)", "hash of the transaction as text"),
    ("log_index", "r.log_index", "place of the log in the block"),
    ("item", "r.item", "place within an ERC-1155 batch, else 0"),
    ("token", "gapless.hex(r.token)", "the token's contract " + _AS_TEXT.format("token")),
    ("token_label", "gapless.label(r.chain_id, r.token)", "name of the token's address (gapless.labels); null: none"),
    ("symbol", "t.symbol::text", "what the token calls itself; null: unknown"),
    ("kind", "r.kind", "erc20, erc721 or erc1155"),
    ("from_address", "gapless.hex(r.from_address)", "who gave it, " + _AS_TEXT.format("from_address")),
    ("from_address_label", "gapless.label(r.chain_id, r.from_address)", "name of who gave it; null: none"),
    ("to_address", "gapless.hex(r.to_address)", "who got it, " + _AS_TEXT.format("to_address")),
    ("to_address_label", "gapless.label(r.chain_id, r.to_address)", "name of who got it; null: none"),
    ("operator", "gapless.hex(r.operator)", "who moved it, as text; ERC-1155 only"),
    ("token_id", "r.token_id", "0 for ERC-20"),
    ("amount", "r.amount", "in the token's smallest unit; 1 for ERC-721"),
    (
        "amount_units",
        "CASE WHEN r.kind = 'erc20' THEN gapless.units(r.amount, t.decimals::integer) END",
        "in units of an ERC-20 token, exact; null: its decimals are unknown, or it is another kind",
    ),
    ("tx_hash_bytes", "r.tx_hash", "hash of the transaction, 32 bytes"),
    ("token_bytes", "r.token", "the token's contract, 20 bytes: search by this one"),
    ("from_address_bytes", "r.from_address", "who gave it, 20 bytes: search by this one"),
    ("to_address_bytes", "r.to_address", "who got it, 20 bytes: search by this one"),
)


def renew(driver: psycopg.Connection[Any]) -> None:
    """Makes the view where it is lacking or has another form.

    Args:
        driver: in a transaction; ``gapless.transfers`` is there.
    """
    said = f"{_COMMENT} (form {_VERSION})"
    there = driver.execute("SELECT obj_description(to_regclass('gapless.transfers_v'), 'pg_class')").fetchone()
    if there == (said,):
        return
    shown = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(sql.SQL(expression), sql.Identifier(name)) for name, expression, _ in _COLUMNS
    )
    driver.execute(
        sql.SQL("""
            CREATE OR REPLACE VIEW {} AS SELECT {} FROM gapless.transfers r
            LEFT JOIN gapless.chains n ON n.chain_id = r.chain_id
            LEFT JOIN gapless.tokens t ON t.chain_id = r.chain_id AND t.address = r.token
        """).format(VIEW, shown)
    )
    driver.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(VIEW, sql.Literal(said)))
    for name, _, comment in _COLUMNS:
        described = sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(VIEW, sql.Identifier(name), sql.Literal(comment))
        driver.execute(described)
