"""Derived tables as the manifest wants them: rules checked by Postgres, builds begun, resumed, described and ended.

Rules are checked before anything is changed, all at once. Builds are begun after contracts and events, in a transaction
of their own: killed before it, the next run of ``apply`` finds them missing and begins them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.abi.columns import FIXED_COLUMNS
from indexer.errors import Problem, ProblemsError
from indexer.store import database
from indexer.store.catalog.declaration import Change, Declaration, DerivedDeclaration
from indexer.store.catalog.version import Row, end_change, hold_for_change
from indexer.store.database import psycopg_connection
from indexer.store.derived import generations, rule_check, views
from indexer.store.derived.replacing import ViewInTheWayError
from indexer.store.derived.rules import EventName, Rule, rule_of
from indexer.store.derived.taken_names import taken
from indexer.store.derived.views import NewGeneration
from indexer.store.schema import tables

_OTHER_RULE: Final = "the manifest has another rule: a new build is under way, and is served once it has come as far"


@dataclass(frozen=True, slots=True)
class DerivedStep:
    """What becomes of one derived table.

    Attributes:
        action: ``begin`` a build, ``resume`` one that was ended or replaced, ``end`` all, or ``describe`` one anew.
        name: of the derived table.
        wanted: what the manifest says of it; None where it says nothing.
        derived_id: the build that goes on.
    """

    action: Literal["begin", "resume", "end", "describe"]
    name: str
    wanted: DerivedDeclaration | None = None
    derived_id: int | None = None


def difference(rows: Iterable[Row], wanted: Iterable[DerivedDeclaration]) -> tuple[list[DerivedStep], list[Change]]:
    """Compares the builds that there are with the rules of the manifest. Pure."""
    steps: list[DerivedStep] = []
    changes: list[Change] = []
    builds: dict[str, list[Row]] = {}
    for row in rows:
        if row.kind != "program":
            builds.setdefault(row.name, []).append(row)
    declared = {one.name: one for one in wanted}
    for name, one in declared.items():
        mine = builds.get(name, [])
        same = same_build(mine, one)
        newer = any(not row.served for row in mine if row is not same)
        if same is None:
            steps.append(DerivedStep("begin", name, one))
            detail = "its rule is another one: built anew beside the one that is served" if mine else one.kind
            changes.append(Change("change" if mine else "add", "derived", name, detail))
        elif not same.active or same.remark is not None or (same.served and newer):
            steps.append(DerivedStep("resume", name, one, same.id))
            changes.append(Change("change" if same.active else "add", "derived", name, "it goes on where it was"))
        elif _described(same.definition) != (one.comment, dict(one.comments)):
            steps.append(DerivedStep("describe", name, one, same.id))
            changes.append(Change("change", "derived", name, "its comments"))
    for name, mine in builds.items():
        if name not in declared and any(row.active for row in mine):
            steps.append(DerivedStep("end", name))
            changes.append(Change("remove", "derived", name, "its data stays"))
    return steps, changes


def same_build(builds: Iterable[Row], one: DerivedDeclaration) -> Row | None:
    """The build, if there is one, that has the rule which the manifest asks for. Pure."""
    return next(
        (
            row
            for row in builds
            if (row.name, row.kind) == (one.name, one.kind) and _rule(row.definition) == one.definition
        ),
        None,
    )


def _rule(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key not in ("comment", "comments")}


def _described(definition: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    return definition.get("comment", ""), dict(definition.get("comments", {}))


# -- rules, asked of Postgres --------------------------------------------------------------------------------------


def require_right(engine: Engine, declaration: Declaration, steps: Sequence[DerivedStep]) -> None:
    """Makes sure that the rules that are to begin can be computed, and that no table takes the name of another.

    Raises:
        ProblemsError: what is wrong with them, all at once; nothing was changed.
    """
    wanted = [step.wanted for step in steps if step.action == "begin" and step.wanted is not None]
    if not wanted and not declaration.programs:
        return
    with engine.connect() as connection:
        problems = [
            Problem(f"derived.{one.name}", message)
            for one in wanted
            for message in taken(connection, "derived", one.name, [one.name]).values()
        ]
        problems += [
            Problem(f"programs.{name}.module", message)
            for name, made in declaration.programs
            for message in taken(connection, "program", name, made).values()
        ]
        if wanted:
            events = {**declared_columns(declaration), **_stored_columns(connection)}
            problems += problems_of(psycopg_connection(connection), wanted, events)
        connection.rollback()
    if problems:
        raise ProblemsError("the manifest", problems, hint="nothing was changed")


def check(engine: Engine, declaration: Declaration) -> list[Problem]:
    """What Postgres says against the rules of a declaration, by the tables that it declares; any database will do."""
    with engine.connect() as connection:
        problems = problems_of(psycopg_connection(connection), declaration.derived, declared_columns(declaration))
        connection.rollback()
    return problems


def problems_of(
    driver: psycopg.Connection[Any],
    wanted: Iterable[DerivedDeclaration],
    events: Mapping[EventName, rule_check.Columns],
) -> list[Problem]:
    """What Postgres says against some rules.

    Args:
        driver: in a transaction of which nothing is kept.
        wanted: the rules.
        events: the columns of all events.
    """
    return [
        Problem(".".join(["derived", one.name, *map(str, path)]), message)
        for one in wanted
        for path, message in rule_check.check(driver, rule_of(one.kind, one.definition), events).problems
    ]


_FIXED: Final = {column.name: column.pg_type for column in FIXED_COLUMNS}


def declared_columns(declaration: Declaration) -> dict[EventName, rule_check.Columns]:
    """The columns of the tables that events are to have."""
    return {
        (contract.name, event.signature): _FIXED | {column.name: column.pg_type for column in event.columns}
        for contract in declaration.contracts
        for event in contract.events
    }


def _stored_columns(connection: Connection) -> dict[EventName, rule_check.Columns]:
    """The columns of the tables that events have: their names never change."""
    return {
        (row.name, row.signature): _FIXED | {column["name"]: column["pg_type"] for column in row.columns}
        for row in connection.execute(_EVENTS)
    }


_EVENTS: Final = sa.text("""
    SELECT c.name, e.signature, e.id, e.columns FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
""")


# -- the difference, made ------------------------------------------------------------------------------------------


def take(engine: Engine, steps: Sequence[DerivedStep], programs: Collection[str], patience: float) -> None:
    """Makes the difference, and a row of progress for each chain that a derived table has got.

    Args:
        engine: the database.
        steps: the difference.
        programs: the tables of the manifest's programs: a view that reads one waits until there is one.
        patience: seconds for which each step is tried while others hold what it needs.

    Raises:
        ProblemsError: the SELECT of a view is wrong; what does not read it was made.
        BusyError: others hold what it needs for too long.
    """
    attempt = partial(database.attempt, engine, "derived tables cannot be changed", patience=patience)
    left, problems = _in_order(steps), list[Problem]()
    for step in left:
        try:
            attempt(partial(_take, step=step, programs=programs))
        except (
            psycopg.ProgrammingError,
            psycopg.NotSupportedError,
        ) as error:
            where = "sql" if step.wanted is not None and step.wanted.kind == "view" else ""
            problems.append(Problem(".".join(filter(None, ["derived", step.name, where])), rule_check.explained(error)))
        except ViewInTheWayError as error:
            problems.append(Problem(f"derived.{step.name}", f"{error}; {error.hint}"))
    attempt(_keep_progress)
    if problems:
        raise ProblemsError("the manifest", problems, hint="everything else was applied")


def _in_order(steps: Sequence[DerivedStep]) -> list[DerivedStep]:
    """Views after what they read, and the ends of those that are read by none any more last."""
    rank = {"rows": 0, "aggregate": 0, "view": 1}
    selects = {step.name: step for step in steps if step.wanted is not None and step.wanted.kind == "view"}

    def depth(name: str, below: frozenset[str] = frozenset()) -> int:
        step = selects.get(name)
        if step is None or step.wanted is None or name in below:
            return 0
        return 1 + max((depth(one, below | {name}) for one in step.wanted.definition["uses"]), default=0)

    def place(step: DerivedStep) -> tuple[bool, int, int]:
        return step.wanted is None, rank[step.wanted.kind] if step.wanted is not None else 0, depth(step.name)

    return sorted(steps, key=place)


def _take(connection: Connection, step: DerivedStep, programs: Collection[str]) -> None:
    match step.action:
        case "begin" if step.wanted is not None:
            _begin(connection, step.wanted, programs)
        case "resume" if step.derived_id is not None:
            _resume(connection, step.name, step.derived_id)
        case "end":
            _end(connection, step.name)
    if step.wanted is not None and step.action != "begin":
        views.describe(connection, step.name, step.wanted.comment, step.wanted.comments)
    hold_for_change(connection, wait=database.WAIT)
    end_change(connection)


def _begin(connection: Connection, one: DerivedDeclaration, programs: Collection[str]) -> None:
    rule = rule_of(one.kind, one.definition)
    ids = {(row.name, row.signature): row.id for row in connection.execute(_EVENTS)}
    for older in generations.load(connection, "d.name = %(name)s AND NOT d.served", name=one.name):
        views.forget(connection, older)
    connection.execute(
        sa.update(tables.derived).where(tables.derived.c.name == one.name).values(active=True, remark=_OTHER_RULE)
    )
    checked = _checked(connection, rule)
    key = {"rows": ("chain_id", "block_number", "log_index"), "aggregate": ("chain_id", *rule.key)}
    definition = {**one.definition, "comment": one.comment, "comments": dict(one.comments)}
    new = NewGeneration(
        name=one.name,
        kind=one.kind,
        definition=definition,
        rule=rule,
        columns=tuple({**checked.input, **checked.types}.items()) if one.kind == "rows" else (),
        types=checked.levels,
        key=key.get(one.kind, tuple(rule.key)),
        indexes=tuple(tuple(names) for names in one.definition.get("index", ())),
        event_ids=tuple(sorted(ids[name] for name in rule.events)),
        lookup_ids=tuple(sorted(ids[name] for name in rule.lookups)),
    )
    try:
        with psycopg_connection(connection).transaction():
            views.begin(connection, new)
    except psycopg.errors.UndefinedTable as error:
        if not views.may_wait(connection, error, programs):
            raise
        views.begin(connection, new, waits=True)


def _checked(connection: Connection, rule: Rule) -> rule_check.Checked:
    """The types of a rule's columns, found out as when it was checked; the stand-ins are dropped again."""
    events = _stored_columns(connection)
    driver = psycopg_connection(connection)
    with driver.transaction(force_rollback=True):
        return rule_check.check(driver, rule, events)


def _resume(connection: Connection, name: str, derived_id: int) -> None:
    """Goes on with a build; those beside it that are not served are forgotten, and so is one that it was to replace."""
    (one,) = generations.load(connection, "d.id = %(id)s", id=derived_id)
    others = generations.load(connection, "d.name = %(name)s AND d.id <> %(id)s", name=name, id=derived_id)
    for other in others:
        if one.served or not other.served:
            views.forget(connection, other)
    connection.execute(
        sa.update(tables.derived).where(tables.derived.c.id == derived_id).values(active=True, remark=None)
    )
    if not one.served and one.table_name is None:
        views.show(connection, derived_id)


def _end(connection: Connection, name: str) -> None:
    for one in generations.load(connection, "d.name = %(name)s AND NOT d.served", name=name):
        views.forget(connection, one)
    connection.execute(
        sa.update(tables.derived)
        .where(tables.derived.c.name == name)
        .values(active=False, remark="no longer in the manifest")
    )


def _keep_progress(connection: Connection) -> None:
    connection.execute(
        sa.text("""
            INSERT INTO gapless.derived_progress (derived_id, chain_id)
            SELECT DISTINCT d.id, s.chain_id
            FROM gapless.derived d JOIN gapless.sources s ON s.event_id = ANY(d.event_ids)
            WHERE s.active AND d.active AND d.table_name IS NOT NULL AND d.kind IN ('rows', 'aggregate')
            ON CONFLICT DO NOTHING
        """)
    )
