"""What rules say, as SQL.

The rows that a rule reads are a SELECT over event tables, each read as ``reading`` says: whole, or some blocks of it.
Everything that is counted or taken back is made of that one SELECT, so that both are the same rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from psycopg import sql

from indexer.abi.columns import FIXED_COLUMNS
from indexer.store.derived.rules import POSITION, EventName, Layer, Rule
from indexer.store.schema.layout import EventTable

EventTables: TypeAlias = Mapping[EventName, EventTable]
Reading: TypeAlias = Callable[[EventTable], sql.Composed]
"""What stands behind FROM for the rows of an event, as ``t``."""

_RANGE: Final = sql.SQL("t.chain_id = %(chain_id)s AND t.block_number BETWEEN %(first)s AND %(last)s")
_TRUE: Final = sql.SQL("true")
#: A row's position as one number, by which min and max find the first and the last row of a key without sorting.
#: Blocks and indexes of logs have up to 63 bits each, and both do.
_POSITION: Final = sql.SQL("r.block_number::numeric * 9223372036854775808 + r.log_index AS _at")
_LOG_OF: Final = sql.SQL("mod({}(_at), 9223372036854775808)::bigint")
#: Columns of a stored aggregate that are not shown: where its first and last rows are.
_PLACES: Final = ("_first_block", "_first_log", "_last_block", "_last_log")


def where(condition: sql.Composable) -> Reading:
    """The rows of an event that a condition takes."""
    return lambda table: sql.SQL("{} t WHERE {}").format(table.identifier, condition)


def whole(table: EventTable) -> sql.Composed:
    """All rows of an event."""
    return sql.SQL("{} t").format(table.identifier)


#: The rows of one range of blocks. Parameters: ``chain_id``, ``first``, ``last``.
within: Final = where(_RANGE)


def _read_before(table: EventTable) -> sql.Composed:
    """The rows of a range of blocks that the statement has read once for all rules."""
    return sql.SQL("{} t").format(_rows_of(table))


def _rows_of(table: EventTable) -> sql.Identifier:
    return sql.Identifier(f"_rows_{table.event_id}")


def expression(text: str) -> sql.Composable:
    """An expression of the manifest, for a statement with parameters; a comment in it ends with its line."""
    return sql.SQL("({}\n)").format(sql.SQL(text.replace("%", "%%")))


def names(columns: Iterable[str]) -> sql.Composed:
    """Columns, quoted and separated by commas."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def common(tables: Sequence[EventTable]) -> dict[str, str]:
    """The columns that all of some event tables have, with their types."""
    each = [
        dict(zip(table.column_names, [*_FIXED, *(c.pg_type for c in table.columns)], strict=True)) for table in tables
    ]
    return {name: kind for name, kind in each[0].items() if all(one.get(name) == kind for one in each)}


_FIXED: Final = [column.pg_type for column in FIXED_COLUMNS]


def _input(layer: Layer, tables: EventTables, reading: Reading) -> sql.Composed:
    if layer.below is not None:
        return selected_rows(layer.below, tables, reading)
    given = [tables[name] for name in layer.events]
    columns = sql.SQL(", ").join(sql.Identifier("t", name) for name in common(given))
    arms = [sql.SQL("SELECT {} FROM {}").format(columns, reading(table)) for table in given]
    return sql.SQL(" UNION ALL ").join(arms)


def _projected(
    layer: Layer, tables: EventTables, reading: Reading, kept: sql.Composable, columns: Mapping[str, str]
) -> sql.Composed:
    """The rows of a layer that its condition takes: what is kept of each, and expressions over it by their names."""
    parts = {
        "input": _input(layer, tables, reading),
        "kept": kept,
        "columns": sql.SQL("").join(
            sql.SQL(", {} AS {}").format(expression(text), sql.Identifier(name)) for name, text in columns.items()
        ),
        "where": sql.SQL("true") if layer.where is None else expression(layer.where),
    }
    if not layer.lookups:
        return sql.SQL("SELECT {kept}{columns} FROM ({input}) r WHERE {where}").format(**parts)
    # Names without a table mean columns of the row itself: they are looked for in the innermost scope first.
    computed = sql.SQL("").join(sql.SQL(", e.{}").format(sql.Identifier(name)) for name in columns)
    joins = [_lookup(name, layer, tables) for name in layer.lookups]
    return sql.SQL(
        "SELECT {kept}{computed} FROM ({input}) r {joins} "
        "CROSS JOIN LATERAL (SELECT true AS _taken{columns} FROM (SELECT r.*) r WHERE {where}) e"
    ).format(computed=computed, joins=sql.SQL(" ").join(joins), **parts)


def _lookup(name: str, layer: Layer, tables: EventTables) -> sql.Composed:
    lookup = layer.lookups[name]
    sought = sql.Identifier(f"_{name}")
    by = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(expression(text), sql.Identifier(f"k{at}")) for at, (_, text) in enumerate(lookup.on)
    )
    fits = sql.SQL("").join(
        sql.SQL(" AND p.{} = {}.{}").format(sql.Identifier(column), sought, sql.Identifier(f"k{at}"))
        for at, (column, _) in enumerate(lookup.on)
    )
    direction = sql.SQL("DESC") if lookup.take == "last" else sql.SQL("ASC")
    return sql.SQL(
        "LEFT JOIN LATERAL (SELECT {by} FROM (SELECT r.*) r) {sought} ON true "
        "LEFT JOIN LATERAL (SELECT p.* FROM {table} p WHERE p.chain_id = r.chain_id "
        "AND (p.block_number, p.log_index) < (r.block_number, r.log_index){fits} "
        "ORDER BY p.block_number {direction}, p.log_index {direction} LIMIT 1) {name} ON true"
    ).format(
        by=by,
        sought=sought,
        table=tables[lookup.event].identifier,
        fits=fits,
        direction=direction,
        name=sql.Identifier(name),
    )


# -- rows ----------------------------------------------------------------------------------------------------------


def selected_rows(rule: Rule, tables: EventTables, reading: Reading) -> sql.Composed:
    """The rows of a rule of rows: all columns of its input, and those that it selects."""
    assert rule.layer is not None
    return _projected(rule.layer, tables, reading, sql.SQL("r.*"), rule.select)


# -- aggregates ----------------------------------------------------------------------------------------------------


def stored_columns(rule: Rule, types: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    """The columns of an aggregate's table: name, type, and whether each row has a value.

    Args:
        rule: the rule.
        types: of its key and of the expressions behind its other columns, by their names.
    """
    columns = [("chain_id", "bigint", True), *((name, types[name], True) for name in rule.key)]
    for name, (fold, _) in rule.values.items():
        if fold == "average":
            columns += [(f"_sum_{name}", "numeric", True), (f"_rows_{name}", "bigint", True)]
        else:
            columns.append((name, "numeric" if fold == "sum" else types[name], fold == "sum"))
    columns.append(("_rows", "bigint", True))
    if rule.is_ordered:
        columns += [(name, "bigint", True) for name in _PLACES]
    return columns


def shown_columns(rule: Rule) -> list[tuple[str, sql.Composable]]:
    """What the view of an aggregate shows: names, and expressions over its table."""
    shown: list[tuple[str, sql.Composable]] = [(name, sql.Identifier(name)) for name in ("chain_id", *rule.key)]
    if rule.count is not None:
        shown.append((rule.count, sql.Identifier("_rows")))
    for name, (fold, _) in rule.values.items():
        total, rows = sql.Identifier(f"_sum_{name}"), sql.Identifier(f"_rows_{name}")
        text: sql.Composable = sql.Identifier(name)
        shown.append((name, sql.SQL("{} / nullif({}, 0)").format(total, rows) if fold == "average" else text))
    return shown


def valued_rows(rule: Rule, tables: EventTables, reading: Reading) -> sql.Composed:
    """The rows that an aggregate counts: position, key, and the value behind each column; not those without a key."""
    assert rule.layer is not None
    position = [sql.SQL("r.{}").format(sql.Identifier(name)) for name in POSITION]
    kept = sql.SQL(", ").join([*position, _POSITION] if rule.is_ordered else position)
    return with_key(rule, _projected(rule.layer, tables, reading, kept, value_texts(rule)))


def value_texts(rule: Rule) -> dict[str, str]:
    """The expressions of an aggregate's key and of its other columns, under the names of valued rows.

    They are names of their own: a column of the aggregate may be called like one of the row.
    """
    texts = [*rule.key.values(), *(text for _, text in rule.values.values())]
    return {f"_v{at}": text for at, text in enumerate(texts)}


def with_key(rule: Rule, rows: sql.Composable) -> sql.Composed:
    """Of valued rows those that have a whole key."""
    keyed = (sql.SQL("{} IS NOT NULL").format(sql.Identifier(f"_v{at}")) for at in range(len(rule.key)))
    return sql.SQL("SELECT * FROM ({}) v WHERE {}").format(rows, sql.SQL(" AND ").join(keyed))


def _value(rule: Rule, name: str) -> sql.Identifier:
    return sql.Identifier(f"_v{[*rule.key, *rule.values].index(name)}")


def _folded(rule: Rule) -> list[tuple[str, sql.Composable]]:
    """The stored columns of an aggregate beside its key, each as an aggregate function over the valued rows."""
    folded: list[tuple[str, sql.Composable]] = []
    # Both arrays are in one order, whichever it is. Sorting the rows (ORDER BY within an aggregate) takes longer.
    at = sql.SQL("(array_agg({}))[array_position(array_agg(_at), {}(_at))]")
    for name, (fold, _) in rule.values.items():
        value = _value(rule, name)
        match fold:
            case "sum":
                folded.append((name, sql.SQL("coalesce(sum({}::numeric), 0)").format(value)))
            case "average":
                folded.append((f"_sum_{name}", sql.SQL("coalesce(sum({}::numeric), 0)").format(value)))
                folded.append((f"_rows_{name}", sql.SQL("count({})").format(value)))
            case "min" | "max":
                folded.append((name, sql.SQL("{}({})").format(sql.SQL("min" if fold == "min" else "max"), value)))
            case "first" | "last":
                folded.append((name, at.format(value, sql.SQL("min" if fold == "first" else "max"))))
    folded.append(("_rows", sql.SQL("count(*)")))
    if rule.is_ordered:
        folded += [
            ("_first_block", sql.SQL("min(block_number)")),
            ("_first_log", _LOG_OF.format(sql.SQL("min"))),
            ("_last_block", sql.SQL("max(block_number)")),
            ("_last_log", _LOG_OF.format(sql.SQL("max"))),
        ]
    return folded


def grouped(rule: Rule, tables: EventTables, reading: Reading, condition: sql.Composable = _TRUE) -> sql.Composed:
    """What an aggregate's table has of some rows: one row for each key."""
    return fold(rule, valued_rows(rule, tables, reading), condition)


def fold(rule: Rule, valued: sql.Composable, condition: sql.Composable = _TRUE) -> sql.Composed:
    """What an aggregate's table has of valued rows that a condition takes: one row for each key."""
    keys = [sql.Identifier(f"_v{at}") for at in range(len(rule.key))]
    return sql.SQL("SELECT chain_id, {keys}, {folded} FROM ({rows}) g WHERE {condition} GROUP BY {groups}").format(
        keys=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(key, sql.Identifier(name)) for key, name in zip(keys, rule.key, strict=True)
        ),
        folded=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(text, sql.Identifier(name)) for name, text in _folded(rule)
        ),
        rows=valued,
        condition=condition,
        groups=sql.SQL(", ").join([sql.Identifier("chain_id"), *keys]),
    )


def _merged(name: str, fold: str) -> sql.Composed:
    mine, given = sql.Identifier("k", name), sql.Identifier("excluded", name)
    earlier = sql.SQL("(excluded._first_block, excluded._first_log) < (k._first_block, k._first_log)")
    later = sql.SQL("(excluded._last_block, excluded._last_log) > (k._last_block, k._last_log)")
    match fold:
        case "min" | "max":
            text = sql.SQL("{}({}, {})").format(sql.SQL("least" if fold == "min" else "greatest"), mine, given)
        case "first" | "last":
            text = sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(
                earlier if fold == "first" else later, given, mine
            )
        case _:
            text = sql.SQL("{} + {}").format(mine, given)
    return sql.SQL("{} = {}").format(sql.Identifier(name), text)


def folded_columns(rule: Rule) -> list[str]:
    """The stored columns of an aggregate beside its key."""
    return [name for name, _ in _folded(rule)]


def _folds(rule: Rule) -> list[tuple[str, str]]:
    """The stored columns beside the key, each with how two of its values become one."""
    of = {name: fold for name, (fold, _) in rule.values.items()}
    places = {"_first_block": "first", "_first_log": "first", "_last_block": "last", "_last_log": "last"}
    return [(name, of.get(name) or places.get(name, "sum")) for name, _ in _folded(rule)]


def count(rule: Rule, table: sql.Identifier, tables: EventTables, reading: Reading = within) -> sql.Composed:
    """Counts the rows of a range of blocks."""
    if rule.kind == "rows":
        return sql.SQL("INSERT INTO {} {}").format(table, selected_rows(rule, tables, reading))
    key = names(["chain_id", *rule.key])
    # OFFSET 0: only what has been grouped is sorted; Postgres would group by sorting all rows.
    return sql.SQL(
        "INSERT INTO {table} AS k ({columns}) SELECT * FROM ({grouped} OFFSET 0) g ORDER BY {key} "
        "ON CONFLICT ({key}) DO UPDATE SET {merged}"
    ).format(
        table=table,
        columns=names(["chain_id", *rule.key, *(name for name, _ in _folded(rule))]),
        grouped=grouped(rule, tables, reading),
        key=key,
        merged=sql.SQL(", ").join(_merged(name, fold) for name, fold in _folds(rule)),
    )


def count_together(counted: Iterable[tuple[Rule, sql.Identifier, EventTables]]) -> sql.Composed:
    """Counts the rows of a range of blocks for several rules, each with its table: rows are read once for all."""
    every = list(counted)
    read = {table.event_id: table for rule, _, tables in every for table in (tables[name] for name in rule.events)}
    parts = [
        sql.SQL("{} AS MATERIALIZED (SELECT t.* FROM {})").format(_rows_of(table), within(table))
        for table in read.values()
    ]
    parts += [
        sql.SQL("{} AS ({})").format(sql.Identifier(f"_counted_{at}"), count(rule, into, tables, _read_before))
        for at, (rule, into, tables) in enumerate(every)
    ]
    return sql.SQL("WITH {} SELECT").format(sql.SQL(", ").join(parts))


def take_back(rule: Rule, table: sql.Identifier, tables: EventTables) -> sql.Composed:
    """Takes back what the rows of a range of blocks gave, before they are changed.

    A further parameter, ``rest``: the blocks that stay counted, of all that the table has. It returns where the rows
    are (``ctid``) whose key has no row any more: they are to be deleted.
    """
    if rule.kind == "rows":
        gone = "DELETE FROM {} WHERE chain_id = %(chain_id)s AND block_number BETWEEN %(first)s AND %(last)s"
        return sql.SQL("WITH gone AS (" + gone + " RETURNING 1) SELECT NULL::tid FROM gone WHERE false").format(table)
    changed = _recompute(rule, table, tables) if rule.is_ordered else _subtract(rule, table, tables)
    return sql.SQL("WITH {} SELECT place FROM changed WHERE left_over = 0").format(changed)


def _same_key(rule: Rule, left: str, right: str) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(left, name), sql.Identifier(right, name))
        for name in ("chain_id", *rule.key)
    )


def _subtract(rule: Rule, table: sql.Identifier, tables: EventTables) -> sql.Composed:
    return sql.SQL(
        "changed AS (UPDATE {table} k SET {values} FROM ({gone}) gone WHERE {same} "
        "RETURNING k.ctid AS place, k._rows AS left_over)"
    ).format(
        table=table,
        values=sql.SQL(", ").join(
            sql.SQL("{0} = k.{0} - gone.{0}").format(sql.Identifier(name)) for name, _ in _folded(rule)
        ),
        gone=grouped(rule, tables, within),
        same=_same_key(rule, "k", "gone"),
    )


def _recompute(rule: Rule, table: sql.Identifier, tables: EventTables) -> sql.Composed:
    """Computes the touched keys anew, from the blocks between the first and the last row of any of them."""
    required = {
        name for name, _, required in stored_columns(rule, dict.fromkeys([*rule.key, *rule.values], "")) if required
    }
    spanned = where(
        sql.SQL(
            "t.chain_id = %(chain_id)s AND t.block_number BETWEEN (SELECT low FROM span) AND (SELECT high FROM span) "
            "AND t.block_number <@ %(rest)s::int8multirange"
        )
    )
    own = sql.SQL(", ").join(sql.Identifier(f"_v{at}") for at in range(len(rule.key)))
    touched = sql.SQL("SELECT DISTINCT chain_id, {} FROM ({}) d").format(
        sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(f"_v{at}"), sql.Identifier(name))
            for at, name in enumerate(rule.key)
        ),
        valued_rows(rule, tables, within),
    )
    anew = grouped(rule, tables, spanned, sql.SQL("({}) IN (SELECT {} FROM touched)").format(own, names(rule.key)))
    values = [
        sql.SQL("{0} = coalesce(anew.{0}, 0)" if name in required else "{0} = anew.{0}").format(sql.Identifier(name))
        for name, _ in _folded(rule)
    ]
    return sql.SQL("""
             touched AS MATERIALIZED ({touched}),
             span AS MATERIALIZED (SELECT min(k._first_block) AS low, max(k._last_block) AS high
                                   FROM {table} k JOIN touched d ON {in_table}),
             anew AS MATERIALIZED ({anew}),
             changed AS (UPDATE {table} k SET {values} FROM touched d LEFT JOIN anew ON {in_anew} WHERE {in_table}
                         RETURNING k.ctid AS place, k._rows AS left_over)
    """).format(
        touched=touched,
        table=table,
        in_table=_same_key(rule, "k", "d"),
        anew=anew,
        values=sql.SQL(", ").join(values),
        in_anew=_same_key(rule, "anew", "d"),
    )


def recomputed(rule: Rule, tables: EventTables) -> sql.Composed:
    """What the whole table must hold, by the blocks that are counted. Parameters: ``chain_id``, ``counted``."""
    reading = where(sql.SQL("t.chain_id = %(chain_id)s AND t.block_number <@ %(counted)s::int8multirange"))
    return selected_rows(rule, tables, reading) if rule.kind == "rows" else grouped(rule, tables, reading)
