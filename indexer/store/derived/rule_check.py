"""What Postgres says of a rule: its mistakes, all at once, and the columns that it makes.

A stand-in for the rows that a rule reads is made, an empty temporary table with their columns, and everything that the
rule says is tried on it; the transaction is rolled back. So a rule can be checked before any of its events has a table.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql

from indexer.store.derived.rules import EventName, Layer, Rule

Columns: TypeAlias = Mapping[str, str]
"""Columns by name, each with its type in Postgres."""

_STAND_IN: Final = sql.Identifier("pg_temp", "_rule_input")
_TRIED: Final = sql.Identifier("pg_temp", "_rule_tried")


@dataclass(slots=True)
class Checked:
    """What came of it.

    Attributes:
        types: of a rule's own columns, or of the expressions behind them, by their names.
        input: the columns of the rows that it reads.
        below: of the aggregate whose rows it reads.
        problems: where (below ``derived.NAME``), and what is wrong there.
    """

    types: dict[str, str] = field(default_factory=dict)
    input: dict[str, str] = field(default_factory=dict)
    below: "Checked | None" = None
    problems: list[tuple[tuple[str | int, ...], str]] = field(default_factory=list)

    @property
    def levels(self) -> "tuple[dict[str, str], ...]":
        """The types of each level of an aggregate (:attr:`~.Rule.levels`)."""
        return (*self.below.levels, self.types) if self.below is not None else (self.types,)


def check(driver: psycopg.Connection[Any], rule: Rule, events: Mapping[EventName, Columns]) -> Checked:
    """Checks a rule; of a view, nothing (its SELECT is checked by making it).

    Args:
        driver: in a transaction of which the caller keeps nothing.
        rule: the rule.
        events: the columns of the events that it reads, the fixed ones too.
    """
    done = Checked()
    if rule.layer is None:
        return done
    done.input = layer_columns(driver, rule.layer, events, done)
    if done.problems:
        return done  # of the rows that it reads, which are another rule's
    _check_layer(driver, rule, rule.layer, done, events)
    return done


def layer_columns(
    driver: psycopg.Connection[Any], layer: Layer, events: Mapping[EventName, Columns], done: Checked
) -> dict[str, str]:
    """The columns of the rows that a rule reads."""
    if layer.below is not None:
        below = check(driver, layer.below, events)
        for path, message in below.problems[:1]:
            where = ".".join(map(str, path))
            done.problems.append(
                (("from",), f"the rows that it reads have a mistake in their rule ({where}: {message})")
            )
        if layer.below.kind == "aggregate":
            done.below = below
            return _shown(layer.below, below.types)
        return {**below.input, **below.types}
    each = [events[name] for name in layer.events]
    return {name: kind for name, kind in each[0].items() if all(one.get(name) == kind for one in each)}


def _shown(rule: Rule, types: Columns) -> dict[str, str]:
    """The columns of an aggregate's rows."""
    count = {} if rule.count is None else {rule.count: "bigint"}
    values = {
        name: "numeric" if fold in ("sum", "average") else types.get(name, "text")
        for name, (fold, _) in rule.values.items()
    }
    return {"chain_id": "bigint", **{name: types.get(name, "text") for name in rule.key}, **count, **values}


def _check_layer(
    driver: psycopg.Connection[Any], rule: Rule, layer: Layer, done: Checked, events: Mapping[EventName, Columns]
) -> None:
    columns = dict(done.input)
    for name, lookup in layer.lookups.items():
        columns |= {f"{name}.{column}": kind for column, kind in events[lookup.event].items()}
    made = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns.items()
    )
    driver.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_STAND_IN))
    driver.execute(sql.SQL("CREATE TEMPORARY TABLE _rule_input ({})").format(made))
    trial = _Trial(driver, layer, done)
    if layer.where is not None:
        trial.condition(("where",), layer.where)
    for name, lookup in layer.lookups.items():
        for column, text in lookup.on:
            wanted = events[lookup.event][column]
            trial.same(("lookup", name, "on"), text, wanted)
    for name, text in rule.select.items():
        trial.value(("select", name), name, text)
    for name, text in rule.key.items():
        trial.key(("key", name), name, text)
    for name, (fold, text) in rule.values.items():
        trial.fold((fold, name), name, fold, text)


@dataclass(slots=True)
class _Trial:
    driver: psycopg.Connection[Any]
    layer: Layer
    done: Checked

    def _text(self, text: str) -> sql.Composable:
        """An expression over the stand-in, in which a looked-up column is one column: its name has the dot in it."""
        for name in self.layer.lookups:
            text = re.sub(rf"(?<![\w.\"])(?:{name}|\"{name}\")\s*\.\s*(?:(\w+)|\"([^\"]+)\")", _quoted(name), text)
        return sql.SQL("({}\n)").format(sql.SQL(text))

    def condition(self, path: tuple[str, ...], text: str) -> None:
        with self._trying(path):
            self.driver.execute(sql.SQL("SELECT 1 FROM {} r WHERE {}").format(_STAND_IN, self._text(text)))
        self._immutable(path, text)

    def same(self, path: tuple[str, ...], text: str, kind: str) -> None:
        statement = "SELECT 1 FROM {} r WHERE {} = NULL::" + kind
        with self._trying(path):
            self.driver.execute(sql.SQL(statement).format(_STAND_IN, self._text(text)))
        self._immutable(path, text)

    def value(self, path: tuple[str, ...], name: str, text: str) -> bool:
        kind = self._type(path, self._text(text))
        if kind is None:
            return False
        self.done.types[name] = kind
        return self._immutable(path, text)

    def key(self, path: tuple[str, ...], name: str, text: str) -> None:
        if self.value(path, name, text):
            with self._trying(path):
                self.driver.execute(sql.SQL("CREATE INDEX ON {} ({})").format(_STAND_IN, self._text(text)))

    def fold(self, path: tuple[str, ...], name: str, fold: str, text: str) -> None:
        if not self.value(path, name, text):
            return
        kind = self.done.types[name]
        if fold in ("sum", "average"):
            row = self.driver.execute("SELECT typcategory FROM pg_type WHERE oid = %s::regtype", (kind,)).fetchone()
            if row is None or row[0] != "N":
                self._wrong(path, f"a {fold} is of numbers, and this is {kind}")
        elif fold in ("min", "max"):
            with self._trying(path):
                statement = "SELECT " + fold + "({}) FROM {} r"
                self.driver.execute(sql.SQL(statement).format(self._text(text), _STAND_IN))

    def _type(self, path: tuple[str, ...], text: sql.Composable) -> str | None:
        found: list[str] = []
        with self._trying(path):
            self.driver.execute(
                sql.SQL("CREATE TEMPORARY VIEW _rule_tried AS SELECT {} AS x FROM {} r").format(text, _STAND_IN)
            )
            rows = self.driver.execute(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = 'pg_temp._rule_tried'::regclass AND attname = 'x'"
            )
            found = [str(kind) for (kind,) in rows]
            self.driver.execute(sql.SQL("DROP VIEW {}").format(_TRIED))
        return found[0] if found else None

    def _immutable(self, path: tuple[str, ...], text: str) -> bool:
        before = len(self.done.problems)
        with self._trying(path):
            self.driver.execute(sql.SQL("CREATE INDEX ON {} (({} IS NULL))").format(_STAND_IN, self._text(text)))
        return len(self.done.problems) == before

    @contextmanager
    def _trying(self, path: tuple[str, ...]) -> Iterator[None]:
        try:
            with self.driver.transaction():
                yield
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError):
                raise
            self._wrong(path, explained(error))

    def _wrong(self, path: tuple[str, ...], message: str) -> None:
        if (path, message) not in self.done.problems:
            self.done.problems.append((path, message))


def _quoted(name: str) -> Any:
    return lambda match: f'"{name}.{match.group(1) or match.group(2)}"'


_WHOLE: Final = (
    (
        "cannot use subquery",
        "a subquery may not stand there: a value follows from its row alone; lookup finds other rows",
    ),
    (
        "aggregate functions are not allowed",
        "an aggregate function may not stand there: say sum, min, max, first or last",
    ),
    ("window functions are not allowed", "a window function may not stand there: a value follows from its row alone"),
    ("set-returning functions are not allowed", "a function that returns rows may not stand there"),
    (
        "must be marked IMMUTABLE",
        "it is not immutable: it depends on the time of the query, on a setting, or on other rows (now(), random(), "
        "to_char of a timestamptz); gapless.hour and gapless.day are immutable",
    ),
)


def explained(error: psycopg.Error) -> str:
    """What Postgres refuses, for those who wrote the rule."""
    text = error.diag.message_primary or str(error)
    for said, meaning in _WHOLE:
        if said in text:
            return meaning
    hint = error.diag.message_hint
    return text.replace("_rule_input", "its input") + (f" ({hint.replace('r.', '')})" if hint else "")
