"""The OpenAPI 3.1 document: made from the routes, the parameters and the catalog, once per version of the catalog.

Its paths are those of the routes. What is indexed is described by components: the rows of each event and of each series
have a schema of their own, so that a client made from the document knows their types, and the document grows by a few
hundred bytes an event.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, ClassVar, Final

import falcon
import orjson

from api import arguments, schemas
from api.body import BODY_CODES, Operation, request_body
from api.catalog import Catalog
from api.errors import CODES
from api.resources.base import MEDIA_TYPES, Path, Resource, body_tag, send_kept
from api.schemas import Schema, an_object, ref
from api.sql import derived
from api.sql.events import ANY_ARGUMENTS
from api.sql.members import of_column, row_schema
from api.sql.series import series_members, values_schema
from indexer.abi.columns import Column

Routes = Sequence[tuple[str, type[Path]]]

#: Codes that any path may answer with.
_EVERYWHERE: Final = (
    "INVALID_PARAMETER",
    "UNKNOWN_PARAMETER",
    "NOT_ACCEPTABLE",
    "URI_TOO_LONG",
    "INTERNAL_ERROR",
    "DATABASE_UNAVAILABLE",
    "OVERLOADED",
    "QUERY_TOO_EXPENSIVE",
)

#: Codes of paths that may need a key.
_ACCESS: Final = (
    "AUTHENTICATION_REQUIRED",
    "INVALID_API_KEY",
    "TOKEN_EXPIRED",
    "INSUFFICIENT_SCOPE",
    "ORIGIN_NOT_ALLOWED",
    "RATE_LIMITED",
    "ISSUER_UNAVAILABLE",
)

#: Without a key where the operator asks for none, else with one.
_SECURITY: Final[list[dict[str, list[str]]]] = [{}, {"bearer": []}, {"key": []}]
_SECURITY_SCHEMES: Final[dict[str, Schema]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key (gapless_…), or a token."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "token": {"type": "apiKey", "in": "query", "name": "access_token", "description": "A token, never a key."},
}

_PATH_PARAMETERS: Final = {
    "contract": "Name of the contract, or an address of it.",
    "event": "Name of the event, with ~ and its selector if it is overloaded.",
    "series": "Name of the series.",
    "table": "Name of the derived table.",
    "id": "A row's id.",
    "address": "An address.",
    "webhook": "A webhook's id.",
    "hash": "Hash of a transaction.",
    "number": "Number of a block, or latest, safe or finalized.",
    "key": "A key's id.",
    "job": "A job's id.",
}


def document(catalog: Catalog, routes: Routes) -> dict[str, Any]:
    """The whole document.

    Args:
        catalog: what is indexed.
        routes: paths and their resources.
    """
    rows, kinds = _row_schemas(catalog)
    components: dict[str, dict[str, Schema]] = {
        "schemas": {**schemas.COMPONENTS, **rows},
        "responses": _error_responses(),
        "parameters": {},
        "securitySchemes": _SECURITY_SCHEMES,
    }
    paths = {template: _item(template, path, components) for template, path in routes}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gapless",
            "version": "1",
            "description": "What the contracts that are indexed here said, and what they answered. "
            "Every answer says how fresh and how complete it is.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": _tags(routes),
        "paths": paths,
        "components": components,
        "x-gapless": kinds,
    }


def _row_schemas(catalog: Catalog) -> tuple[dict[str, Schema], dict[str, Any]]:
    """The schemas of what is indexed.

    Returns:
        The components; and which of them describes the rows of an event or of a series, by ``events`` or ``series``,
        the contract's name and its own.
    """
    found: dict[str, Schema] = {
        "Row": row_schema(ANY_ARGUMENTS),
        "Point": row_schema([member for member in series_members(()) if member.name != "values"]),
    }
    kinds: dict[str, dict[str, dict[str, str]]] = {"events": {}, "series": {}}
    names = _Names((*schemas.COMPONENTS, *found))
    contracts = catalog.contracts.values()
    # The oldest first: what has a name keeps it, whatever comes to be indexed besides.
    for event in sorted((e for c in contracts for e in c.events.values()), key=lambda event: event.event_id):
        name = names.new(event.contract, event.api_name)
        kinds["events"].setdefault(event.contract, {})[event.api_name] = name
        arguments_schema = row_schema([of_column(column) for column in event.columns])
        found[name] = _of("Row", "args", _lifted(arguments_schema, (name,), names, found))
        _add_types(event.columns, found)
    for series in sorted((s for c in contracts for s in c.series.values()), key=lambda series: series.series_id):
        name = names.new(series.contract, "snapshots", series.name)
        kinds["series"].setdefault(series.contract, {})[series.name] = name
        found[name] = _of("Point", "values", _lifted(values_schema(series.columns), (name,), names, found))
        _add_types(series.columns, found)
    tables: dict[str, str] = {}
    for table in sorted(catalog.derived.values(), key=lambda one: one.name):
        tables[table.name] = names.new("derived", table.name)
        found[tables[table.name]] = {
            **row_schema(derived.row_members(table.columns)),
            "x-key": list(table.order_key),
            "x-sort": derived.sorts(table),
            "x-filters": [name.removeprefix(derived.PREFIX) for name in derived.filters(table)],
        }
        if any(derived.base_type(column) == "bigint" for column in table.columns):
            found.setdefault(derived.BIGINT, schemas.elementary(derived.BIGINT))
    return found, {**kinds, "derived": tables}


def _of(base: str, member: str, schema: Schema) -> Schema:
    return {"allOf": [ref(base), an_object({member: schema}, required=())]}


def _lifted(schema: Schema, place: tuple[str, ...], names: "_Names", found: dict[str, Schema]) -> Schema:
    """The schema with its tuples as components, each with a name that no generator makes equal to another's.

    Args:
        schema: of the arguments.
        place: name of the component that the schema is in, and of the members down to it.
        names: gives the names.
        found: the components, to which the tuples are added.
    """
    if "anyOf" in schema:
        return {**schema, "anyOf": [_lifted(each, place, names, found) for each in schema["anyOf"]]}
    if "items" in schema:
        return {**schema, "items": _lifted(schema["items"], place, names, found)}
    if "properties" not in schema:
        return schema
    members = {name: _lifted(each, (*place, name), names, found) for name, each in schema["properties"].items()}
    whole = {**schema, "properties": members}
    if len(place) == 1:
        return whole
    name = names.new(*place)
    found[name] = whole
    return ref(name)


def _add_types(columns: Iterable[Column], found: dict[str, Schema]) -> None:
    """Add the components of the elementary types in some columns, with the operators of their filters."""
    for column in columns:
        names = [schemas.HASHED] if column.hashed else re.findall(r"[a-z]+[0-9x]*", column.abi_type)
        for name in names:
            found.setdefault(name, schemas.elementary(name))
        if column.hashed or column.abi_type == names[0]:
            found[names[0]]["x-filters"] = [one.operator for one in arguments.filters((column,)).values()]


class _Names:
    """Names of components that stay different in generators that make ``CamelCase`` or ``snake_case`` of them.

    Args:
        taken: names that there are.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {_folded(name) for name in taken}

    def new(self, *parts: str) -> str:
        """A name made of these parts, such as ``usdc.Transfer``; a number is added where it would be taken."""
        plain = _identifier(".".join(parts))
        for number in count(1):
            name = plain if number == 1 else f"{plain}_{number}"
            # Generators name the object of the arguments by its place, too.
            folded = {_folded(name), _folded(f"{name}_args"), _folded(f"{name}_values")}
            if not folded & self._taken:
                self._taken |= folded
                return name
        raise AssertionError


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _tags(routes: Routes) -> list[dict[str, str]]:
    return [{"name": tag} for tag in dict.fromkeys(path.tag for _, path in routes)]


def _item(
    template: str,
    path: type[Path],
    components: dict[str, dict[str, Schema]],
) -> dict[str, Any]:
    places: list[Schema] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"{(\w+)}", template)
    ]
    item: dict[str, Any] = {}
    if issubclass(path, Resource):
        params, answer = path.described()
        parameters = places + [_shared(param, components["parameters"]) for param in params]
        item["get"] = _reading(path, parameters, answer)
    for method, operation in path.operations.items():
        item[method] = _changing(path, method, operation, places, components)
    return item


def _reading(resource: type[Resource], parameters: list[Schema], answer: Schema) -> dict[str, Any]:
    content = {
        MEDIA_TYPES[name]: {"schema": {"type": "string", **({"format": "binary"} if name == "parquet" else {})}}
        for name in resource.formats
        if name != "json"
    }
    responses: dict[str, Any] = {
        "200": {
            "description": resource.summary,
            "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
            "content": {resource.media: {"schema": answer}, **content},
        }
    }
    if resource.conditional:
        responses["304"] = {"description": "The client has this answer already (If-None-Match)."}
    responses |= _refusals(resource, resource.codes)
    return {
        "operationId": resource.__name__,
        "tags": [resource.tag],
        "summary": resource.summary,
        "parameters": parameters,
        "responses": responses,
        "security": _security(resource),
    }


def _changing(
    path: type[Path],
    method: str,
    operation: Operation[Any],
    parameters: list[Schema],
    components: dict[str, dict[str, Schema]],
) -> dict[str, Any]:
    done: dict[str, Any] = {
        "description": operation.summary,
        "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
    }
    if operation.answer is not None:
        done["content"] = {falcon.MEDIA_JSON: {"schema": operation.answer}}
    described = {
        "operationId": f"{path.__name__}_{method}",
        "tags": [path.tag],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {str(operation.status): done, **_refusals(path, (*BODY_CODES, *operation.codes))},
        "security": _security(path),
    }
    if (body := request_body(operation, components["schemas"])) is not None:
        described["requestBody"] = body
    return described


def _refusals(path: type[Path], codes: Iterable[str]) -> dict[str, Schema]:
    access = _ACCESS if path.scope is not None else ("RATE_LIMITED",) if path.counted else ()
    statuses = sorted({CODES[code][0] for code in (*_EVERYWHERE, *access, *codes)})
    return {str(status): ref(f"Error{status}", "responses") for status in statuses}


def _security(path: type[Path]) -> list[dict[str, list[str]]]:
    if path.scope is None:
        return []
    # Reading may be open; nothing else ever is.
    ways = _SECURITY if path.scope == "read" else _SECURITY[1:]
    return [*ways, {"token": []}] if getattr(path, "takes_query_token", False) else ways


def _identifier(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "_", text)


def _shared(made: Schema, known: dict[str, Schema]) -> Schema:
    """The parameter, by reference: most are those of many paths."""
    key: str = made["name"]
    # The same name may mean something else elsewhere (`after` of tokens is an address).
    while known.setdefault(key, made) != made:
        key += "_"
    return ref(key, "parameters")


def _error_responses() -> dict[str, Schema]:
    by_status: dict[int, list[str]] = {}
    for code, (status, meaning) in CODES.items():
        by_status.setdefault(status, []).append(f"`{code}`: {meaning}")
    return {
        f"Error{status}": {
            "description": "\n".join(f"- {line}" for line in lines),
            "content": {falcon.MEDIA_JSON: {"schema": ref("Error")}},
        }
        for status, lines in by_status.items()
    }


class OpenApi(Resource):
    """``/openapi.json``: the document."""

    summary: ClassVar = "This document"
    scope: ClassVar = None  # a page where a key can be entered must be able to read it
    tag: ClassVar = "service"
    conditional: ClassVar = True
    #: Set by the application, which knows them.
    routes: Routes = ()

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the document."""
        self.params.read(request.query_string)
        self.format(request)
        catalog = self.context.catalog.current()
        body = catalog.once("openapi", lambda: orjson.dumps(document(catalog, self.routes)))
        send_kept(request, response, body, body_tag(body), "public, max-age=60")
