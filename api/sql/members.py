"""The members of a collection's rows: how each is written as JSON and as CSV, and its schema."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from api.schemas import Schema, an_object, column_schema
from api.sql import statement
from api.sql.statement import identifier
from indexer.abi.columns import Column


@dataclass(frozen=True, slots=True)
class Member:
    """One member.

    Attributes:
        name: of the member, and of the column in a CSV.
        json: SQL of its JSON text, never null.
        csv: SQL of its value in a CSV.
        schema: of the value.
        usual: whether a row has it where ``fields`` is left out.
        parts: members of the object that it is; in a CSV each has a column, ``<name>.<part>``. None: it is no object
            of that kind.
        fields: whether ``fields`` may name its parts.
    """

    name: str
    json: str
    csv: str
    schema: Schema
    usual: bool = True
    parts: tuple["Member", ...] | None = None
    fields: bool = True


def plain(name: str, expression: str, schema: Schema, *, null: bool = False, usual: bool = True) -> Member:
    """A text that JSON writes as it is: digits, hex, a time, a word."""
    return Member(name, _or_null(statement.quoted(expression), null=null), expression, schema, usual)


def text(name: str, expression: str, schema: Schema) -> Member:
    """A text that may hold anything, or null."""
    return Member(name, _or_null(f"to_json({expression})::text", null=True), expression, schema)


def value(
    name: str, expression: str, schema: Schema, *, null: bool = False, usual: bool = True, csv: str | None = None
) -> Member:
    """A number, a truth value or a document: what JSON writes without quotes."""
    return Member(name, _or_null(f"{expression}::text", null=null), csv or expression, schema, usual)


def hexadecimal(name: str, expression: str, schema: Schema, *, null: bool = False) -> Member:
    """Bytes as ``0x...``."""
    return plain(name, statement.hexadecimal(expression), schema, null=null)


def of_column(column: Column) -> Member:
    """An argument of an event, or an output of a call."""
    return Member(column.argument, statement.value_text(column), _csv_value(column), column_schema(column))


def group(name: str, parts: Iterable[Member], *, schema: Schema | None = None, fields: bool = True) -> Member:
    """An object of members.

    Args:
        name: of the object.
        parts: its members.
        schema: of the object; left out, that of its members, each of which ``fields`` may leave out.
        fields: whether ``fields`` may name its members.
    """
    found = tuple(parts)
    described = schema or an_object({part.name: part.schema for part in found}, required=())
    return Member(name, statement.object_text([(p.name, p.json) for p in found]), "", described, True, found, fields)


def _or_null(expression: str, *, null: bool) -> str:
    return f"coalesce({expression}, 'null')" if null else expression


def _csv_value(column: Column) -> str:
    name = f"t.{identifier(column.name)}"
    match column.rendering:
        case "hex":
            return statement.hexadecimal(name)
        case "bool":
            return f"{name}::text"
        case "integer" | "string_integer" | "string_decimal" | "text":
            return name
        case "hex[]" | "integer[]" | "string_integer[]" | "string_decimal[]" | "bool[]" | "text[]" | "json":
            return statement.value_text(column)
        case never:
            assert_never(never)


def field_names(members: Iterable[Member]) -> list[str]:
    """What ``fields`` may name: members, and parts as ``<name>.<part>``; a name with a comma would end in a list."""
    found = []
    for member in members:
        found.append(member.name)
        if member.fields:
            found += [f"{member.name}.{part.name}" for part in member.parts or () if "," not in part.name]
    return found


def chosen(members: Iterable[Member], fields: Collection[str]) -> list[Member]:
    """The members of a row that a request is answered with.

    Args:
        members: all.
        fields: those that it names; empty for the usual ones.
    """
    found = []
    for member in members:
        parts = [part for part in member.parts or () if f"{member.name}.{part.name}" in fields]
        if member.name in fields or (not fields and member.usual):
            found.append(member)
        elif parts:
            found.append(replace(group(member.name, parts), usual=member.usual))
    return found


def json_row(members: Iterable[Member]) -> str:
    """An expression for the JSON text of a row ``t``."""
    return statement.object_text([(member.name, member.json) for member in members])


def csv_columns(members: Iterable[Member]) -> dict[str, str]:
    """The columns of a CSV: names, and expressions over a row ``t``."""
    columns: dict[str, str] = {}
    for member in members:
        if member.parts is None:
            columns[member.name] = member.csv
        else:
            columns |= {f"{member.name}.{part.name}": part.csv for part in member.parts}
    return columns


def column_schemas(members: Iterable[Member]) -> dict[str, Schema]:
    """The same columns: names, and the schemas of their values."""
    schemas: dict[str, Schema] = {}
    for member in members:
        if member.parts is None:
            schemas[member.name] = member.schema
        else:
            schemas |= {f"{member.name}.{part.name}": part.schema for part in member.parts}
    return schemas


def row_schema(members: Sequence[Member]) -> Schema:
    """What a row looks like; ``fields`` may leave out any member, and alone brings those that are not usual."""
    schemas = {
        member.name: member.schema if member.usual else {**member.schema, "x-usual": False} for member in members
    }
    return an_object(schemas, required=())
