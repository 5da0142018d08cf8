"""How far a chain is behind, and whether it stands still, as status, page, API, metrics and log tell it."""

from typing import Final

LEAST_SECONDS: Final = 30
"""A head that did not move for less than this is not called stalled, however fast the chain is."""

DISK_FULL: Final = "Postgres' disk is full"
"""How the reason begins for which a chain waits whose blocks find no room."""

_BLOCKS: Final = 10
# Of the newest blocks, those whose times tell the chain's pace; nine in ten come faster.
_NEWEST: Final = 50


def lag(head: str, tip: str, seen: str) -> str:
    """SQL of the seconds that a chain is behind; null while that is unknown, which ``greatest()`` alone passes over.

    Args:
        head: SQL of the time of the nodes' newest block.
        tip: SQL of the time of the newest indexed one.
        seen: SQL of when the nodes were last heard of.
    """
    behind = f"{head} - {tip}"
    return f"CASE WHEN {behind} IS NOT NULL THEN greatest(0, extract(epoch FROM {behind} + (now() - {seen}))) END"


def stalled(chain: str) -> str:
    """SQL of whether a chain's head stands still: no block was indexed for longer than its pace allows, whatever why.

    That is ten times as long as nine in ten of its newest blocks took, and half a minute at least. False where no
    indexer has ever followed the chain. A chain for development stands still while no transaction is sent: it is
    idle, as long as its nodes are heard of and have no block that is not indexed.

    Args:
        chain: alias of its row in ``gapless.chains``.
    """
    idle = (
        f"{chain}.dev AND {chain}.tip_number >= {chain}.head_number "
        f"AND now() - {chain}.head_seen_at <= interval '{LEAST_SECONDS} s'"
    )
    return f"coalesce(NOT coalesce({idle}, false) AND now() - {chain}.moved_at > {_allowed(chain)}, false)"


def shown_state(chain: str) -> str:
    """SQL of a chain's state for people and programs: as its row says, but ``stalled`` where it is."""
    return f"CASE WHEN {chain}.state <> 'halted' AND {stalled(chain)} THEN 'stalled' ELSE {chain}.state END"


def shown_reason(chain: str) -> str:
    """SQL of why a chain is in the state that :func:`shown_state` tells; null where all is well."""
    still = f"{chain}.state <> 'halted' AND {stalled(chain)}"
    told = (
        f"'no new block is indexed since ' || to_char({chain}.moved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') "
        f"|| ' UTC: is gapless run running, does something hold a lock on its tables, do the nodes get new blocks?'"
    )
    return f"CASE WHEN {still} THEN concat_ws('; ', {told}, {chain}.state_reason) ELSE {chain}.state_reason END"


def disk_full(chain: str) -> str:
    """SQL of whether a chain waits for room on Postgres' disk.

    Args:
        chain: alias of its row in ``gapless.chains``.
    """
    beginning = DISK_FULL.replace("'", "''")
    return f"({chain}.state = 'waiting' AND starts_with(coalesce({chain}.state_reason, ''), '{beginning}'))"


def _allowed(chain: str) -> str:
    usual = f"""
        SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM b.time - b.time_before)
                                                           / (b.number - b.number_before))
        FROM (SELECT n.number, n.time, lag(n.number) OVER w AS number_before, lag(n.time) OVER w AS time_before
              FROM (SELECT number, time FROM gapless.blocks WHERE chain_id = {chain}.chain_id
                    ORDER BY number DESC LIMIT {_NEWEST}) n
              WINDOW w AS (ORDER BY n.number)) b
        WHERE b.number_before IS NOT NULL"""
    return f"make_interval(secs => greatest({LEAST_SECONDS}, {_BLOCKS} * coalesce(({usual}), 0)))"
