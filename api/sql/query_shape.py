"""Query shapes: what decides the text of a request's statements."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from api.sql.counting import Counting

Direction: TypeAlias = Literal["asc", "desc"]
CursorSide: TypeAlias = Literal["after", "before"]


@dataclass(frozen=True, slots=True)
class QueryShape:
    """All of a request that decides the text of its statements, but for the source of its rows.

    Numbers, names and times are bound values and no part of it: requests repeat few shapes.

    Attributes:
        chain_id: the chain.
        given: names of the bounds, cursors and filters that the request has.
        order: of the answer.
        cursor: the cursor that the request has, if any.
        branch: whether that cursor carries a branch.
        finality: which blocks count.
        fields: members of a row; empty for the usual ones.
        tokens: whether the request includes what tokens say of themselves.
        transactions: whether the request includes the rows' transactions.
        count: whether the rows are to be counted, all or up to :data:`api.sql.counting.COUNT_LIMIT`.
    """

    chain_id: int
    given: frozenset[str] = frozenset()
    order: Direction = "desc"
    cursor: CursorSide | None = None
    branch: bool = False
    finality: str = "latest"
    fields: frozenset[str] = frozenset()
    tokens: bool = False
    transactions: bool = False
    count: Counting = "none"

    @property
    def forward(self) -> bool:
        """Whether rows are read in ascending order."""
        return (self.order == "asc") == (self.cursor != "before")

    def uncut(self) -> "QueryShape":
        """The shape of the whole request, wherever a page of it stands."""
        return replace(self, cursor=None, branch=False)
