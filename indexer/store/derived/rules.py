"""A rule of a derived table, as the catalog keeps it (``gapless.derived.definition``).

A rule reads a *layer*: events, or the rows of another rule, which is part of it. So whatever a derived table follows
from, it is counted from the rows of events alone. An aggregate of the rows of another aggregate has *levels*: the first
is counted, and each further one follows from the one before (:mod:`indexer.store.derived.levels`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["rows", "aggregate", "view", "program"]
EventName: TypeAlias = tuple[str, str]
"""A contract's name and an event's signature."""

FOLDS: Final = ("sum", "average", "min", "max", "first", "last")
POSITION: Final = ("chain_id", "block_number", "log_index")


@dataclass(frozen=True, slots=True)
class Lookup:
    """The newest (or first) row of an event before a row's position.

    Attributes:
        event: what is looked up.
        on: pairs of a column of it and an expression over the row.
        take: which of the rows that fit.
    """

    event: EventName
    on: tuple[tuple[str, str], ...]
    take: Literal["last", "first"] = "last"


@dataclass(frozen=True, slots=True)
class Layer:
    """What a rule reads: the rows of events, or those of another rule, with what is looked up for each.

    Attributes:
        events: whose rows, where there is no ``below``.
        below: the rule of rows, or the aggregate, whose rows it reads.
        where: a condition over a row.
        lookups: by the name that stands before their columns.
    """

    events: tuple[EventName, ...]
    below: "Rule | None"
    where: str | None
    lookups: Mapping[str, Lookup]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        layer: what it reads; None for views, which Postgres computes, and programs.
        select: columns of a rule of rows, beside those of its input: expressions over a row.
        stored: whether rows are kept in a table.
        key: columns of an aggregate's key.
        count: the column with the number of rows of a key.
        folds: by kind (:data:`FOLDS`): columns, and the expressions that are summed up in them.
        sql: the SELECT of a view.
        uses: the derived tables that a view reads.
    """

    kind: Kind
    layer: Layer | None = None
    select: Mapping[str, str] = field(default_factory=dict)
    stored: bool = False
    key: Mapping[str, str] = field(default_factory=dict)
    count: str | None = None
    folds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sql: str | None = None
    uses: tuple[str, ...] = ()

    @property
    def is_counted(self) -> bool:
        """Whether it has rows of its own that are counted."""
        return self.kind == "aggregate" or (self.kind == "rows" and self.stored)

    @property
    def levels(self) -> "tuple[Rule, ...]":
        """The aggregates through which it is counted, each over the rows of the one before; the last is itself."""
        below = self.layer.below if self.layer is not None else None
        return (*below.levels, self) if below is not None and below.kind == "aggregate" else (self,)

    @property
    def is_ordered(self) -> bool:
        """Whether what is taken back cannot be subtracted: the touched keys are computed anew."""
        return any(self.folds.get(fold) for fold in ("min", "max", "first", "last"))

    @property
    def values(self) -> dict[str, tuple[str, str]]:
        """An aggregate's columns beside its key and its count: how each is made, and of which expression."""
        return {name: (fold, text) for fold in FOLDS for name, text in self.folds.get(fold, {}).items()}

    @property
    def events(self) -> tuple[EventName, ...]:
        """The events whose rows it counts."""
        layer = self.layer
        while layer is not None and layer.below is not None:
            layer = layer.below.layer
        return () if layer is None else layer.events

    @property
    def lookups(self) -> tuple[EventName, ...]:
        """The events that it looks up."""
        return tuple(dict.fromkeys(lookup.event for layer in self.layers() for lookup in layer.lookups.values()))

    def layers(self) -> Iterator[Layer]:
        """Its layers, its own first."""
        layer = self.layer
        while layer is not None:
            yield layer
            layer = layer.below.layer if layer.below is not None else None


def rule_of(kind: Kind, definition: Mapping[str, Any]) -> Rule:
    """Reads what the manifest has made of a rule."""
    if kind == "view":
        return Rule(kind, sql=definition["sql"], key=dict.fromkeys(definition["key"], ""), uses=(*definition["uses"],))
    if kind == "program":
        return Rule(kind)
    layer = Layer(
        events=tuple((one["contract"], one["event"]) for one in definition.get("events", ())),
        below=_below(definition),
        where=definition["where"],
        lookups={
            name: Lookup((one["contract"], one["event"]), tuple((a, b) for a, b in one["on"]), one["take"])
            for name, one in definition["lookup"]
        },
    )
    if kind == "rows":
        return Rule(kind, layer, select=dict(definition["select"]), stored=definition.get("stored", False))
    folds = {fold: dict(definition[fold]) for fold in FOLDS if definition[fold]}
    return Rule(kind, layer, key=dict(definition["key"]), count=definition["count"], folds=folds)


def _below(definition: Mapping[str, Any]) -> Rule | None:
    if "rows" in definition:
        return rule_of("rows", definition["rows"])
    return rule_of("aggregate", definition["aggregate"]) if "aggregate" in definition else None
