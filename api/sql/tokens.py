"""What tokens say of themselves."""

from dataclasses import dataclass
from typing import Final, Literal

from api.sql import counting, json_text
from api.sql.counting import Counting
from api.sql.statement import Binder, Statement

#: The members of a row: text, and its form.
_MEMBERS: Final = {
    "address": (json_text.hexadecimal("t.address"), "plain"),
    "kind": ("t.kind", "text"),
    "name": ("t.name", "text"),
    "symbol": ("t.symbol", "text"),
    "decimals": ("t.decimals::text", "json"),
    "problems": ("t.problems::text", "json"),
    "block_number": ("t.block_number::text", "json"),
}
FIELDS: Final = tuple(_MEMBERS)


def _as_json(text: str, form: str) -> str:
    if form == "text":
        text = f"to_json({text})::text"
    return json_text.quoted(text) if form == "plain" else f"coalesce({text}, 'null')"


def _row_text(fields: frozenset[str] = frozenset()) -> str:
    return json_text.object_text(
        [(name, _as_json(*how)) for name, how in _MEMBERS.items() if not fields or name in fields]
    )


def csv_columns(fields: frozenset[str]) -> dict[str, str]:
    """The columns of a CSV: names, and expressions."""
    return {name: text for name, (text, _) in _MEMBERS.items() if not fields or name in fields}


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a request that decides the text of its statement.

    Attributes:
        chain_id: the chain.
        given: names of the filters ``address``, ``kind`` and ``symbol``, where the request has them.
        cursor: the cursor that the request has, if any: an address.
        order: of the addresses.
        limit: rows of a page; None: all.
        fields: members of a row; empty for all.
        count: whether the rows are to be counted.
    """

    chain_id: int
    given: frozenset[str] = frozenset()
    cursor: Literal["after", "before"] | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: int | None = 100
    fields: frozenset[str] = frozenset()
    count: Counting = "none"

    @property
    def forward(self) -> bool:
        """Whether rows are read towards greater addresses."""
        return (self.order == "asc") == (self.cursor != "before")


def _where(shape: Shape, bind: Binder) -> list[str]:
    where = [f"t.chain_id = {shape.chain_id}"]
    if "address" in shape.given:
        where.append(f"t.address = ANY ({bind('address', 'bytea[]')})")
    return where + [f"t.{name} = {bind(name, 'text')}" for name in ("kind", "symbol") if name in shape.given]


def _all(shape: Shape, bind: Binder, most: int | None) -> str:
    """The query of all tokens of a request, wherever a page of it stands, without order."""
    cut = f" LIMIT {most}" if most else ""
    return f"SELECT FROM gapless.tokens t WHERE {' AND '.join(_where(shape, bind))}{cut}"


def _found(shape: Shape, bind: Binder, shown: str, *, more: int = 0) -> str:
    where = _where(shape, bind)
    if shape.cursor:
        where.append(f"t.address {'>' if shape.forward else '<'} {bind('cursor', 'bytea')}")
    cut = f" LIMIT {shape.limit + more}" if shape.limit else ""
    return f"""SELECT {shown} FROM gapless.tokens t
    WHERE {" AND ".join(where)} ORDER BY t.address {"ASC" if shape.forward else "DESC"}{cut}"""


def page(shape: Shape) -> Statement:
    """The rows of a page, and one more if there is more, as in :func:`api.sql.events.page`; and their number."""
    bind = Binder()
    shown = f"t.address, {json_text.hexadecimal('t.address')} || chr(9) || {_row_text(shape.fields)} AS row"
    rows = _found(shape, bind, shown, more=1)
    counted = counting.counted(shape.count, lambda most: [_all(shape, bind, most)])
    return Statement.of(
        f"SELECT string_agg(row, chr(10) ORDER BY address {shape.order}), {counted} FROM ({rows}) t", bind
    )


def estimate(shape: Shape) -> Statement:
    """What the planner believes how many tokens a request has."""
    bind = Binder()
    return counting.estimate((), [_all(shape, bind, None)], bind)


def export(shape: Shape, bind: Binder, *, as_csv: bool) -> str:
    """All rows of a request: CSV's columns, or one of JSON."""
    return _found(shape, bind, ", ".join(csv_columns(shape.fields).values()) if as_csv else _row_text(shape.fields))
