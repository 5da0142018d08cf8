"""``[derived.NAME]``: tables that follow from events by a rule in SQL.

Here is checked what needs no database: keys, names, what refers to what. Whether an expression is right, and of which
type, Postgres says (``store.derived.rule_check``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from indexer.abi.columns import POSITION_OF, event_columns
from indexer.abi.model import Event
from indexer.abi.names import RESERVED_WORDS
from indexer.errors import did_you_mean
from indexer.manifest.document import DerivedPart, LookupPart
from indexer.manifest.log_scopes import find_event
from indexer.manifest.model import Contract, DerivedTable
from indexer.manifest.source import KeyPath, ManifestReport

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,54}")
_COLUMN: Final = re.compile(r"[a-z][a-z0-9_]{0,54}")
#: How the tables of generations are called, those of derived tables and of programs.
STORED_NAME: Final = re.compile(r".*(_g[0-9]+(_[0-9]+)?|_p[0-9]+(_before)?)")
_USES: Final = re.compile(r'\bderived\s*\.\s*"?([a-z][a-z0-9_]*)')
_FOLDS: Final = ("sum", "average", "min", "max", "first", "last")
_OF_PLACES: Final = ("min", "max", "first", "last")
#: Keys of the manifest that belong to a kind, beside those of all kinds.
_OF_KIND: Final[Mapping[str, frozenset[str]]] = {
    "rows": frozenset({"from", "where", "lookup", "select", "stored", "index"}),
    "aggregate": frozenset({"from", "where", "lookup", "key", "count", "stored", "index", *_FOLDS}),
    "view": frozenset({"sql", "key"}),
}


def read_derived(
    raw: Mapping[str, Any], contracts: Mapping[str, Contract], declared: Mapping[str, Any], report: ManifestReport
) -> dict[str, DerivedTable]:
    """Read all derived tables; one that is wrong is left out, after its problems were reported.

    Args:
        raw: the tables.
        contracts: the contracts that could be read.
        declared: everything that stands under ``contracts``: what is there but could not be read is not reported again.
        report: where problems go.
    """
    reader = _DerivedReader(contracts, declared, report)
    for name, table in raw.items():
        reader.parts[name] = DerivedPart.read(table, ("derived", name), report)
    return reader.run()


@dataclass
class _DerivedReader:
    contracts: Mapping[str, Contract]
    declared: Mapping[str, Any]
    report: ManifestReport
    parts: dict[str, DerivedPart] = field(default_factory=dict)
    _done: dict[str, DerivedTable | None] = field(default_factory=dict)

    def run(self) -> dict[str, DerivedTable]:
        looped = self._refuse_cycles()
        self._done.update(dict.fromkeys(looped))
        found = {name: self._table(name) for name in self.parts}
        read = {self.parts[name].from_ for name in self.parts if isinstance(self.parts[name].from_, str)}
        for name in self.parts:
            if self._is_part_only(name) and name not in read:
                self.report.add(("derived", name, "stored"), "nothing reads it: no other derived table has it in from")
        return {name: table for name, table in found.items() if table is not None and not self._is_part_only(name)}

    def _is_part_only(self, name: str) -> bool:
        """Whether it is an aggregate that others are made of, without a table that is shown."""
        part = self.parts[name]
        return part.stored is False and _kind(part) == "aggregate"

    def _uses(self, name: str) -> list[str]:
        part = self.parts[name]
        used = [part.from_] if isinstance(part.from_, str) else []
        return [one for one in (*used, *_USES.findall(part.sql or "")) if one in self.parts]

    def _refuse_cycles(self) -> set[str]:
        looped: set[str] = set()
        for name in self.parts:
            trail, todo = {name}, self._uses(name)
            while todo:
                one = todo.pop()
                if one == name:
                    looped.add(name)
                    self.report.add(("derived", name), "it follows from itself: a cycle of derived tables has no value")
                    break
                if one not in trail:
                    trail.add(one)
                    todo += self._uses(one)
        return looped

    def _table(self, name: str) -> DerivedTable | None:
        if name not in self._done:
            self._done[name] = self._read(name, self.parts[name], ("derived", name))
        return self._done[name]

    def _read(self, name: str, part: DerivedPart, path: KeyPath) -> DerivedTable | None:
        before = len(self.report.problems())
        if not _NAME.fullmatch(name) or name in RESERVED_WORDS or STORED_NAME.fullmatch(name):
            self.report.add(
                path,
                "the name of a derived table is that of its view in the schema derived: lower-case letters, digits "
                "and _, at most 55, starting with a letter, no reserved word of SQL, and without _g or _p and a "
                "number at its end, which is how generations are called",
            )
        kind = _kind(part)
        given = {field.alias or key for key, field in DerivedPart.model_fields.items() if key in part.model_fields_set}
        for key in sorted(given - _OF_KIND[kind] - {"comment", "comments"}):
            self.report.add((*path, key), f"a derived table of kind {kind} has no {key} ({_WHY[kind]})")
        match kind:
            case "view":
                definition, columns = self._view(name, part, path), None
            case "rows":
                definition, columns = self._rows(part, path)
            case "aggregate":
                definition, columns = self._aggregate(part, path)
        indexes = self._indexes(part, columns, path) if kind != "view" else ()
        if kind == "rows" and indexes and not part.stored:
            self.report.add((*path, "index"), "rows that are not stored have no index: write stored = true")
        for column in part.comments:
            if columns is not None and column not in columns:
                self.report.add((*path, "comments", column), f"there is no such column{did_you_mean(column, columns)}")
        if len(self.report.problems()) > before or definition is None:
            return None
        if kind != "view":
            definition["index"] = [list(one) for one in indexes]
        used = frozenset(contracts_of(definition))
        for one in definition.get("uses", ()):
            used |= self.parts_done(one).contracts
        return DerivedTable(name, kind, definition, used, part.comment or "", dict(part.comments))

    def parts_done(self, name: str) -> DerivedTable:
        """A derived table that was read without a mistake."""
        table = self._done[name]
        assert table is not None
        return table

    # -- the kinds -----------------------------------------------------------------------------------------------------

    def _view(self, name: str, part: DerivedPart, path: KeyPath) -> dict[str, Any] | None:
        key = part.key
        if not isinstance(key, list) or not key or not all(isinstance(one, str) for one in key):
            self.report.add((*path, "key"), 'expected the columns that no two of its rows share: key = ["holder"]')
            return None
        uses = sorted(set(self._uses(name)))
        for one in filter(self._is_part_only, uses):
            self.report.add((*path, "sql"), f"{one} is not stored, so that there is no derived.{one} to read")
        if any(self._table(one) is None for one in uses):
            return None
        return {"sql": part.sql, "key": key, "uses": uses}

    def _rows(self, part: DerivedPart, path: KeyPath) -> tuple[dict[str, Any] | None, tuple[str, ...] | None]:
        layer, columns = self._layer(part, path)
        self._check_names(part.select, columns or (), (*path, "select"))
        if layer is None or columns is None:
            return None, None
        return {**layer, "select": pairs(part.select), "stored": bool(part.stored)}, (*columns, *part.select)

    def _aggregate(self, part: DerivedPart, path: KeyPath) -> tuple[dict[str, Any] | None, tuple[str, ...] | None]:
        layer, _ = self._layer(part, path)
        key = self._key(part, path)
        taken = ["chain_id", *key]
        folds: dict[str, dict[str, str]] = {fold: getattr(part, fold) for fold in _FOLDS}
        for fold, columns in folds.items():
            self._check_names(columns, taken, (*path, fold))
            taken += columns
        if part.count is not None:
            self._check_names({part.count: ""}, taken, (*path, "count"), key=False)
            taken.append(part.count)
        if layer is None:
            return None, None
        made = {fold: pairs(columns) for fold, columns in folds.items()}
        return {**layer, "key": pairs(key), "count": part.count, **made}, tuple(taken)

    def _key(self, part: DerivedPart, path: KeyPath) -> dict[str, str]:
        raw = part.key
        if isinstance(raw, list) and all(isinstance(one, str) for one in raw):
            raw = {one: one for one in raw}
        if not isinstance(raw, dict) or not raw or not all(isinstance(one, str) for one in raw.values()):
            if not part.refused("key"):
                self.report.add(
                    (*path, "key"),
                    'expected what its rows are by: key = { pair = "contract_address" }, or ["owner"]',
                    raw,
                )
            return {}
        self._check_names(raw, ("chain_id",), (*path, "key"))
        return dict(raw)

    def _check_names(self, columns: Mapping[str, str], taken: Any, path: KeyPath, *, key: bool = True) -> None:
        for name in columns:
            here = (*path, name) if key else path
            if not _COLUMN.fullmatch(name) or name in RESERVED_WORDS:
                self.report.add(
                    here,
                    "a column's name has lower-case letters, digits and _, at most 55, and is no reserved word",
                    name,
                )
            elif name in taken:
                self.report.add(here, f"there is a column {name} already")

    # -- what rules read -----------------------------------------------------------------------------------------------

    def _layer(self, part: DerivedPart, path: KeyPath) -> tuple[dict[str, Any] | None, tuple[str, ...] | None]:
        """What a rule reads: input, condition, lookups; and the columns of the input, where they are known."""
        source, columns = self._source(part, (*path, "from"))
        lookups = {alias: self._lookup(raw, (*path, "lookup", alias)) for alias, raw in part.lookup.items()}
        for alias in lookups:
            if not _COLUMN.fullmatch(alias) or alias in RESERVED_WORDS or alias in ("r", "p"):
                self.report.add((*path, "lookup", alias), "choose another name for it: it stands before a dot in SQL")
        if source is None or any(one is None for one in lookups.values()):
            return None, columns
        return {**source, "where": part.where, "lookup": pairs(lookups)}, columns

    def _source(self, part: DerivedPart, path: KeyPath) -> tuple[dict[str, Any] | None, tuple[str, ...] | None]:
        raw = part.from_
        if isinstance(raw, str) and "." not in raw:
            return self._rows_of(raw, part, path)
        names = [raw] if isinstance(raw, str) else raw
        if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
            if not part.refused("from"):
                meaning = 'expected an event: "usdc.Transfer"; a list of events; or a derived table'
                self.report.add(path, meaning, raw)
            return None, None
        events = [self._event(one, path if isinstance(raw, str) else (*path, at)) for at, one in enumerate(names)]
        found = [one for one in events if one is not None]
        resolved = [{"contract": contract.name, "event": event.signature} for contract, event in found]
        if len({(one["contract"], one["event"]) for one in resolved}) < len(resolved):
            self.report.add(path, "an event is named twice: its rows would count twice", raw)
        elif len(found) == len(events):
            return {"events": resolved}, common_columns([event for _, event in found])
        return None, None

    def _rows_of(
        self, name: str, part: DerivedPart, path: KeyPath
    ) -> tuple[dict[str, Any] | None, tuple[str, ...] | None]:
        """The rows of another derived table as what a rule reads: its rule becomes a part of this one."""
        if name not in self.parts:
            near = did_you_mean(name, self.parts)
            self.report.add(path, f"there is no derived table {name}{near}; an event is named contract.Event")
            return None, None
        table = self._table(name)
        if table is None:
            return None, None
        kept = {key: value for key, value in table.definition.items() if key not in ("stored", "index")}
        if table.kind == "rows":
            return {"rows": kept}, _columns_of(table.definition, self.contracts)
        before = len(self.report.problems())
        if table.kind == "view" or _kind(part) == "rows":
            self.report.add(
                path,
                f"{name} is of kind {table.kind}: rules read events and rows, and aggregates also other aggregates. "
                f'Write a view instead: sql = "SELECT … FROM derived.{name}"',
            )
        for key in ("lookup", *_OF_PLACES):
            if getattr(part, key):
                self.report.add(
                    (*path[:-1], key),
                    f"{name} is an aggregate: its rows come and go, and have no place among the logs. Of them there is "
                    f'count, sum and average; for anything else write a view: sql = "SELECT … FROM derived.{name}"',
                )
        if len(self.report.problems()) > before:
            return None, None
        return {"aggregate": kept}, ("chain_id", *_shown(table.definition))

    def _event(self, text: str, path: KeyPath) -> tuple[Contract, Event] | None:
        contract_name, dot, event_name = text.partition(".")
        if not dot:
            self.report.add(path, "expected an event: contract.Event", text)
            return None
        contract = self.contracts.get(contract_name)
        if contract is None:
            if contract_name not in self.declared:
                near = did_you_mean(contract_name, self.declared)
                self.report.add(path, f"there is no contract {contract_name}{near}", text)
            return None
        event = find_event(contract.abi, event_name, path, self.report)
        if event is not None and event not in contract.events:
            self.report.add(path, f"{event_name} is not indexed: add it to contracts.{contract_name}.events", text)
            return None
        return None if event is None else (contract, event)

    def _lookup(self, raw: object, path: KeyPath) -> dict[str, Any] | None:
        part = LookupPart.read(raw, path, self.report)
        found = None
        if part.required("event", path, self.report, "the event that is looked up: contract.Event") and part.event:
            found = self._event(part.event, (*path, "event"))
        texts = [part.on] if isinstance(part.on, str) else part.on
        meaning = 'which of its rows: "pair = contract_address", a column of it, and an expression over this row'
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and "=" in one for one in texts):
            if not part.refused("on"):
                self.report.add((*path, "on"), f"expected {meaning}", part.on)
            return None
        if found is None:
            return None
        contract, event = found
        names = (*POSITION_OF, *(column.name for column in event_columns(event)))
        pairs = [[side.strip() for side in text.split("=", 1)] for text in texts]
        for column, _ in pairs:
            if column not in names:
                self.report.add((*path, "on"), f"{part.event} has no column {column}{did_you_mean(column, names)}")
                return None
        return {"contract": contract.name, "event": event.signature, "on": pairs, "take": part.take}

    def _indexes(
        self, part: DerivedPart, columns: tuple[str, ...] | None, path: KeyPath
    ) -> tuple[tuple[str, ...], ...]:
        indexes = []
        for at, raw in enumerate(part.index):
            names = [raw] if isinstance(raw, str) else raw
            if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
                self.report.add((*path, "index", at), "expected a column, or a list of columns", raw)
                continue
            for name in names if columns is not None else ():
                if name not in (columns or ()):
                    near = did_you_mean(name, columns or ())
                    self.report.add((*path, "index", at), f"there is no column {name}{near}")
            indexes.append(tuple(names))
        return tuple(indexes)


_WHY: Final = {
    "rows": "it has one row for each row of its input",
    "aggregate": "it has one row for each key",
    "view": "its rows are those of its sql",
}


def _kind(part: DerivedPart) -> Literal["rows", "aggregate", "view"]:
    if part.sql is not None:
        return "view"
    folds = any(getattr(part, fold) for fold in _FOLDS)
    return "aggregate" if part.key is not None or part.count is not None or folds else "rows"


def common_columns(events: list[Event]) -> tuple[str, ...]:
    """The columns that the tables of some events have in common, of one type in all of them."""
    each = [{column.name: column.pg_type for column in event_columns(event)} for event in events]
    return (*POSITION_OF, *(name for name, kind in each[0].items() if all(one.get(name) == kind for one in each)))


def _columns_of(definition: Mapping[str, Any], contracts: Mapping[str, Contract]) -> tuple[str, ...]:
    """The columns of a derived table of rows."""
    if "rows" in definition:
        inner = _columns_of(definition["rows"], contracts)
    else:
        by = {(name, event.signature): event for name, contract in contracts.items() for event in contract.events}
        inner = common_columns([by[one["contract"], one["event"]] for one in definition["events"]])
    return (*inner, *(name for name, _ in definition["select"]))


def _shown(definition: Mapping[str, Any]) -> list[str]:
    """The columns of an aggregate beside the chain."""
    count = [] if definition["count"] is None else [definition["count"]]
    return [name for part in ("key", *_FOLDS) for name, _ in definition[part]] + count


def pairs(given: Mapping[str, Any]) -> list[list[Any]]:
    """A table of the manifest as a list, which keeps its order in the catalog."""
    return [[name, value] for name, value in given.items()]


def contracts_of(definition: Mapping[str, Any]) -> set[str]:
    """The contracts whose events a rule reads."""
    if "sql" in definition:
        return set()
    events = [*definition.get("events", ()), *(lookup for _, lookup in definition["lookup"])]
    inner = definition.get("rows") or definition.get("aggregate")
    return (contracts_of(inner) if inner is not None else set()) | {one["contract"] for one in events}
