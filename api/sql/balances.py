"""Balances: what an address has, and who has a token, by the ledgers that are kept.

A ledger (``gapless.ledgers``) is true at the end of a block, and in the same snapshot as the rows it counted. For a
block before that, what was moved since is taken back; this is exact, and bounded by how much that is.

Before every query stand, beside ``chain`` and ``scope``:

- ``ledgers``: those that the request is about, the best first where several count the same token;
- ``counting``: those of them that are to count on; all, if none is (a contract may have left the manifest);
- ``wanted``: the blocks that each of these has counted, in the place of sources.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from psycopg import sql

from api.catalog import Event
from api.sql import counting, included, json_text, scope
from api.sql import events as rows
from api.sql.statement import Binder, Statement
from indexer.store.catalog import transfer_standards

BALANCE_FIELDS: Final = ("token", "kind", "token_id", "balance", "contract", "at_block", "stale", "exact", "problem")
HOLDER_FIELDS: Final = ("address", "token_id", "balance")


def _problem(of_ledger: str, of_token: str) -> str:
    """SQL of why the balances of a token may not be exact; null: as far as known they are."""
    return f"gapless.balance_problem({of_ledger}, {of_token})"


@dataclass(frozen=True, slots=True)
class Asked:
    """All of a request, beside its shape, that decides the text of its statement.

    Attributes:
        of: balances of the address ``holder``, or holders of the token ``token``.
        given: names of the filters that the request has: ``token`` and ``kind`` of balances, ``token_id`` of holders.
        past: the events whose transfers are taken back; None: as the ledgers are now.
        gated: only a window of blocks may be taken back, since no index serves that.
    """

    of: Literal["address", "token"]
    given: frozenset[str] = frozenset()
    past: tuple[Event, ...] | None = None
    gated: bool = False


def _tracks(chain_id: int, ledger: str, token: str) -> str:
    """A condition: a ledger counts a token."""
    return f"""CASE {ledger}.place->>'kind'
        WHEN 'addresses' THEN {ledger}.place->'addresses' ? ('0x' || encode({token}, 'hex'))
        WHEN 'factory' THEN EXISTS (SELECT FROM gapless.children b WHERE b.chain_id = {chain_id}
                                    AND b.contract_id = {ledger}.contract_id AND b.address = {token})
        ELSE true END"""


def _ctes(asked: Asked, shape: rows.Shape, bind: Binder) -> list[str]:
    chain_id = shape.chain_id
    where, limit = [f"l.served AND l.chain_id = {chain_id}"], ""
    if asked.of == "token":
        where.append(_tracks(chain_id, "l", bind("token", "bytea")))
        limit = " LIMIT 1"
    elif "token" in asked.given:
        tokens = bind("address", "bytea[]")
        where.append(f"EXISTS (SELECT FROM unnest({tokens}) a(token) WHERE {_tracks(chain_id, 'l', 'a.token')})")
    chain, _, bounds = scope.ctes(chain_id, (), bind, given=shape.given & {"at_block"}, finality=shape.finality)
    order = "l.live DESC, l.through_block DESC, l.id"
    return [
        chain,
        f"""ledgers AS MATERIALIZED (
    SELECT l.id, l.contract_id, c.name AS contract, l.kind, l.event_ids, l.place, l.start_block, l.through_block,
           l.live, l.remark, l.version, row_number() OVER (ORDER BY {order}) AS rank,
           EXISTS (SELECT FROM gapless.ledgers n WHERE n.contract_id = l.contract_id AND n.chain_id = l.chain_id
                   AND n.live) AS kept
    FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id
    WHERE {" AND ".join(where)} ORDER BY {order}{limit})""",
        """counting AS MATERIALIZED (
    SELECT * FROM ledgers WHERE kept OR NOT EXISTS (SELECT FROM ledgers k WHERE k.kept))""",
        """wanted AS MATERIALIZED (
    SELECT start_block, NULL::bigint AS end_block,
           CASE WHEN through_block >= start_block THEN int8multirange(int8range(start_block, through_block, '[]'))
                ELSE '{}' END AS coverage
    FROM counting)""",
        bounds,
    ]


def _state(asked: Asked, shape: rows.Shape, bind: Binder) -> str:
    ledgers = """(SELECT coalesce(json_agg(json_build_object(
        'contract', contract, 'kind', kind, 'at_block', CASE WHEN through_block >= 0 THEN through_block END,
        'stale', NOT live, 'remark', remark) ORDER BY rank){}, '[]') FROM ledgers)"""
    # There may be hundreds, one a contract: those that are where they should be need no mention.
    behind = " FILTER (WHERE NOT live OR through_block < (SELECT last FROM scope))" if asked.of == "address" else ""
    # What audits find changes no version.
    noted = f"""(SELECT array_agg(f.seen) FROM (
        SELECT count(*) || ' ' || max(p.found_at) AS seen
        FROM gapless.balance_problems p WHERE p.ledger_id IN (SELECT id FROM ledgers)
        UNION ALL SELECT count(*) || ' ' || max(a.id)
        FROM gapless.findings a WHERE a.chain_id = {shape.chain_id} AND a.repaired_at IS NULL) f)"""
    extra = [
        ("ledgers", ledgers.format(behind)),
        ("through", "(SELECT nullif(greatest(min(through_block), -1), -1) FROM counting)"),
        ("furthest", "(SELECT max(through_block) FROM ledgers)"),
        ("noted", noted),
    ]
    if asked.of == "token":
        extra.append(("problem", f"(SELECT {_problem('l.id', bind('token', 'bytea'))} FROM ledgers l)"))
    if "token" in asked.given:
        tokens = bind("address", "bytea[]")
        uncounted = f"""(SELECT json_agg('0x' || encode(a.token, 'hex')) FROM unnest({tokens}) a(token)
        WHERE NOT EXISTS (SELECT FROM ledgers l WHERE {_tracks(shape.chain_id, "l", "a.token")}))"""
        extra.append(("uncounted", uncounted))
    version = "(SELECT sum(version) FROM ledgers)"
    return scope.state((version, version), extra)


# -- what was moved since a block ----------------------------------------------------------------------------------


#: The block as of which a request is answered.
_LAST: Final = "(SELECT last FROM scope)"
#: Who had a part in a transfer, and the sign of what is to be added to take it back.
_SIDES: Final = (("t.from_address", ""), ("t.to_address", "-"))
_NOTHING: Final = (
    "SELECT NULL::integer AS ledger_id, NULL::bytea AS token, NULL::numeric AS token_id, NULL::bytea AS holder, "
    "NULL::numeric AS delta WHERE false"
)


def _moved(asked: Asked, shape: rows.Shape, bind: Binder, window: int, condition: str) -> str:
    """A query of what takes back the transfers after a block: ledger_id, token, token_id, holder, delta.

    Args:
        asked: the request, with ``past``.
        shape: its shape.
        bind: numbers the values.
        window: most blocks that may be taken back without an index; beyond it there is nothing.
        condition: on transfers ``t``, with ``{holder}`` for one who had a part in them.
    """
    gate = f"AND (SELECT max(through_block) - {_LAST} <= {window} FROM ledgers)" if asked.gated else ""
    nobody = f"'\\x{bytes(20).hex()}'"
    parts = []
    for event in asked.past or ():
        assert event.standard is not None
        name = sql.Identifier(event.schema_name, event.table_name)
        select = transfer_standards.select(name, event.signature, event.standard, event.columns).as_string()
        parts += [
            f"""SELECT l.id AS ledger_id, t.token, t.token_id, {holder} AS holder, {sign}t.amount AS delta
        FROM ledgers l, ({select}) t
        WHERE {event.event_id} = ANY (l.event_ids) AND l.kind = '{event.standard}' AND t.chain_id = {shape.chain_id}
          AND t.block_number > {_LAST} AND t.block_number <= l.through_block AND t.block_number >= l.start_block
          AND (l.place->>'kind' <> 'addresses' OR l.place->'addresses' ? ('0x' || encode(t.token, 'hex')))
          AND t.from_address <> t.to_address AND {holder} <> {nobody} AND {condition.format(holder=holder)} {gate}"""
            for holder, sign in _SIDES
        ]
    every = " UNION ALL ".join(parts) or _NOTHING
    return f"SELECT ledger_id, token, token_id, holder, sum(delta) AS delta FROM ({every}) m GROUP BY 1, 2, 3, 4"


# -- balances of an address ----------------------------------------------------------------------------------------


def _held(asked: Asked, shape: rows.Shape, bind: Binder, window: int, *, limit: int | None) -> str:
    """The query of what an address has, in the order of reading."""
    holder = bind("holder", "bytea")
    direction, sign = ("ASC", ">") if shape.forward else ("DESC", "<")
    where = []
    if "token" in asked.given:
        where.append(f"h.token = ANY ({bind('address', 'bytea[]')})")
    # Of several ledgers that count a token, the best tells, even if what it tells is nothing.
    better = f"SELECT FROM ledgers b WHERE b.rank < l.rank AND {_tracks(shape.chain_id, 'b', 'h.token')}"
    where.append(f"NOT EXISTS ({better})")
    if shape.cursor:
        cursor = f"{bind('cursor_token', 'bytea')}, {bind('cursor_token_id', 'numeric')}"
        where.append(f"(h.token, h.token_id) {sign} ({cursor})")
    end = f"ORDER BY h.token {direction}, h.token_id {direction}" + (f" LIMIT {limit}" if limit else "")
    kind = f"WHERE l.kind = {bind('kind', 'text')}" if "kind" in asked.given else ""
    if asked.past is None:
        where[:0] = [f"h.holder = {holder}", "h.ledger_id = l.id"]
        source = "SELECT h.token, h.token_id, h.amount FROM gapless.holdings h"
    else:
        where.insert(0, "h.ledger_id = l.id")
        moved = _moved(asked, shape, bind, window, f"{{holder}} = {holder}")
        source = f"""SELECT h.token, h.token_id, h.amount FROM (
            SELECT s.ledger_id, s.token, s.token_id, sum(s.amount) AS amount
            FROM (SELECT n.ledger_id, n.token, n.token_id, n.amount FROM gapless.holdings n WHERE n.holder = {holder}
                  UNION ALL SELECT m.ledger_id, m.token, m.token_id, m.delta FROM ({moved}) m) s
            GROUP BY 1, 2, 3 HAVING sum(s.amount) <> 0) h"""
    at_block = f"least({_LAST}, l.through_block)" if asked.past is not None else "l.through_block"
    return f"""SELECT l.id AS ledger_id, l.contract, l.kind, {at_block} AS at_block, NOT l.live AS stale,
       h.token, h.token_id, h.amount, {_problem("l.id", "h.token")} AS problem
    FROM ledgers l CROSS JOIN LATERAL ({source} WHERE {" AND ".join(where)} {end}) h {kind} {end}"""


_OF_BALANCE: Final = {
    "token": (json_text.hexadecimal("t.token"), True),
    "kind": ("t.kind", True),
    "token_id": ("CASE WHEN t.kind <> 'erc20' THEN t.token_id::text END", True),
    "balance": ("t.amount::text", True),
    "contract": ("t.contract", True),
    "at_block": ("t.at_block", False),
    "stale": ("t.stale", False),
    "exact": ("(t.problem IS NULL)", False),
    "problem": ("t.problem", None),
}


# -- holders of a token --------------------------------------------------------------------------------------------


def _holders(asked: Asked, shape: rows.Shape, bind: Binder, *, limit: int | None) -> str:
    """The query of who has a token, in the order of reading."""
    token = bind("token", "bytea")
    direction, sign = ("ASC", ">") if shape.forward else ("DESC", "<")
    where = []
    if "token_id" in asked.given:
        where.append(f"h.token_id = {bind('token_id', 'numeric')}")
    if shape.cursor:
        cursor = ", ".join(
            bind(f"cursor_{name}", pg_type)
            for name, pg_type in (("token_id", "numeric"), ("amount", "numeric"), ("holder", "bytea"))
        )
        where.append(f"(h.token_id, h.amount, h.holder) {sign} ({cursor})")
    end = f"ORDER BY h.token_id {direction}, h.amount {direction}, h.holder {direction}"
    end += f" LIMIT {limit}" if limit else ""
    held = f"h.ledger_id = (SELECT id FROM ledgers) AND h.token = {token}"
    untouched = "SELECT h.token_id, h.amount, h.holder FROM gapless.holdings h"
    kind = "(SELECT kind FROM ledgers) AS kind"
    if asked.past is None:
        return f"SELECT h.*, {kind} FROM ({untouched} WHERE {' AND '.join([held, *where])} {end}) h {end}"
    # NOT IN is a hash that is asked row by row: the rows keep the order of their index.
    apart = "(h.token_id, h.holder) NOT IN (SELECT token_id, holder FROM moved)"
    every = " AND ".join(["h.amount <> 0", *where])
    return f"""SELECT h.*, {kind} FROM (
        ({untouched} WHERE {" AND ".join([held, apart, *where])} {end})
        UNION ALL
        (SELECT h.* FROM (SELECT m.token_id, coalesce(n.amount, 0) + m.delta AS amount, m.holder
                          FROM moved m LEFT JOIN gapless.holdings n ON n.ledger_id = m.ledger_id AND n.token = m.token
                           AND n.token_id = m.token_id AND n.holder = m.holder) h WHERE {every} {end})) h {end}"""


def _moved_of_token(asked: Asked, shape: rows.Shape, bind: Binder, window: int) -> list[str]:
    if asked.of != "token" or asked.past is None:
        return []
    moved = _moved(asked, shape, bind, window, f"t.token = {bind('token', 'bytea')}")
    return [f"moved AS MATERIALIZED ({moved})"]


_OF_HOLDER: Final = {
    "address": (json_text.hexadecimal("t.holder"), True),
    "token_id": ("CASE WHEN t.kind <> 'erc20' THEN t.token_id::text END", True),
    "balance": ("t.amount::text", True),
}

# -- both ----------------------------------------------------------------------------------------------------------


def _members(asked: Asked, fields: Collection[str]) -> list[tuple[str, tuple[str, bool | None]]]:
    every = _OF_BALANCE if asked.of == "address" else _OF_HOLDER
    return [(name, how) for name, how in every.items() if not fields or name in fields]


def _row_text(asked: Asked, fields: Collection[str]) -> str:
    def text(expression: str, is_text: bool | None) -> str:
        if is_text is None:  # a text that may hold anything
            return f"coalesce(to_json({expression})::text, 'null')"
        return f"coalesce({json_text.quoted(expression) if is_text else f'{expression}::text'}, 'null')"

    return json_text.object_text([(name, text(*how)) for name, how in _members(asked, fields)])


def csv_columns(asked: Asked, fields: Collection[str]) -> dict[str, str]:
    """The columns of a CSV: names, and expressions."""
    return {
        name: f"{expression}::text" if is_text is False else expression
        for name, (expression, is_text) in _members(asked, fields)
    }


def _found(asked: Asked, shape: rows.Shape, bind: Binder, window: int, *, limit: int | None) -> str:
    if asked.of == "address":
        return _held(asked, shape, bind, window, limit=limit)
    return _holders(asked, shape, bind, limit=limit)


def _order(asked: Asked, direction: str) -> str:
    keys = ("token", "token_id") if asked.of == "address" else ("token_id", "amount", "holder")
    return "ORDER BY " + ", ".join(f"t.{key} {direction}" for key in keys)


def _parts(asked: Asked, shape: rows.Shape, bind: Binder, window: int) -> list[str]:
    return [*_ctes(asked, shape, bind), *_moved_of_token(asked, shape, bind, window)]


def page(asked: Asked, shape: rows.Shape, window: int) -> Statement:
    """One page: state, rows, nothing, tokens, count, nothing; as :func:`api.sql.events.page`."""
    bind = Binder()
    parts = _parts(asked, shape, bind, window)
    position = (
        f"{json_text.hexadecimal('t.token')} || '-' || t.token_id"
        if asked.of == "address"
        else f"t.token_id || '-' || t.amount || '-' || {json_text.hexadecimal('t.holder')}"
    )
    parts.append(f"""page AS MATERIALIZED (
    SELECT t.*, {position} || chr(9) || {_row_text(asked, shape.fields)} AS row
    FROM ({_found(asked, shape, bind, window, limit=shape.limit + 1)}) t)""")
    tokens = "NULL"
    if shape.tokens:
        sent = f"SELECT t.* FROM page t {_order(asked, 'ASC' if shape.forward else 'DESC')} LIMIT {shape.limit}"
        of = f"SELECT token FROM ({sent}) p" if asked.of == "address" else f"SELECT {bind('token', 'bytea')}"
        tokens = included.tokens(of)
    counted = counting.counted(shape.count, lambda most: [_found(asked, rows.uncut(shape), bind, window, limit=most)])
    text = f"""WITH {", ".join(parts)}
SELECT {_state(asked, shape, bind)},
    (SELECT string_agg(row, chr(10) {_order(asked, shape.order)}) FROM page t), NULL,
    {tokens},
    {counted}, NULL"""
    return Statement.of(text, bind)


def state_only(asked: Asked, shape: rows.Shape) -> Statement:
    """The state of a request without its rows."""
    bind = Binder()
    return Statement.of(f"WITH {', '.join(_ctes(asked, shape, bind))} SELECT {_state(asked, shape, bind)}", bind)


def estimate(asked: Asked, shape: rows.Shape) -> Statement:
    """What the planner believes how many rows a request has."""
    bind = Binder()
    parts = _parts(asked, shape, bind, 2**62)
    found = _found(asked, rows.uncut(shape), bind, 2**62, limit=None)
    return counting.estimate(parts, [found], bind)


def export(asked: Asked, shape: rows.Shape, bind: Binder, *, limit: int | None, as_csv: bool) -> str:
    """All rows of a request: CSV's columns, or one of JSON. The window must have been checked before."""
    parts = _parts(asked, shape, bind, 2**62)
    shown = ", ".join(csv_columns(asked, shape.fields).values()) if as_csv else _row_text(asked, shape.fields)
    order = _order(asked, "ASC" if shape.forward else "DESC")
    return f"WITH {', '.join(parts)} SELECT {shown} FROM ({_found(asked, shape, bind, 2**62, limit=limit)}) t {order}"
