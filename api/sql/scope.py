"""What a request speaks of: which blocks, how far they are indexed, and what is missing in them.

The common table expressions here stand before every query of rows, so that rows, completeness and versions are one
snapshot of the database:

- ``chain``: the chain's row;
- ``wanted``: the sources that feed the collection;
- ``scope``: the first and last block that are asked for, the block at which the request itself says that it ends (null
  where it says nothing, or names a time that no known block has reached), the newest that is indexed, and where the
  sources start.

Times become blocks first: a filter on block_time would read every row between (124 ms against 0.04 ms measured).
"""

from collections.abc import Collection, Sequence
from typing import Final

from api.cursors import HASH_BYTES
from api.sql.statement import Binder, integers
from indexer.store.lag import lag

#: How many blocks a query without an index would look through.
SPAN: Final = "last - greatest(first, start) + 1"


def ctes(
    chain_id: int,
    event_ids: Sequence[int],
    bind: Binder,
    *,
    given: Collection[str] = (),
    finality: str = "latest",
    newest: str = "(SELECT max(upper(coverage)) - 1 FROM wanted)",
    together: bool = False,
) -> list[str]:
    """The common table expressions of a request.

    Args:
        chain_id: the chain.
        event_ids: the events whose sources feed the collection.
        bind: numbers the values.
        given: names of the bounds and filters that the request has; ``address`` leaves out sources elsewhere.
        finality: which blocks count: ``latest``, ``safe`` or ``finalized``.
        newest: SQL of the newest block that the collection has, which backfill may have made without a follower.
        together: as in :func:`wanted`.
    """
    return [
        chain(chain_id),
        wanted(chain_id, event_ids, bind, given=given, together=together),
        f"""scope AS MATERIALIZED (
    SELECT greatest(0{_from(chain_id, bind, given)}) AS first, least({_to(chain_id, bind, given, finality)}) AS last,
           least({", ".join(_named_ends(chain_id, bind, given)) or "NULL::bigint"}) AS ends,
           indexed, coalesce((SELECT min(start_block) FROM wanted), 0) AS start
    FROM (SELECT greatest((SELECT tip_number FROM chain), {newest}) AS indexed) i)""",
    ]


def chain(chain_id: int) -> str:
    """The common table expression ``chain``."""
    return f"""chain AS MATERIALIZED (
    SELECT head_number, head_time, head_seen_at, tip_number, tip_hash, tip_time, safe_number, finalized_number
    FROM gapless.chains WHERE chain_id = {chain_id})"""


def wanted(
    chain_id: int,
    event_ids: Sequence[int],
    bind: Binder,
    *,
    given: Collection[str] = (),
    retired: bool = True,
    together: bool = False,
) -> str:
    """The common table expression ``wanted``, which stands after ``chain``.

    Args:
        chain_id: the chain.
        event_ids: the events whose sources feed the collection.
        bind: numbers the values.
        given: as in :func:`ctes`.
        retired: whether an event that has only retired sources is fed by those.
        together: whether it is so only where all of the events have only retired ones: one that left the manifest must
            not make many others incomplete for ever.
    """
    same = f"IN {integers(event_ids)}" if together else "= s.event_id"
    others = f"""
           OR NOT EXISTS (SELECT FROM gapless.sources o WHERE o.chain_id = s.chain_id
                          AND o.event_id {same} AND o.active)"""
    return f"""wanted AS MATERIALIZED (
    SELECT s.start_block, s.end_block,
           gapless.covered(s.coverage, s.end_block, (SELECT tip_number FROM chain)) AS coverage
    FROM gapless.sources s
    WHERE s.chain_id = {chain_id} AND s.event_id IN {integers(event_ids)}
      AND (s.active{others if retired else ""}){_elsewhere(bind, given)})"""


def _elsewhere(bind: Binder, given: Collection[str]) -> str:
    if "address" not in given:
        return ""
    addresses = bind("address", "bytea[]")
    return f"""
      AND (s.place->>'kind' IS DISTINCT FROM 'addresses' OR EXISTS (
          SELECT FROM jsonb_array_elements_text(s.place->'addresses') p
          WHERE decode(substr(p, 3), 'hex') = ANY ({addresses})))"""


def _from(chain_id: int, bind: Binder, given: Collection[str]) -> str:
    bounds = ""
    if "from_block" in given:
        bounds += f", {bind('from_block', 'bigint')}"
    if "from_time" in given:
        # Blocks between the last known one before the time and the first after it bore no log that is indexed.
        bounds += f""",
        (SELECT number + 1 FROM gapless.blocks WHERE chain_id = {chain_id}
         AND time < {bind("from_time", "timestamptz")} ORDER BY time DESC, number DESC LIMIT 1)"""
    return bounds


def _to(chain_id: int, bind: Binder, given: Collection[str], finality: str) -> str:
    # An open end is the newest indexed block; a named end is meant, as far as the chain has got.
    reached = "greatest((SELECT head_number FROM chain), indexed)" if "to_block" in given else "indexed"
    bounds = [reached, *_named_ends(chain_id, bind, given)]
    if finality != "latest":
        bounds.append(f"coalesce((SELECT {finality}_number FROM chain), -1)")
    return ", ".join(bounds)


def _named_ends(chain_id: int, bind: Binder, given: Collection[str]) -> list[str]:
    """The ends that a request names, whether the chain has got there or not; null is a time that it has not reached."""
    ends = [bind(name, "bigint") for name in ("to_block", "at_block") if name in given]
    if "to_time" in given:
        ends.append(f"""(SELECT number - 1 FROM gapless.blocks WHERE chain_id = {chain_id}
         AND time > {bind("to_time", "timestamptz")} ORDER BY time, number LIMIT 1)""")
    return ends


def between(bind: Binder, *, cursor: bool, forward: bool) -> str:
    """The condition that rows are in the scope's blocks and, by block, not before the cursor in the order of reading.

    The exact condition on the cursor, a comparison of (block, log), must stand beside it. Alone it would not do: where
    an index could begin at the scope's end or at the cursor, Postgres begins at the scope's end and reads every row up
    to the cursor (160 ms for half a million).

    Args:
        bind: numbers the values; reads ``cursor_block``.
        cursor: whether there is one.
        forward: whether rows are read towards newer blocks.
    """
    first, last = "(SELECT first FROM scope)", "(SELECT last FROM scope)"
    if cursor and forward:
        first = f"greatest({first}, {bind('cursor_block', 'bigint')})"
    elif cursor:
        last = f"least({last}, {bind('cursor_block', 'bigint')})"
    return f"t.block_number BETWEEN {first} AND {last}"


def within_window(bind: Binder) -> str:
    """The condition that no more blocks are looked through than ``window``; else there are no rows."""
    return f"(SELECT {SPAN} <= {bind('window', 'bigint')} FROM scope)"


def event_versions(event_ids: Sequence[int]) -> tuple[str, str]:
    """SQL of the sums of the versions and of the rewrite versions of some events."""
    return (
        f"(SELECT sum(version) FROM gapless.events WHERE id IN {integers(event_ids)})",
        f"(SELECT sum(rewrite_version) FROM gapless.events WHERE id IN {integers(event_ids)})",
    )


def state(versions: tuple[str, str], extra: Sequence[tuple[str, str]] = ()) -> str:
    """An expression for the state of a request as one JSON object: what :class:`api.state.State` reads.

    Args:
        versions: SQL of what changes with every row, and of what changes with every rewrite.
        extra: further members: key and expression.
    """
    members = [
        # What is indexed may be newer than what the nodes last reported of themselves.
        ("head", "greatest(head_number, indexed)"),
        ("tip", "tip_number"),
        ("tip_hash", f"encode(substr(tip_hash, 1, {HASH_BYTES}), 'hex')"),
        ("safe", "safe_number"),
        ("finalized", "finalized_number"),
        ("lag", f"({lag('head_time', 'tip_time', 'head_seen_at')})::bigint"),
        ("indexed", "indexed"),
        ("first", "first"),
        ("last", "last"),
        ("ends", "ends"),
        ("span", SPAN),
        ("sources", "(SELECT count(*) FROM wanted)"),
        ("missing", _MISSING),
        ("version", versions[0]),
        ("rewrite", versions[1]),
        *extra,
    ]
    pairs = ", ".join(f"'{key}', {expression}" for key, expression in members)
    return f"(SELECT json_build_object({pairs}) FROM chain, scope)"


_MISSING: Final = """(
        SELECT range_agg(int8multirange(int8range(w.start_block, w.end_block, '[]'))
                         * int8multirange(int8range(scope.first, scope.last, '[]')) - w.coverage)
        FROM wanted w WHERE scope.first <= scope.last)::text"""


def branches(chain_id: int, rows: str) -> str:
    """An expression for the beginnings of the hashes of the unfinalised blocks of some rows, by number.

    Args:
        chain_id: the chain.
        rows: name of the table expression that has their ``block_number``.
    """
    return f"""(SELECT json_object_agg(b.number, encode(substr(b.hash, 1, {HASH_BYTES}), 'hex'))
     FROM gapless.blocks b WHERE b.chain_id = {chain_id}
       AND b.number > coalesce((SELECT finalized_number FROM chain), -1)
       AND b.number IN (SELECT block_number FROM {rows}))"""


def cursor_check(chain_id: int, bind: Binder) -> str:
    """An expression that judges a cursor's branch: null if its block is still there, else an object.

    Its ``common_block`` is the last block that the cursor's branch shares with today's; null if the branch was never
    seen. An old block that bore no log may not be kept any more: all that is known of it is that it was not
    reorganised away. Reads the values ``cursor_block`` and ``cursor_branch``.
    """
    number, branch = bind("cursor_block", "bigint"), bind("cursor_branch", "bytea")
    kept = f"FROM gapless.blocks b WHERE b.chain_id = {chain_id} AND b.number = {number}"
    gone = f"""FROM gapless.orphans o WHERE o.chain_id = {chain_id} AND o.number = {number}
            AND substr(o.hash, 1, {HASH_BYTES}) = {branch}"""
    thinned = f"{number} <= (SELECT thinned_number FROM gapless.chains WHERE chain_id = {chain_id})"
    return f"""(SELECT json_build_object('common_block', (
        SELECT min(r.common_number) FROM gapless.reorgs r WHERE r.chain_id = {chain_id} AND r.id >= (
            SELECT max(o.reorg_id) {gone})))
     WHERE NOT EXISTS (SELECT {kept} AND substr(b.hash, 1, {HASH_BYTES}) = {branch})
       AND ({thinned} AND NOT EXISTS (SELECT {kept}) AND NOT EXISTS (SELECT {gone})) IS NOT TRUE)"""
