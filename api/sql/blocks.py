"""Blocks: by number, by name, by time."""

from api.sql import scope
from api.sql.statement import Binder, Statement, hexadecimal, time


def _chain(chain_id: int) -> list[str]:
    # How far the chain is indexed, whatever by: every source counts.
    newest = f"(SELECT max(upper(s.coverage)) - 1 FROM gapless.sources s WHERE s.chain_id = {chain_id})"
    return scope.ctes(chain_id, [], Binder(), newest=newest)


def _state() -> str:
    return scope.state(("0", "0"))


_FINALITY = (
    "CASE WHEN b.number <= (SELECT finalized_number FROM chain) THEN 'finalized' "
    "WHEN b.number <= (SELECT safe_number FROM chain) THEN 'safe' ELSE 'latest' END"
)


def _members(source: str) -> str:
    return f"""json_build_object('number', {source}.number, 'hash', {hexadecimal(f"{source}.hash")},
        'parent_hash', {hexadecimal(f"{source}.parent_hash")}, 'time', {time(f"{source}.time")},
        'finality', {_FINALITY.replace("b.number", f"{source}.number")})"""


def by_number(chain_id: int) -> Statement:
    """State, and the block ``number``: null where its header is not kept."""
    bind = Binder()
    text = f"""WITH {", ".join(_chain(chain_id))}
SELECT {_state()}, (SELECT {_members("b")} FROM gapless.blocks b
    WHERE b.chain_id = {chain_id} AND b.number = {bind("number", "bigint")})"""
    return Statement.of(text, bind)


def by_name(chain_id: int, name: str) -> Statement:
    """State, and the block that a name stands for now; its hash and time are null where its header is not kept.

    Args:
        chain_id: the chain.
        name: ``latest``, ``safe`` or ``finalized``.
    """
    # least() passes over nulls, but an unknown safe block is none.
    known = f"CASE WHEN {name}_number IS NOT NULL THEN least({name}_number, indexed) END"
    number = "indexed" if name == "latest" else known
    text = f"""WITH {", ".join(_chain(chain_id))}
SELECT {_state()}, (SELECT {_members("n")} FROM (
    SELECT m.number, b.hash, b.parent_hash, b.time FROM (SELECT {number} AS number FROM chain, scope) m
    LEFT JOIN gapless.blocks b ON b.chain_id = {chain_id} AND b.number = m.number) n WHERE n.number IS NOT NULL)"""
    return Statement.of(text, Binder())


def by_time(chain_id: int) -> Statement:
    """State, the newest known block not after ``time``, and the number of the first known one after it."""
    bind = Binder()
    at = bind("time", "timestamptz")
    text = f"""WITH {", ".join(_chain(chain_id))}
SELECT {_state()},
    (SELECT {_members("b")} FROM gapless.blocks b WHERE b.chain_id = {chain_id} AND b.time <= {at}
     ORDER BY b.time DESC, b.number DESC LIMIT 1),
    (SELECT b.number FROM gapless.blocks b WHERE b.chain_id = {chain_id} AND b.time > {at}
     ORDER BY b.time, b.number LIMIT 1)"""
    return Statement.of(text, bind)
