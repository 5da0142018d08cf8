"""The OpenAPI 3.1 document: made from the routes, the parameters and the catalog, once per version of the catalog.

Each event and each series that is indexed is a path of its own, so that its arguments have their types: a client made
from the document knows them.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import falcon
import orjson

from api import schemas
from api.body import BODY_CODES, Operation, request_body
from api.catalog import Catalog, Contract, Event, Series
from api.errors import CODES
from api.resources.base import MEDIA_TYPES, Path, Resource, body_tag, send_kept
from api.schemas import Schema, an_object, ref

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
    "id": "A row's id.",
    "address": "An address.",
    "webhook": "A webhook's id.",
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
    components: dict[str, dict[str, Schema]] = {
        "schemas": dict(schemas.COMPONENTS),
        "responses": _error_responses(),
        "parameters": {},
        "securitySchemes": _SECURITY_SCHEMES,
    }
    paths: dict[str, Any] = {}
    for template, path in routes:
        if "{event}" in template:
            for contract, event in _events(catalog):
                paths[_filled(template, contract=contract.name, event=event.api_name)] = _item(
                    template, path, components, event
                )
        elif "{series}" in template:
            for contract, series in _series(catalog):
                paths[_filled(template, contract=contract.name, series=series.name)] = _item(
                    template, path, components, series
                )
        else:
            paths[template] = _item(template, path, components, None)
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
    }


def _filled(template: str, **parts: str) -> str:
    for name, value in parts.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _events(catalog: Catalog) -> Iterable[tuple[Contract, Event]]:
    return ((c, e) for c in catalog.contracts.values() for e in c.events.values())


def _series(catalog: Catalog) -> Iterable[tuple[Contract, Series]]:
    return ((c, s) for c in catalog.contracts.values() for s in c.series.values())


def _tags(routes: Routes) -> list[dict[str, str]]:
    return [{"name": tag} for tag in dict.fromkeys(path.tag for _, path in routes)]


def _item(
    template: str,
    path: type[Path],
    components: dict[str, dict[str, Schema]],
    of: Event | Series | None,
) -> dict[str, Any]:
    placed = () if of is None else ("contract", "event", "series")
    places: list[Schema] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"{(\w+)}", template)
        if name not in placed
    ]
    item: dict[str, Any] = {}
    if issubclass(path, Resource):
        params, answer = path.described(() if of is None else of.columns)
        parameters = places + [_shared(param, components["parameters"]) for param in params]
        item["get"] = _reading(path, parameters, answer, of)
    for method, operation in path.operations.items():
        item[method] = _changing(path, method, operation, places, components)
    return item


def _reading(
    resource: type[Resource], parameters: list[Schema], answer: Schema, of: Event | Series | None
) -> dict[str, Any]:
    name = "" if of is None else f"_{of.contract}_{of.api_name if isinstance(of, Event) else of.name}"
    content = {MEDIA_TYPES[name]: {"schema": {"type": "string"}} for name in resource.formats if name != "json"}
    responses: dict[str, Any] = {
        "200": {
            "description": resource.summary,
            "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
            "content": {resource.media: {"schema": answer}, **content},
        }
    }
    if resource.redirects:
        elsewhere = an_object({"location": {"type": "string"}})
        responses["307"] = {
            "description": "It is served at another port: go there.",
            "headers": {"Location": {"schema": {"type": "string"}}},
            "content": {falcon.MEDIA_JSON: {"schema": elsewhere}},
        }
    if resource.conditional:
        responses["304"] = {"description": "The client has this answer already (If-None-Match)."}
    responses |= _refusals(resource, resource.codes)
    return {
        "operationId": _identifier(resource.__name__ + name),
        "tags": [resource.tag],
        "summary": resource.summary + ("" if of is None else f": {_signature(of)}"),
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
        "operationId": _identifier(f"{path.__name__}_{method}"),
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


def _signature(of: Event | Series) -> str:
    return f"{of.contract} {of.signature if isinstance(of, Event) else of.name}"


def _identifier(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def _shared(made: Schema, known: dict[str, Schema]) -> Schema:
    """The parameter, by reference where it is one that many paths have."""
    key: str = made["name"]
    if key.startswith("arg.") or key == "fields":
        return made
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
