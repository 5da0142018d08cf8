"""Rows of derived tables: by key, or by a declared index; and how far they are counted."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import orjson

from api.catalog import Derived, DerivedColumn
from api.schemas import DIGITS, HEX, TIME, Schema, nullable, ref
from api.sql import members, scope, statement
from api.sql.members import Member
from api.sql.query_shape import Key, KeyType, QueryShape, RowOrder
from api.sql.source import CoveredSource, Cut, TableFilter, TableSource
from api.sql.statement import Binder, identifier
from api.values import BOOL, DATE, BadValueError, Kind, decimal, hex_bytes, integer, list_of, text
from api.values import TIME as TIME_KIND

#: In front of the name of a column that is filtered.
PREFIX: Final = "col."
#: The component for a column of the type bigint.
BIGINT: Final = "int64"
_MOST_CURSOR: Final = 4000
_COMPARISONS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MEANINGS: Final = {"gt": "is greater", "gte": "is this or greater", "lt": "is less", "lte": "is this or less"}
_NUMBER: Final[Schema] = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}


@dataclass(frozen=True, slots=True)
class _Type:
    """How a type of Postgres is written and asked for.

    Attributes:
        member: makes the member of a column.
        kind: how a value is written in a URL; None: it cannot be filtered.
        ordered: whether it has comparisons.
    """

    member: Callable[[str, str], Member]
    kind: Kind[Any] | None = None
    ordered: bool = False


def _digits(schema: Schema, name: str, sql: str) -> Member:
    return members.plain(name, f"{sql}::text", nullable(schema), null=True)


def _time(name: str, sql: str) -> Member:
    return members.plain(name, statement.time(sql), nullable(TIME), null=True)


def _date(name: str, sql: str) -> Member:
    return members.plain(name, f"{sql}::text", nullable({"type": "string", "format": "date"}), null=True)


def _bytes(name: str, sql: str) -> Member:
    return members.hexadecimal(name, sql, nullable(HEX), null=True)


def _plain(schema: Schema, name: str, sql: str) -> Member:
    return members.value(name, sql, nullable(schema), null=True)


def _text(name: str, sql: str) -> Member:
    return members.text(name, f"{sql}::text", nullable({"type": "string"}))


_TYPES: Final[Mapping[str, _Type]] = {
    "smallint": _Type(partial(_plain, {"type": "integer"}), integer(-(2**15), 2**15 - 1), ordered=True),
    "integer": _Type(partial(_plain, {"type": "integer"}), integer(-(2**31), 2**31 - 1), ordered=True),
    "bigint": _Type(partial(_digits, ref(BIGINT)), integer(-(2**63), 2**63 - 1), ordered=True),
    "numeric": _Type(partial(_digits, _NUMBER), decimal(100), ordered=True),
    "double precision": _Type(partial(_plain, {"type": "number"})),
    "real": _Type(partial(_plain, {"type": "number"})),
    "boolean": _Type(partial(_plain, {"type": "boolean"}), BOOL),
    "bytea": _Type(_bytes, hex_bytes()),
    "timestamp with time zone": _Type(_time, TIME_KIND, ordered=True),
    "date": _Type(_date, DATE, ordered=True),
    "text": _Type(_text, text()),
    "jsonb": _Type(partial(_plain, {})),
    "json": _Type(partial(_plain, {})),
}
_OTHER: Final = _Type(_text)
_WHOLE: Final = _Type(partial(_digits, DIGITS), decimal(100), ordered=True)


def _type(column: DerivedColumn) -> _Type:
    if re.fullmatch(r"numeric\([0-9]+(,0)?\)", column.pg_type):
        return _WHOLE
    return _TYPES.get(base_type(column), _OTHER)


def base_type(column: DerivedColumn) -> str:
    """A column's type without modifiers."""
    return re.sub(r"\(.*?\)", "", column.pg_type)


def row_members(columns: Sequence[DerivedColumn]) -> list[Member]:
    """The members of a row: its columns, but for the chain, which ``meta`` has."""
    shown = (column for column in columns if column.name != "chain_id")
    return [_type(column).member(column.name, f"t.{identifier(column.name)}") for column in shown]


#: The filters for the document, where the columns depend on the table.
ANY_FILTERS: Final[Schema] = {
    "name": "filters",
    "in": "query",
    "description": "Conditions on columns of the key and of indexes, each a parameter of its own: `col.<name>`, "
    "`col.<name>.in`, and `.gt`, `.gte`, `.lt`, `.lte` for numbers and times.",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    "example": {},
    "style": "form",
    "explode": True,
}


@dataclass(frozen=True, slots=True)
class ColumnFilter:
    """A condition on a column of the key or of an index."""

    name: str
    kind: Kind[Any]
    description: str
    filter: TableFilter


def filters(derived: Derived) -> dict[str, ColumnFilter]:
    """The filters that a derived table has, by their parameters."""
    served = {*derived.order_key, *(name for index in derived.indexes for name in index)}
    found: dict[str, ColumnFilter] = {}

    def add(name: str, kind: Kind[Any], meaning: str, condition: str, pg_type: str) -> None:
        found[name] = ColumnFilter(name, kind, meaning, TableFilter(condition, pg_type))

    for column in derived.columns:
        kind = _type(column).kind
        if column.name not in served or kind is None:
            continue
        name, sql, pg_type = f"{PREFIX}{column.name}", f"t.{identifier(column.name)}", base_type(column)
        add(name, kind, f"{column.name} is this", f"{sql} = {{}}", pg_type)
        if pg_type not in ("text", "boolean"):
            condition = f"{sql} = ANY ({{}})"
            add(f"{name}.in", list_of(kind), f"{column.name} is one of these (comma list)", condition, f"{pg_type}[]")
        for operator in _COMPARISONS if _type(column).ordered else ():
            meaning = f"{column.name} {_MEANINGS[operator]}"
            add(f"{name}.{operator}", kind, meaning, f"{sql} {_COMPARISONS[operator]} {{}}", pg_type)
    return found


def instead(derived: Derived) -> str:
    """What can be asked instead of a table that is not stored."""
    if derived.kind == "rows":
        return "Follow the stream of the event whose rows it shows, or ask for its pages with If-None-Match."
    return "Follow the streams of what it reads, or ask for its pages with If-None-Match."


def instead_of_block(derived: Derived) -> str:
    """What can be asked instead of the state at a block."""
    events = "ask for the rows of its events up to that block (/v1/events with to_block)"
    if derived.kind == "view":
        return f"{events}, for balances with at_block, or gapless.balance_at in SQL"
    ends = [name for name in filters(derived) if name.endswith(".lte")]
    if derived.kind == "program" or not ends:
        return f"{events}, or for its newest rows without at_block; meta says how far they go"
    return f"leave out the keys behind it by a column that grows with blocks ({', '.join(ends)}), or {events}"


def sorts(derived: Derived) -> list[str]:
    """What its rows can be sorted by: the key, or the columns of an index."""
    return ["key", *(",".join(index) for index in derived.indexes)]


def row_order(derived: Derived, sort: Sequence[str]) -> RowOrder:
    """The order by some columns, and by the key behind them.

    A cursor has the values of these columns: any text may be among them, so it is written as hexadecimal digits.
    """
    types = {column.name: base_type(column) for column in derived.columns}
    names = list(dict.fromkeys((*sort, *derived.order_key)))
    keys = [Key(name, cast(KeyType, types[name]), f"cursor_at_{at}") for at, name in enumerate(names)]
    values = ", ".join(f"t.{name}::text" for name in names)
    position = f"encode(convert_to(json_build_array({values})::text, 'UTF8'), 'hex')"
    return RowOrder(*keys, position=position, cursor=_cursor(keys))


def _cursor(keys: Sequence[Key]) -> Kind[dict[str, Any]]:
    def parse(given: str) -> dict[str, Any]:
        try:
            values = orjson.loads(bytes.fromhex(given[:_MOST_CURSOR]))
        except ValueError:
            values = None
        if not isinstance(values, list) or len(values) != len(keys) or not all(isinstance(v, str) for v in values):
            raise BadValueError("must be page.next, page.prev or page.last as they were given", "INVALID_CURSOR")
        return {key.bound: value for key, value in zip(keys, values, strict=True)}

    return Kind(parse, {"type": "string"})


#: The order of a derived table that is not known yet, for the document.
ANY_ORDER: Final = RowOrder(Key("key", "bigint"), position="''", cursor=_cursor(()))


#: By the name of a table: whether it is stale on some chain, and why it goes no further there.
STATES: Final = """
SELECT coalesce(json_object_agg(name, json_build_object('stale', stale, 'problem', problem)), '{}') FROM (
    SELECT name, bool_or(stale) AS stale, string_agg(DISTINCT problem, '; ') AS problem
    FROM gapless.derived_coverage WHERE served GROUP BY name) s
"""


class DerivedSource(TableSource, CoveredSource):
    """The rows of a derived table.

    Args:
        derived: the table.
        sort: the columns that come before the key.
    """

    def __init__(self, derived: Derived, sort: Sequence[str]) -> None:
        conditions = {name: one.filter for name, one in filters(derived).items()}
        if derived.kind == "rows":
            # What a row looks up is at or before its own place: later blocks change nothing of it.
            conditions["at_block"] = TableFilter("t.block_number <= {}", "bigint")
        table = identifier("derived", derived.name)
        super().__init__(table, row_order(derived, sort), row_members(derived.columns), conditions)
        self.event_ids = ()
        self._derived = derived
        self._sort = tuple(sort)

    @property
    def key(self) -> Hashable:
        """The table, and the order."""
        return ("derived", self._derived.name, self._sort)

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """The one query; a row without a value to sort by has no place in that order."""
        where = [f"t.chain_id = {shape.chain_id}"]
        where += [f.condition.format(bind(name, f.pg_type)) for name, f in self.filters.items() if name in shape.given]
        where += [f"t.{name} IS NOT NULL" for name in self._sort]
        if shape.cursor:
            where.append(self.order.beyond(bind, forward=shape.forward))
        query = f"SELECT t.* FROM {self.table} t WHERE {' AND '.join(where)}"
        return [cut.of(query, self.order, bind, forward=shape.forward)]

    def state_tables(self, shape: QueryShape, bind: Binder) -> list[str]:
        """``chain``, ``wanted`` and ``scope``: what is wanted of it, and what of that is counted."""
        given = shape.given & {"at_block"}
        chain, _, bounds = scope.ctes(shape.chain_id, (), bind, given=given, finality=shape.finality)
        return [chain, f"wanted AS MATERIALIZED ({self._wanted(shape.chain_id)})", bounds]

    def _wanted(self, chain_id: int) -> str:
        reads = [self._derived.name, *self._derived.uses]
        if self._derived.kind == "view" and not self._derived.uses:
            # What a SELECT reads is not known: it is complete where everything is.
            return f"""
    SELECT s.start_block, s.end_block,
           gapless.covered(s.coverage, s.end_block, (SELECT tip_number FROM chain)) AS coverage
    FROM gapless.sources s WHERE s.chain_id = {chain_id} AND s.active"""
        listed = ", ".join(f"'{name}'" for name in reads)
        return f"""
    SELECT lower(r) AS start_block, upper(r) - 1 AS end_block, d.covered AS coverage
    FROM gapless.derived_coverage d, unnest(d.wanted) r
    WHERE d.served AND d.chain_id = {chain_id} AND d.name IN ({listed})"""

    def state(self, shape: QueryShape, bind: Binder) -> str | None:
        """The state: with all that may change a row besides the head."""
        chain_id = shape.chain_id
        counted = f"(SELECT sum(version) FROM gapless.derived_progress WHERE chain_id = {chain_id})"
        handled = f"(SELECT sum(version) FROM gapless.programs WHERE chain_id = {chain_id})"
        versions = f"""(coalesce({counted}, 0) + coalesce({handled}, 0)
            + (SELECT coalesce(sum(version), 0) FROM gapless.events)
            + (SELECT coalesce(sum(version), 0) FROM gapless.ledgers WHERE chain_id = {chain_id}))"""
        return scope.state((versions, self._build(chain_id)))

    def _build(self, chain_id: int) -> str:
        """The number of the build that is served: with another one, rows are others altogether."""
        if self._derived.kind == "program":
            kept = f"""tables @> '[{{"name": "{self._derived.name}"}}]'"""
            return f"(SELECT max(id) FROM gapless.programs WHERE chain_id = {chain_id} AND served AND {kept})"
        return f"(SELECT id FROM gapless.derived WHERE name = '{self._derived.name}' AND served)"
