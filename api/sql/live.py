"""Rows that follow a position, as far as everything that is wanted is there without a gap.

Two places bound what is read:

- the *bound*: the newest block that is indexed, or final enough;
- the *frontier*: the last block up to which every active source is covered without a gap from the position on. Beyond
  it a later backfill could still put rows behind the reader's back, so nothing beyond it is read.

One statement, one snapshot: what became of the position, the rows, and the position to go on from belong together.
"""

from collections.abc import Sequence
from typing import Final

from api.cursors import HASH_BYTES
from api.sql import scope
from api.sql.feed import FeedSource
from api.sql.query_shape import BY_ITEM, QueryShape
from api.sql.source import PAGE
from api.sql.statement import Binder, Statement, integers

#: No block is beyond this one; where reading begins "now".
BEYOND: Final = 2**63 - 2


def changes(source: FeedSource, shape: QueryShape) -> Statement:
    """What follows a position: state, rows, branches.

    Reads ``cursor_block``, ``cursor_log``, ``cursor_item``, ``cursor_branch`` (null: not to be judged),
    ``covered_from`` (the first block whose coverage matters), ``span`` (most blocks to look through), ``take`` (most
    rows), ``window`` (beyond ``span``), and the values of the filters. The rows are one text as in a page: each a
    position, whose item is the event's id, a tab and its JSON, newlines between.

    Beside what :class:`api.state.State` reads, the state has: ``cursor`` (as in pages), ``common_branch``, ``stands``
    and ``stands_branch`` (the block at whose end reading stands when no row is left), ``bound``, ``gap`` (the first
    block that is missing before the bound, or null) and ``catalog``.

    Args:
        source: the rows of all events of the request: what feeds these decides about the frontier.
        shape: of the request: ascending, after a cursor.
    """
    bind = Binder()
    chain_id, event_ids = shape.chain_id, source.event_ids
    tables = [
        scope.chain(chain_id),
        scope.wanted(chain_id, event_ids, bind, given=shape.given, retired=False),
        _ends(event_ids, shape),
        _judged(chain_id, bind),
        _gap(bind),
        # Gaps behind the position are in the state: hence the first block of all.
        f"""scope AS MATERIALIZED (
    SELECT 0::bigint AS first, NULL::bigint AS ends, indexed, 0::bigint AS start,
           CASE WHEN bound IS NOT NULL AND (SELECT cursor FROM judged) IS NULL
                THEN least(bound, (SELECT block - 1 FROM gap), {_reach(bind)}) ELSE -1 END AS last
    FROM ends)""",
        f"""page AS MATERIALIZED (
    SELECT t.block_number, t.log_index, t.item, {BY_ITEM.position} || chr(9) || t.row AS row
    FROM ({source.rows(shape, bind, PAGE)}) t)""",
        f"""stands AS MATERIALIZED (
    SELECT CASE WHEN last <= final THEN last ELSE greatest(final, (
        SELECT max(b.number) FROM gapless.blocks b WHERE b.chain_id = {chain_id} AND b.number <= last)) END AS number,
        final
    FROM scope, (SELECT coalesce((SELECT finalized_number FROM chain), -1) AS final) f)""",
    ]
    extra = [
        ("cursor", "(SELECT cursor FROM judged)"),
        ("common_branch", _branch(chain_id, "((SELECT cursor FROM judged)->>'common_block')::bigint")),
        ("stands", "(SELECT number FROM stands)"),
        ("stands_branch", _branch(chain_id, "(SELECT number FROM stands)")),
        ("bound", "(SELECT bound FROM ends)"),
        ("gap", "(SELECT block FROM gap)"),
        ("catalog", "(SELECT version FROM gapless.catalog)"),
    ]
    order = "ORDER BY block_number, log_index, item"
    text = f"""WITH {", ".join(tables)}
SELECT {scope.state(scope.event_versions(event_ids), extra)},
    (SELECT string_agg(row, chr(10) {order}) FROM page),
    {scope.branches(chain_id, "page")}"""
    return Statement.of(text, bind)


def _ends(event_ids: Sequence[int], shape: QueryShape) -> str:
    """``ends``: the newest block that is indexed, and the newest that may be read."""
    # Retired sources too: where nothing is wanted any more, all that is there may be read.
    newest = (
        f"SELECT max(upper(s.coverage)) - 1 FROM gapless.sources s "
        f"WHERE s.chain_id = {shape.chain_id} AND s.event_id IN {integers(event_ids)}"
    )
    final = "indexed" if shape.finality == "latest" else f"(SELECT {shape.finality}_number FROM chain)"
    # Not least(), which passes over nulls: where one of them is unknown, so is the bound.
    return f"""ends AS MATERIALIZED (
    SELECT indexed, CASE WHEN {final} < indexed THEN {final} WHEN {final} >= indexed THEN indexed END AS bound
    FROM (SELECT greatest((SELECT tip_number FROM chain), ({newest})) AS indexed) i)"""


def _judged(chain_id: int, bind: Binder) -> str:
    """``judged``: what became of the position's block: null if it is still there."""
    return f"""judged AS MATERIALIZED (
    SELECT CASE WHEN {bind("cursor_branch", "bytea")} IS NOT NULL
                THEN {scope.cursor_check(chain_id, bind)} END AS cursor)"""


def _gap(bind: Binder) -> str:
    """``gap``: the first block from the position to the bound that an active source lacks."""
    first = bind("covered_from", "bigint")
    return f"""gap AS MATERIALIZED (
    SELECT min(lower(m.missing)) AS block FROM ends, LATERAL (
        SELECT int8multirange(int8range(w.start_block, w.end_block, '[]'))
             * int8multirange(int8range({first}, greatest(bound, {first}), '[]')) - w.coverage AS missing
        FROM wanted w WHERE bound >= {first}) m)"""


def _reach(bind: Binder) -> str:
    # Without an overflow: a position may be beyond every block.
    return f"least({bind('cursor_block', 'bigint')}, {BEYOND}::bigint - {bind('span', 'bigint')}) + " + bind(
        "span", "bigint"
    )


def _branch(chain_id: int, number: str) -> str:
    """The beginning of the hash of a block that can still change; null for every other block."""
    return f"""(SELECT encode(substr(b.hash, 1, {HASH_BYTES}), 'hex') FROM gapless.blocks b
         WHERE b.chain_id = {chain_id} AND b.number = {number}
           AND b.number > coalesce((SELECT finalized_number FROM chain), -1))"""
