"""The tables and views of derived tables in Postgres: builds begun, served under their name, described, forgotten."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy.engine import Connection

from indexer.abi.columns import FIXED_COLUMNS
from indexer.store.database import psycopg_connection
from indexer.store.derived import levels, statements
from indexer.store.derived.generations import SCHEMA, Generation, load
from indexer.store.derived.replacing import drop_view, naming_readers, replace_view
from indexer.store.derived.rules import Kind, Rule
from indexer.store.derived.taken_names import require_free
from indexer.store.schema.tables.service import SECRET

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """A build that is to begin.

    Attributes:
        columns: of a table of rows: name and type.
        types: for each level of an aggregate those of its key and of the expressions behind its other columns, by name.
        event_ids, lookup_ids: the events that it reads.
    """

    name: str
    kind: Kind
    definition: Mapping[str, Any]
    rule: Rule
    columns: tuple[tuple[str, str], ...]
    types: tuple[Mapping[str, str], ...]
    key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...]
    event_ids: tuple[int, ...]
    lookup_ids: tuple[int, ...]


def begin(connection: Connection, new: NewGeneration, *, waits: bool = False) -> int:
    """Begins a build: its row in the catalog and its table; the first one of a name is served at once.

    Args:
        connection: in a transaction.
        new: the build.
        waits: a view that is served once there is what it reads (:func:`show_waiting`).

    Returns:
        Its id. It is counted on no chain yet: that takes a row of progress.

    Raises:
        TakenNameError: a program keeps a table of that name, or someone else.
    """
    require_free(connection, "derived", new.name, [new.name])
    driver = psycopg_connection(connection)
    row = driver.execute(
        "SELECT coalesce(max(generation), 0) + 1, coalesce(bool_or(served), false) FROM gapless.derived "
        "WHERE name = %s",
        (new.name,),
    ).fetchone()
    assert row is not None
    number, has_older = row
    table_name = f"{new.name}_g{number}" if new.rule.is_counted else None
    made = driver.execute(
        """
        INSERT INTO gapless.derived (name, kind, generation, definition, table_name, columns, key, indexes, event_ids,
                                     lookup_ids)
        VALUES (%s, %s, %s, %s, %s, '[]', %s, %s, %s, %s) RETURNING id
        """,
        (
            *(new.name, new.kind, number, Jsonb(dict(new.definition)), table_name),
            *(list(new.key), Jsonb([list(one) for one in new.indexes])),
            *(list(new.event_ids), list(new.lookup_ids)),
        ),
    ).fetchone()
    assert made is not None
    derived_id: int = made[0]
    if table_name is not None:
        _create_table(driver, new, table_name)
    if not waits and (not has_older or table_name is None):
        show(connection, derived_id)
    return derived_id


def may_wait(connection: Connection, error: psycopg.errors.UndefinedTable, programs: Collection[str]) -> bool:
    """Whether what a view does not find is a program's table that will come, or a view that waits for one itself."""
    waiting = {one.name for one in load(connection, _WAITING)}
    return any(f'"{SCHEMA}.{name}"' in str(error) for name in {*programs, *waiting})


_WAITING: Final = "d.kind = 'view' AND d.active AND NOT d.served"


def show_waiting(connection: Connection) -> None:
    """Serves the views that waited for what there is by now; of one that is wrong it is noted why it is not served."""
    driver = psycopg_connection(connection)
    for one in load(connection, _WAITING):
        try:
            with driver.transaction():
                show(connection, one.derived_id)
        except psycopg.errors.UndefinedTable:
            continue  # something else that it reads is not there yet
        except psycopg.ProgrammingError as error:
            problem = f"its sql is wrong: {error.diag.message_primary or error}"
            noted = driver.execute(
                "UPDATE gapless.derived SET remark = %s WHERE id = %s AND remark IS NULL", (problem, one.derived_id)
            )
            if noted.rowcount:
                log.error("derived table %s is not served: %s", one.name, problem)


def _create_table(driver: psycopg.Connection[Any], new: NewGeneration, table_name: str) -> None:
    table = sql.Identifier(SCHEMA, table_name)
    if new.kind == "aggregate":
        below = None
        for rule, types, name in zip(new.rule.levels, new.types, levels.table_names(new.rule, table_name), strict=True):
            level = sql.Identifier(SCHEMA, name)
            _create(driver, level, statements.stored_columns(rule, types), ("chain_id", *rule.key))
            if below is not None:
                for statement in levels.following(rule, below, level):
                    driver.execute(statement)
                _comment(driver, below, f"what the derived table {new.name} is counted from; not shown")
            below = level
    else:
        _create(driver, table, [(name, kind, name in new.key) for name, kind in new.columns], new.key)
    shown = dict(statements.shown_columns(new.rule)) if new.kind == "aggregate" else {}
    for names in new.indexes:
        indexed = [shown.get(name, sql.Identifier(name)) for name in dict.fromkeys(("chain_id", *names, *new.key))]
        parts = sql.SQL(", ").join(sql.SQL("({})").format(one) for one in indexed)
        driver.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, parts))
    _comment(
        driver, table, f"generation of the derived table {new.name}; derived.{new.name} is the view of the served one"
    )


def _create(
    driver: psycopg.Connection[Any], table: sql.Identifier, columns: Iterable[tuple[str, str, bool]], key: Sequence[str]
) -> None:
    described = sql.SQL(", ").join(
        sql.SQL("{} {}{}").format(sql.Identifier(name), sql.SQL(kind), sql.SQL(" NOT NULL" if required else ""))
        for name, kind, required in columns
    )
    driver.execute(
        sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({})) WITH (fillfactor = 85)").format(
            table, described, statements.names(key)
        )
    )


def _comment(driver: psycopg.Connection[Any], table: sql.Identifier, text: str) -> None:
    driver.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(text)))


def show(connection: Connection, derived_id: int) -> None:
    """Serves a generation under its name, in place of the one before, which is forgotten with its table.

    Raises:
        ViewInTheWayError: a view of a user reads what is replaced, and does not fit what takes its place.
    """
    driver = psycopg_connection(connection)
    (one,) = load(connection, "d.id = %(id)s", id=derived_id)
    older = load(connection, "d.name = %(name)s AND d.id <> %(id)s AND d.served", name=one.name, id=derived_id)
    readers = _replace_view(connection, one)
    for before in older:
        forget(connection, before)
    driver.execute("UPDATE gapless.derived SET served = true, remark = NULL WHERE id = %s", (derived_id,))
    show_again(connection, readers)


def _refuse_secrets(connection: Connection, name: str) -> None:
    secret = (
        psycopg_connection(connection)
        .execute(
            """
            SELECT c.relname FROM pg_depend d
            JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
            JOIN pg_class c ON c.oid = d.refobjid AND c.relnamespace = 'gapless'::regnamespace
            WHERE w.ev_class = to_regclass(%s) AND c.relname = ANY(%s) LIMIT 1
            """,
            (f'{SCHEMA}."{name}"', list(SECRET)),
        )
        .fetchone()
    )
    if secret is not None:
        raise psycopg.ProgrammingError(f"gapless.{secret[0]} holds what only administrators read: it may not be shown")


def show_again(connection: Connection, names: Iterable[str]) -> None:
    """Makes views anew that read what was replaced; one that does not fit any more is not served, and says why."""
    driver = psycopg_connection(connection)
    for name in names:
        for reader in load(connection, "d.name = %(name)s AND d.served", name=name):
            try:
                with driver.transaction():
                    _replace_view(connection, reader)
            except psycopg.ProgrammingError as error:
                problem = f"its sql does not fit what it reads any more: {error.diag.message_primary}"
                log.error("derived table %s is not served: %s", reader.name, problem)
                driver.execute(
                    "UPDATE gapless.derived SET served = false, remark = %s WHERE id = %s", (problem, reader.derived_id)
                )


def _replace_view(connection: Connection, one: Generation) -> list[str]:
    """Shows a generation under its name; returns the views that are to be made anew (:func:`replace_view`)."""
    driver = psycopg_connection(connection)
    body: sql.Composable
    if one.kind == "view":
        body = sql.SQL(one.rule.sql or "")
    elif one.table_name is None:
        body = statements.selected_rows(one.rule, one.tables, statements.whole)
    elif one.kind == "aggregate":
        shown = [
            sql.SQL("{} AS {}").format(text, sql.Identifier(name)) for name, text in statements.shown_columns(one.rule)
        ]
        body = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(shown), one.identifiers[-1])
    else:
        body = sql.SQL("SELECT * FROM {}").format(one.identifiers[-1])
    # A per cent sign of an expression is doubled for statements with parameters, which this one is not.
    text = body.as_string(driver)
    select = sql.SQL(text if one.kind == "view" else text.replace("%%", "%"))
    readers = replace_view(connection, one.name, select)
    if one.kind == "view":
        _refuse_secrets(connection, one.name)
    _describe(connection, one)
    return readers


def describe(connection: Connection, name: str, comment: str, comments: Mapping[str, str]) -> None:
    """Says what a derived table and its columns are, in Postgres and in the catalog."""
    psycopg_connection(connection).execute(
        "UPDATE gapless.derived SET definition = definition || %s WHERE name = %s",
        (Jsonb({"comment": comment, "comments": dict(comments)}), name),
    )
    for one in load(connection, "d.name = %(name)s AND d.served", name=name):
        _describe(connection, one)


def _describe(connection: Connection, one: Generation) -> None:
    driver = psycopg_connection(connection)
    view = sql.Identifier(SCHEMA, one.name)
    row = driver.execute(
        "SELECT definition -> 'comment', definition -> 'comments' FROM gapless.derived WHERE id = %s", (one.derived_id,)
    ).fetchone()
    comment, given = row if row is not None else (None, None)
    comments = {**_default_comments(one), **(given or {})}
    columns = [
        {"name": name, "type": kind, "comment": comments.get(name, "")}
        for name, kind in view_columns(connection, one.name)
    ]
    driver.execute("UPDATE gapless.derived SET columns = %s WHERE id = %s", (Jsonb(columns), one.derived_id))
    text = comment or f"derived table of kind {one.kind}"
    driver.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(text)))
    for column in columns:
        driver.execute(
            sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                view, sql.Identifier(column["name"]), sql.Literal(column["comment"] or None)
            )
        )


def _default_comments(one: Generation) -> dict[str, str]:
    """What the columns of inputs are, and how the others are made."""
    fixed = {column.name: column.comment for column in FIXED_COLUMNS}
    of_events = {column.name: column.comment for table in one.tables.values() for column in table.columns}
    made = {name: f"{fold} of {text}" for name, (fold, text) in one.rule.values.items()}
    counted = {one.rule.count: "rows of the key"} if one.rule.count is not None else {}
    inputs = fixed if one.kind == "aggregate" else {**of_events, **fixed}
    return {**inputs, **one.rule.key, **one.rule.select, **made, **counted}


def forget(connection: Connection, one: Generation) -> None:
    """Deletes a generation with its table; the view of its name, if it was served, is dropped before."""
    driver = psycopg_connection(connection)
    if one.table_name is not None:
        with naming_readers(one.name):
            for table in one.identifiers:
                driver.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        for table in one.identifiers[1:]:
            driver.execute(levels.dropping(table))
    driver.execute("DELETE FROM gapless.derived WHERE id = %s", (one.derived_id,))


def drop(connection: Connection, name: str) -> None:
    """Deletes a derived table: its view, and all of its builds."""
    readers = drop_view(connection, name)
    for one in load(connection, "d.name = %(name)s", name=name):
        forget(connection, one)
    show_again(connection, readers)


def forget_reading(connection: Connection, event_ids: Collection[int]) -> None:
    """Deletes the builds that read events which are being dropped; another build of the name is shown then."""
    for one in load(connection, "(d.event_ids || d.lookup_ids) && %(ids)s::integer[]", ids=list(event_ids)):
        log.warning("derived table %s: generation %d is dropped with what it reads", one.name, one.generation)
        left = load(connection, "d.name = %(name)s AND d.id <> %(id)s", name=one.name, id=one.derived_id)
        readers = drop_view(connection, one.name) if one.served else []
        forget(connection, one)
        if one.served and left:
            show(connection, left[-1].derived_id)
        show_again(connection, readers)


def view_columns(connection: Connection, name: str) -> list[tuple[str, str]]:
    """The columns of a view of the schema ``derived``, with their types."""
    rows = connection.execute(
        sa.text("""
            SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
            WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
        """),
        {"name": f'derived."{name}"'},
    )
    return [(row[0], row[1]) for row in rows]
