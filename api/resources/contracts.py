"""Contracts: which there are, their ABIs, events and coverage."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import falcon
import orjson

from api import arguments
from api.catalog import Catalog, Contract, ContractPath, Event
from api.resources.base import Resource, body_tag, send_kept
from api.resources.common_parameters import ChainParameters
from api.schemas import ADDRESS, BLOCK, HASH, RANGES, Schema, an_array, an_object, nullable
from api.sql import status
from api.sql.statement import identifier
from api.state import ranges

#: Coverage grows with every block: longer than this it should not be kept.
KEPT: Final = "public, max-age=1"

_PLAIN: Final = re.compile("[a-z_][a-z0-9_]*")


_COVERAGE: Final = an_object(
    {
        "chain_id": {"type": "integer"},
        "place": {"type": "object", "description": "Where the logs come from: kind, addresses, factories, filters."},
        "active": {"type": "boolean"},
        "start_block": BLOCK,
        "end_block": nullable(BLOCK),
        "covered": RANGES,
        "verified": {**RANGES, "description": "Proven against receipts roots."},
        "missing": RANGES,
        "complete": {"type": "boolean"},
    }
)
_EVENT: Final = an_object(
    {
        "name": {"type": "string", "description": "In paths; with ~ and a selector if it is overloaded."},
        "signature": {"type": "string"},
        "topic0": HASH,
        "anonymous": {"type": "boolean"},
        "active": {"type": "boolean"},
        "arguments": an_array(
            an_object(
                {
                    "name": {"type": "string"},
                    "type": {"type": "string"},
                    "indexed": {"type": "boolean"},
                    "hashed": {"type": "boolean", "description": "Only the value's hash is in the log."},
                    "column": {"type": "string", "description": "In the table."},
                    "filters": an_array({"type": "string"}),
                    "fast": {"type": "boolean", "description": "Whether an index serves equality."},
                }
            )
        ),
        "table": {"type": "string", "description": "For SQL."},
        "rows_estimate": nullable({"type": "integer"}),
        "coverage": an_array(_COVERAGE),
        "links": {"type": "object", "additionalProperties": {"type": "string"}},
    }
)
_SERIES: Final = an_object(
    {
        "name": {"type": "string"},
        "calls": an_array({"type": "string"}),
        "every": {"type": "string"},
        "active": {"type": "boolean"},
        "table": {"type": "string"},
    }
)


def _contract_schema(events: Schema, snapshots: Schema) -> Schema:
    deployment = an_object(
        {
            "chain_id": {"type": "integer"},
            "chain": {"type": "string"},
            "kind": {"type": "string", "enum": ["addresses", "factory", "any"]},
            "addresses": an_array(ADDRESS),
            "factories": an_array({"type": "object"}),
            "start_block": BLOCK,
            "end_block": nullable(BLOCK),
            "active": {"type": "boolean"},
        }
    )
    return an_object(
        {
            "name": {"type": "string"},
            "active": {"type": "boolean"},
            "chains": an_array(deployment),
            "complete": {"type": "boolean", "description": "Whether all that is wanted is indexed, up to the tip."},
            "links": {"type": "object", "additionalProperties": {"type": "string"}},
            "events": events,
            "snapshots": snapshots,
        }
    )


class Contracts(Resource):
    """``/v1/contracts``: all contracts."""

    summary: ClassVar = "The contracts that are indexed"
    tag: ClassVar = "contracts"
    conditional: ClassVar = True
    answer: ClassVar = an_object(
        {"data": an_array(_contract_schema(an_array({"type": "string"}), an_array({"type": "string"})))}
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the list."""
        self.params.read(request.query_string)
        self.format(request)
        catalog = self.context.catalog.current()
        sources = orjson.loads(self.context.database.query(status.SOURCES, [None])[0][0] or b"[]")
        data = [
            _contract(catalog, contract, sources)
            | {"events": list(contract.events), "snapshots": list(contract.series)}
            for contract in catalog.contracts.values()
        ]
        _send(request, response, {"data": data})


class OneContract(Resource):
    """``/v1/contracts/{c}``: one contract with its events and series."""

    summary: ClassVar = "One contract with its events, series and coverage"
    tag: ClassVar = "contracts"
    codes: ClassVar = ("INVALID_ADDRESS", "CONTRACT_NOT_FOUND", "CHAIN_NOT_FOUND", "AMBIGUOUS_CONTRACT")
    conditional: ClassVar = True
    params: ClassVar = ChainParameters
    answer: ClassVar[Schema] = an_object({"data": _contract_schema(an_array(_EVENT), an_array(_SERIES))})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the contract."""
        self.params.read(request.query_string)
        self.format(request)
        catalog, found = self.contract(path["contract"], request.query_string)
        contract = found.contract
        sources = self._sources(contract)
        data = _contract(catalog, contract, sources) | {
            "events": self._events(found, sources),
            "snapshots": [
                {"name": s.name, "calls": s.calls, "every": s.every, "active": s.active, "table": _table(s)}
                for s in contract.series.values()
            ],
        }
        _send(request, response, {"data": data})

    def _sources(self, contract: Contract) -> list[dict[str, Any]]:
        rows = self.context.database.query(status.SOURCES, [str(contract.contract_id)])
        sources: list[dict[str, Any]] = orjson.loads(rows[0][0] or b"[]")
        return sources

    def _events(self, found: ContractPath, sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        rows = self.context.database.query(status.SOURCE_ROWS, [str(found.contract.contract_id)])
        estimates = orjson.loads(rows[0][0] or b"{}")
        return [
            _event(event, estimates.get(str(event.event_id)), [s for s in sources if s["event"] == event.event_id])
            for event in found.contract.events.values()
        ]


class ContractEvents(OneContract):
    """``/v1/contracts/{c}/events``: the events of a contract."""

    summary: ClassVar = "The events of a contract, with their arguments and coverage"
    answer: ClassVar[Schema] = an_object({"data": an_array(_EVENT)})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the events."""
        self.params.read(request.query_string)
        self.format(request)
        _, found = self.contract(path["contract"], request.query_string)
        _send(request, response, {"data": self._events(found, self._sources(found.contract))})


class ContractAbi(Resource):
    """``/v1/contracts/{c}/abi``: the ABI as it was given."""

    summary: ClassVar = "The ABI of a contract"
    tag: ClassVar = "contracts"
    codes: ClassVar = OneContract.codes
    conditional: ClassVar = True
    params: ClassVar = ChainParameters
    answer: ClassVar = an_object({"data": an_array({"type": "object"})})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the ABI."""
        self.params.read(request.query_string)
        self.format(request)
        _, found = self.contract(path["contract"], request.query_string)
        rows = self.context.database.query(
            "SELECT abi::text FROM gapless.contracts WHERE id = $1::integer", [str(found.contract.contract_id)]
        )
        body = b'{"data":' + (rows[0][0] or b"[]") + b"}"
        send_kept(request, response, body, body_tag(body), "public, max-age=300")


def _contract(catalog: Catalog, contract: Contract, sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    own = {event.event_id for event in contract.events.values()}
    feeding = [source for source in sources if source["event"] in own and source["active"]]
    link = f"/v1/contracts/{contract.name}"
    return {
        "name": contract.name,
        "active": contract.active,
        "chains": [
            {
                "chain_id": d.chain_id,
                "chain": catalog.chains[d.chain_id].name,
                "kind": d.kind,
                "addresses": ["0x" + address.hex() for address in d.addresses],
                "factories": d.factories,
                "start_block": d.start_block,
                "end_block": d.end_block,
                "active": d.active,
            }
            for d in contract.deployments.values()
        ],
        "complete": bool(feeding) and not any(ranges(source["missing"]) for source in feeding),
        "links": {"self": link, "abi": f"{link}/abi", "events": f"{link}/events", "snapshots": f"{link}/snapshots"},
    }


def _event(event: Event, rows: int | None, sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    allowed = arguments.filters(event.columns)
    link = f"/v1/contracts/{event.contract}/events/{event.api_name}"
    return {
        "name": event.api_name,
        "signature": event.signature,
        "topic0": "0x" + event.topic0.hex(),
        "anonymous": event.anonymous,
        "active": event.active,
        "arguments": [
            {
                "name": column.argument,
                "type": column.abi_type,
                "indexed": column.indexed,
                "hashed": column.hashed,
                "column": column.name,
                "filters": [name for name, f in allowed.items() if f.column is column],
                "fast": column.name in event.ordered_by,
            }
            for column in event.columns
        ],
        "table": _table(event),
        "rows_estimate": rows,
        "coverage": [_coverage(source) for source in sources],
        "links": {"rows": link, "daily": f"{link}/daily"},
    }


def _coverage(source: Mapping[str, Any]) -> dict[str, Any]:
    missing = ranges(source["missing"])
    return {
        "chain_id": source["chain_id"],
        "place": source["place"],
        "active": source["active"],
        "start_block": source["start_block"],
        "end_block": source["end_block"],
        "covered": ranges(source["coverage"]),
        "verified": ranges(source["verified"]),
        "missing": missing,
        "complete": source["wanted"] is not None and not missing,
    }


def _table(of: Any) -> str:
    """The table for SQL, quoted where it must be."""
    plain = all(_PLAIN.fullmatch(part) for part in (of.schema_name, of.table_name))
    return f"{of.schema_name}.{of.table_name}" if plain else identifier(of.schema_name, of.table_name)


def _send(request: falcon.Request, response: falcon.Response, value: Any) -> None:
    body = orjson.dumps(value)
    send_kept(request, response, body, body_tag(body), KEPT)
