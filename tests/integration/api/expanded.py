"""The OpenAPI document with a path for each event and each series, as a client that knows its schemas sees it."""

from copy import deepcopy
from typing import Any

from api.app import ROUTES
from api.catalog import Catalog
from api.resources.collection import Collection
from api.resources.events import EventRow, Events
from api.resources.stream import EventStream, event_parameters


def expanded(document: Any, catalog: Catalog) -> Any:
    """The document with its ``{event}`` and ``{series}`` filled in: rows and parameters have their types."""
    whole = deepcopy(document)
    kinds = document["x-gapless"]
    for template, resource in ROUTES:
        kind = "event" if "{event}" in template else "series" if "{series}" in template else None
        if kind is None:
            continue
        item = whole["paths"].pop(template)
        for contract in catalog.contracts.values():
            for name, of in (contract.events if kind == "event" else contract.series).items():
                made = deepcopy(item)
                operation = made["get"]
                operation["operationId"] += f"_{contract.name}_{name}"
                place = [p for p in operation["parameters"] if p.get("in") == "path" and p["name"] == "id"]
                if issubclass(resource, Events):
                    operation["parameters"] = [*place, *resource.event_parameters(of.columns).openapi()]
                elif issubclass(resource, EventStream):
                    operation["parameters"] = [*place, *event_parameters(of.columns).openapi()]
                else:
                    operation["parameters"] = [*place, *resource.params.openapi()]
                schema = kinds["events" if kind == "event" else "series"][contract.name][name]
                row = {"$ref": f"#/components/schemas/{schema}"}
                content = operation["responses"]["200"]["content"]
                if resource is Events or (kind == "series" and issubclass(resource, Collection)):
                    content["application/json"]["schema"]["properties"]["data"]["items"] = row
                elif resource is EventRow:
                    content["application/json"]["schema"]["properties"]["data"] = row
                path = template.replace("{contract}", contract.name).replace(f"{{{kind}}}", name)
                whole["paths"][path] = made
    return whole
