"""Balances: what an address has, and who has a token, by the ledgers that are kept.

A ledger (``gapless.ledgers``) is true at the end of a block, and in the same snapshot as the rows it counted. For a
block before that, what was moved since is taken back; this is exact, and bounded by how much that is.

Before every query stand, with ``chain`` and ``scope``:

- ``ledgers``: those that the request is about, the best first where several count the same token;
- ``counting``: those of them that are to count on; all, if none is (a contract may have left the manifest);
- ``wanted``: the blocks that each of these has counted, in the place of sources.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from psycopg import sql

from api.catalog import Event
from api.schemas import ADDRESS, BLOCK, DIGITS, nullable
from api.sql import members, scope
from api.sql.query_shape import Key, QueryShape, RowOrder
from api.sql.source import Cut, Source
from api.sql.statement import Binder
from api.sql.transfers import KIND, TOKEN, TOKEN_ID
from indexer.store.catalog import transfer_standards


def _problem(of_ledger: str, of_token: str) -> str:
    """SQL of why the balances of a token may not be exact; null: as far as known they are."""
    return f"gapless.balance_problem({of_ledger}, {of_token})"


#: What each balance is.
AMOUNT: Final = members.plain(
    "balance",
    "t.amount::text",
    {**DIGITS, "description": "In the token's smallest unit; 1 for ERC-721. Never 0."},
)
BALANCE_MEMBERS: Final = (
    TOKEN,
    KIND,
    TOKEN_ID,
    AMOUNT,
    members.plain("contract", "t.contract", {"type": "string", "description": "Name in the manifest."}),
    members.value("at_block", "t.at_block", {**BLOCK, "description": "True at the end of this block."}, null=True),
    members.value(
        "stale",
        "t.stale",
        {"type": "boolean", "description": "Its ledger goes no further; see meta.ledgers."},
        csv="t.stale::text",
    ),
    members.value(
        "exact",
        "(t.problem IS NULL)",
        {"type": "boolean", "description": "The token's balances follow from its transfers."},
        csv="(t.problem IS NULL)::text",
    ),
    members.text(
        "problem",
        "t.problem",
        nullable({"type": "string", "description": "Why not, as far as known."}),
    ),
)
HOLDER_MEMBERS: Final = (members.hexadecimal("address", "t.holder", ADDRESS), TOKEN_ID, AMOUNT)
BY_TOKEN: Final = RowOrder(Key("token", "bytea"), Key("token_id", "numeric"))
BY_AMOUNT: Final = RowOrder(Key("token_id", "numeric"), Key("amount", "signed numeric"), Key("holder", "bytea"))


def _tracks(chain_id: int, ledger: str, token: str) -> str:
    """A condition: a ledger counts a token."""
    return f"""CASE {ledger}.place->>'kind'
        WHEN 'addresses' THEN {ledger}.place->'addresses' ? ('0x' || encode({token}, 'hex'))
        WHEN 'factory' THEN EXISTS (SELECT FROM gapless.children b WHERE b.chain_id = {chain_id}
                                    AND b.contract_id = {ledger}.contract_id AND b.address = {token})
        ELSE true END"""


#: The block as of which a request is answered.
_LAST: Final = "(SELECT last FROM scope)"
#: Who had a part in a transfer, and the sign of what is to be added to take it back.
_SIDES: Final = (("t.from_address", ""), ("t.to_address", "-"))
_NOTHING: Final = (
    "SELECT NULL::integer AS ledger_id, NULL::bytea AS token, NULL::numeric AS token_id, NULL::bytea AS holder, "
    "NULL::numeric AS delta WHERE false"
)


class LedgerSource(Source):
    """Balances of an address, or holders of a token.

    Args:
        past: the events whose transfers are taken back; None: balances as the ledgers are now.
        gated: only a window of blocks may be taken back, since no index serves that.
    """

    #: Whether it is about one token.
    of_token: bool

    def __init__(self, past: Sequence[Event] | None = None, *, gated: bool = False) -> None:
        self.past = past
        self.gated = gated

    @property
    def key(self) -> Hashable:
        """Which of both, and of what time."""
        past = None if self.past is None else tuple(event.event_id for event in self.past)
        return (type(self).__name__, past, self.gated)

    def state_tables(self, shape: QueryShape, bind: Binder) -> list[str]:
        """The ledgers and the scope."""
        chain_id = shape.chain_id
        where, limit = [f"l.served AND l.chain_id = {chain_id}"], ""
        if self.of_token:
            where.append(_tracks(chain_id, "l", bind("token", "bytea")))
            limit = " LIMIT 1"
        elif "token" in shape.given:
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

    def state(self, shape: QueryShape, bind: Binder) -> str | None:
        """The state, and what the ledgers say."""
        ledgers = """(SELECT coalesce(json_agg(json_build_object(
            'contract', contract, 'kind', kind, 'at_block', CASE WHEN through_block >= 0 THEN through_block END,
            'stale', NOT live, 'remark', remark) ORDER BY rank){}, '[]') FROM ledgers)"""
        # There may be hundreds, one a contract: those that are where they should be need no mention.
        behind = " FILTER (WHERE NOT live OR through_block < (SELECT last FROM scope))" if not self.of_token else ""
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
        if self.of_token:
            extra.append(("problem", f"(SELECT {_problem('l.id', bind('token', 'bytea'))} FROM ledgers l)"))
        elif "token" in shape.given:
            tokens = bind("address", "bytea[]")
            uncounted = f"""(SELECT json_agg('0x' || encode(a.token, 'hex')) FROM unnest({tokens}) a(token)
            WHERE NOT EXISTS (SELECT FROM ledgers l WHERE {_tracks(shape.chain_id, "l", "a.token")}))"""
            extra.append(("uncounted", uncounted))
        version = "(SELECT sum(version) FROM ledgers)"
        return scope.state((version, version), extra)

    def moved(self, shape: QueryShape, bind: Binder, condition: str) -> str:
        """A query of what takes back the transfers after a block: ledger_id, token, token_id, holder, delta.

        Beyond ``window`` blocks nothing is taken back without an index.

        Args:
            shape: of the request.
            bind: numbers the values.
            condition: on transfers ``t``, with ``{holder}`` for one who had a part in them.
        """
        gate = ""
        if self.gated:
            gate = f"AND (SELECT max(through_block) - {_LAST} <= {bind('window', 'bigint')} FROM ledgers)"
        zero = f"'\\x{bytes(20).hex()}'"
        parts = []
        for event in self.past or ():
            assert event.standard is not None
            name = sql.Identifier(event.schema_name, event.table_name)
            select = transfer_standards.select(name, event.signature, event.standard, event.columns).as_string()
            parts += [
                f"""SELECT l.id AS ledger_id, t.token, t.token_id, {holder} AS holder, {sign}t.amount AS delta
            FROM ledgers l, ({select}) t
            WHERE {event.event_id} = ANY (l.event_ids) AND l.kind = '{event.standard}' AND t.chain_id = {shape.chain_id}
              AND t.block_number > {_LAST} AND t.block_number <= l.through_block AND t.block_number >= l.start_block
              AND (l.place->>'kind' <> 'addresses' OR l.place->'addresses' ? ('0x' || encode(t.token, 'hex')))
              AND t.from_address <> t.to_address AND {holder} <> {zero} AND {condition.format(holder=holder)} {gate}"""
                for holder, sign in _SIDES
            ]
        every = " UNION ALL ".join(parts) or _NOTHING
        return f"SELECT ledger_id, token, token_id, holder, sum(delta) AS delta FROM ({every}) m GROUP BY 1, 2, 3, 4"


class BalanceSource(LedgerSource):
    """What the address ``holder`` has."""

    order = BY_TOKEN
    members = BALANCE_MEMBERS
    address_column = "token"
    of_token = False

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """The one query of the ledgers."""
        holder = bind("holder", "bytea")
        where = []
        if "token" in shape.given:
            where.append(f"h.token = ANY ({bind('address', 'bytea[]')})")
        # Of several ledgers that count a token, the best tells, even if what it tells is nothing.
        better = f"SELECT FROM ledgers b WHERE b.rank < l.rank AND {_tracks(shape.chain_id, 'b', 'h.token')}"
        where.append(f"NOT EXISTS ({better})")
        if shape.cursor:
            where.append(BY_TOKEN.beyond(bind, forward=shape.forward, columns=("h.token", "h.token_id")))
        kind = f"WHERE l.kind = {bind('kind', 'text')}" if "kind" in shape.given else ""
        if self.past is None:
            where[:0] = [f"h.holder = {holder}", "h.ledger_id = l.id"]
            source = "SELECT h.token, h.token_id, h.amount FROM gapless.holdings h"
        else:
            where.insert(0, "h.ledger_id = l.id")
            moved = self.moved(shape, bind, f"{{holder}} = {holder}")
            source = f"""SELECT h.token, h.token_id, h.amount FROM (
                SELECT s.ledger_id, s.token, s.token_id, sum(s.amount) AS amount
                FROM (SELECT n.ledger_id, n.token, n.token_id, n.amount
                      FROM gapless.holdings n WHERE n.holder = {holder}
                      UNION ALL SELECT m.ledger_id, m.token, m.token_id, m.delta FROM ({moved}) m) s
                GROUP BY 1, 2, 3 HAVING sum(s.amount) <> 0) h"""
        at_block = f"least({_LAST}, l.through_block)" if self.past is not None else "l.through_block"
        each = cut.of(f"{source} WHERE {' AND '.join(where)}", BY_TOKEN, bind, forward=shape.forward, alias="h.")
        every = f"""SELECT l.id AS ledger_id, l.contract, l.kind, {at_block} AS at_block, NOT l.live AS stale,
           h.token, h.token_id, h.amount, {_problem("l.id", "h.token")} AS problem
        FROM ledgers l CROSS JOIN LATERAL ({each}) h {kind}"""
        return [cut.of(every, BY_TOKEN, bind, forward=shape.forward, alias="h.")]


class HolderSource(LedgerSource):
    """Who has the token ``token``."""

    order = BY_AMOUNT
    members = HOLDER_MEMBERS
    address_column = "holder"
    of_token = True

    def tables(self, shape: QueryShape, bind: Binder) -> list[str]:
        """The ledgers, the scope, and what was moved since."""
        found = self.state_tables(shape, bind)
        if self.past is not None:
            moved = self.moved(shape, bind, f"t.token = {bind('token', 'bytea')}")
            found.append(f"moved AS MATERIALIZED ({moved})")
        return found

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """The one query of the ledger."""
        where = []
        if "token_id" in shape.given:
            where.append(f"h.token_id = {bind('token_id', 'numeric')}")
        if shape.cursor:
            columns = ("h.token_id", "h.amount", "h.holder")
            where.append(BY_AMOUNT.beyond(bind, forward=shape.forward, columns=columns))

        def some(query: str) -> str:
            return cut.of(query, BY_AMOUNT, bind, forward=shape.forward, alias="h.")

        held = f"h.ledger_id = (SELECT id FROM ledgers) AND h.token = {bind('token', 'bytea')}"
        kind = "(SELECT kind FROM ledgers) AS kind"
        # NOT IN is a hash that is looked up row by row: the rows keep the order of their index.
        apart = [] if self.past is None else ["(h.token_id, h.holder) NOT IN (SELECT token_id, holder FROM moved)"]
        untouched = "SELECT h.token_id, h.amount, h.holder FROM gapless.holdings h"
        kept = some(f"{untouched} WHERE {' AND '.join([held, *apart, *where])}")
        if self.past is None:
            return [f"SELECT h.*, {kind} FROM ({kept}) h"]
        since = some(f"""SELECT h.* FROM (SELECT m.token_id, coalesce(n.amount, 0) + m.delta AS amount, m.holder
                              FROM moved m LEFT JOIN gapless.holdings n ON n.ledger_id = m.ledger_id
                               AND n.token = m.token AND n.token_id = m.token_id AND n.holder = m.holder) h
                          WHERE {" AND ".join(["h.amount <> 0", *where])}""")
        return [some(f"SELECT h.*, {kind} FROM (({kept}) UNION ALL ({since})) h")]

    def tokens(self, bind: Binder, sent: Callable[[], str]) -> str:
        """The token itself."""
        return f"SELECT {bind('token', 'bytea')}"
