"""Aggregates over the rows of an aggregate: how many users a day has, out of a row for each user and day.

Each *level* is a table of the same build. The first is counted from the rows of events, like any aggregate. Triggers of
each table keep the one above it in step: whatever statement changes rows below (a step, the head, what is taken back,
a repair) takes the rows that were there away from their keys, and adds those that are there now, in its transaction.
So nothing that counts knows of further levels, and at every commit each is what its rule makes of the one below.

Only what can be subtracted is kept so: counts, sums and averages.
"""

from collections.abc import Iterator

from psycopg import sql

from indexer.store.derived import statements
from indexer.store.derived.rules import Rule


def table_names(rule: Rule, table_name: str) -> tuple[str, ...]:
    """The tables of a build, that of its first level first; the last one is shown."""
    return (*(f"{table_name}_{at}" for at in range(1, len(rule.levels))), table_name)


def recomputed(rule: Rule, below: sql.Identifier) -> sql.Composed:
    """What a level's table must hold, by the table below. Parameter: ``chain_id``."""
    return statements.fold(rule, _valued(rule, sql.SQL("{} b WHERE chain_id = %(chain_id)s AND").format(below)))


def following(rule: Rule, below: sql.Identifier, table: sql.Identifier) -> Iterator[sql.Composed]:
    """Has a level's table follow from the table below; the function goes with :func:`dropping`.

    Args:
        rule: the level's.
        below: the table that it reads, without rows yet.
        table: its own, without rows too.
    """
    name = _function(table)
    branches = {
        "INSERT": _change(rule, table, added="_new", gone=None),
        "UPDATE": _change(rule, table, added="_new", gone="_old"),
        "DELETE": _change(rule, table, added=None, gone="_old"),
    }
    cases = sql.SQL(" ").join(
        sql.SQL("IF TG_OP = {} THEN {} END IF;").format(sql.Literal(event), body) for event, body in branches.items()
    )
    text = "#variable_conflict use_column\nDECLARE keys_changed bigint; BEGIN {} RETURN NULL; END"
    body = sql.SQL(text).format(cases).as_string(None).replace("%%", "%")
    yield sql.SQL("CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS {}").format(name, sql.Literal(body))
    for event, tables in (
        ("INSERT", "NEW TABLE AS _new"),
        ("UPDATE", "OLD TABLE AS _old NEW TABLE AS _new"),
        ("DELETE", "OLD TABLE AS _old"),
    ):
        yield sql.SQL(
            "CREATE TRIGGER {trigger} AFTER {event} ON {below} REFERENCING {tables} "
            "FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        ).format(
            trigger=sql.Identifier(f"followed_{event.lower()}"),
            event=sql.SQL(event),
            below=below,
            tables=sql.SQL(tables),
            name=name,
        )


def dropping(table: sql.Identifier) -> sql.Composed:
    """Drops the function that keeps a table in step, after the table below."""
    return sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(table))


def _function(table: sql.Identifier) -> sql.Identifier:
    schema, name = table._obj
    return sql.Identifier(schema, f"{name}_f")


def _valued(rule: Rule, source: sql.Composable) -> sql.Composed:
    """The valued rows of a level; ``source`` is what stands behind FROM, up to a condition."""
    assert rule.layer is not None
    assert rule.layer.below is not None
    named = (
        sql.SQL("{} AS {}").format(text, sql.Identifier(name))
        for name, text in statements.shown_columns(rule.layer.below)
    )
    computed = (
        sql.SQL(", {} AS {}").format(statements.expression(text), sql.Identifier(name))
        for name, text in statements.value_texts(rule).items()
    )
    rows = sql.SQL("SELECT r.chain_id{} FROM (SELECT {} FROM {} _rows > 0) r WHERE {}").format(
        sql.SQL("").join(computed),
        sql.SQL(", ").join(named),
        source,
        sql.SQL("true") if rule.layer.where is None else statements.expression(rule.layer.where),
    )
    return statements.with_key(rule, rows)


def _change(rule: Rule, table: sql.Identifier, *, added: str | None, gone: str | None) -> sql.Composed:
    """Adds what rows below give and takes away what others gave, key by key in one order."""
    key = statements.names(["chain_id", *rule.key])
    columns = statements.folded_columns(rule)
    parts = [
        sql.SQL("SELECT {}, {} FROM ({}) f").format(
            key,
            sql.SQL(", ").join(sql.SQL(sign + "{0} AS {0}").format(sql.Identifier(name)) for name in columns),
            statements.fold(rule, _valued(rule, sql.SQL("{} b WHERE").format(sql.Identifier(rows)))),
        )
        for sign, rows in (("", added), ("-", gone))
        if rows is not None
    ]
    changed = sql.SQL(
        "INSERT INTO {table} AS k ({key}, {columns}) SELECT {key}, {summed} FROM ({parts}) d GROUP BY {key} "
        "HAVING {differs} ORDER BY {key} ON CONFLICT ({key}) DO UPDATE SET {merged};"
    ).format(
        table=table,
        key=key,
        columns=statements.names(columns),
        summed=sql.SQL(", ").join(sql.SQL("sum({})").format(sql.Identifier(name)) for name in columns),
        parts=sql.SQL(" UNION ALL ").join(parts),
        differs=sql.SQL(" OR ").join(sql.SQL("sum({}) <> 0").format(sql.Identifier(name)) for name in columns),
        merged=sql.SQL(", ").join(
            sql.SQL("{0} = k.{0} + excluded.{0}").format(sql.Identifier(name)) for name in columns
        ),
    )
    if gone is None:
        return changed
    same = sql.SQL(" AND ").join(
        sql.SQL("k.{0} = d.{0}").format(sql.Identifier(name)) for name in ("chain_id", *rule.key)
    )
    # Statements with transition tables are planned each time.
    return sql.SQL(
        "{} GET DIAGNOSTICS keys_changed = ROW_COUNT; "
        "IF keys_changed > 0 THEN DELETE FROM {} k USING ({}) d WHERE {} AND k._rows <= 0; END IF;"
    ).format(
        changed,
        table,
        statements.fold(rule, _valued(rule, sql.SQL("{} b WHERE").format(sql.Identifier(gone)))),
        same,
    )
