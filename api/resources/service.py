"""The API about itself: is it up, is it ready, how far is everything."""

from functools import lru_cache
from typing import Any, ClassVar, Final

import falcon
import orjson

from api.access import Principal
from api.errors import ApiError, send
from api.resources.base import Resource, send_json
from api.resources.jobs import SHORT as SHORT_JOB
from api.schemas import BLOCK, TIME, an_array, an_object, nullable
from api.sql import administration, status
from api.state import is_full, ranges, refuse_full, refuse_stalled
from indexer.store.lag import DISK_FULL

_REDIS: Final = {"type": "string", "enum": ["not used", "ok", "away"]}
_CREDITS: Final = an_object(
    {
        "used": {"type": "integer", "description": "Since 00:00 UTC, by all processes."},
        "head": {"type": "integer", "description": "All of it that was not for history."},
        "per_day": nullable({"type": "integer", "description": "credits_per_day of the manifest."}),
        "pace": {
            "type": "string",
            "description": "What that lets history do: full, slowed or stopped; spent: the endpoint is asked nothing.",
        },
    }
)
_CHAIN: Final = an_object(
    {
        "chain_id": {"type": "integer"},
        "name": {"type": "string"},
        "active": {"type": "boolean"},
        "state": {"type": "string", "description": "starting, following, waiting, stalled or halted"},
        "state_reason": nullable({"type": "string"}),
        "stalled": {
            "type": "boolean",
            "description": "Whether no block was indexed for longer than the chain's pace allows.",
        },
        "head_block": nullable(BLOCK),
        "head_time": nullable(TIME),
        "head_seen_at": nullable(TIME),
        "indexed_block": nullable(BLOCK),
        "indexed_time": nullable(TIME),
        "safe_block": nullable(BLOCK),
        "finalized_block": nullable(BLOCK),
        "lag_seconds": nullable({"type": "integer", "minimum": 0}),
        "reorgs": {"type": "integer"},
        "undecoded_logs": {"type": "integer", "description": "Counted up to 10,000."},
        "foreign_logs": {
            "type": "integer",
            "description": "Logs that have other arguments indexed than the contract's ABI says; counted up to 10,000.",
        },
        "unread": an_array(
            an_object(
                {
                    "contract": {"type": "string"},
                    "event": {"type": "string"},
                    "first_block": BLOCK,
                    "last_block": BLOCK,
                    "reason": {"type": "string"},
                    "failures": {"type": "integer", "description": "In a row."},
                    "retry_at": TIME,
                },
                description="History that nodes did not give, at most 100 ranges; it is asked for again by itself.",
            )
        ),
        "endpoints": an_array(
            an_object(
                {
                    "host": {"type": "string"},
                    "state": {"type": "string"},
                    "head_block": nullable(BLOCK),
                    "updated_at": TIME,
                    "credits": nullable(_CREDITS),
                }
            )
        ),
    }
)
_CONTRACT: Final = an_object(
    {
        "name": {"type": "string"},
        "active": {"type": "boolean"},
        "complete": {"type": "boolean"},
        "blocks_wanted": {"type": "integer", "description": "Summed over the contract's sources."},
        "blocks_missing": {"type": "integer"},
        "percent": nullable({"type": "number"}),
    }
)

_FOLLOWING: Final = {
    "name": {"type": "string"},
    "chain_id": {"type": "integer"},
    "stale": {"type": "boolean"},
    "problem": nullable({"type": "string", "description": "Why it goes no further."}),
}
_DERIVED: Final = an_object(
    {
        **_FOLLOWING,
        "kind": {"type": "string"},
        "remark": nullable({"type": "string", "description": "Why it is stale."}),
        "blocks_wanted": {"type": "integer"},
        "blocks_missing": {"type": "integer"},
    }
)
_PROGRAM: Final = an_object(
    {
        **_FOLLOWING,
        "true_at_block": nullable(
            {**BLOCK, "description": "Its tables are true at the end of this block; null: it has none yet."}
        ),
        "rebuilt_to": nullable({**BLOCK, "description": "How far the build has come that will take its place."}),
        "tables": an_array({"type": "string"}),
    }
)


class Root(Resource):
    """``/v1``: where everything is."""

    summary: ClassVar = "Where everything is"
    answer: ClassVar = an_object(
        {
            "data": an_object(
                {
                    "name": {"type": "string"},
                    "version": {"type": "string"},
                    "catalog_version": {"type": "string"},
                    "chains": an_array(
                        an_object(
                            {
                                "chain_id": {"type": "integer"},
                                "name": {"type": "string"},
                                "active": {"type": "boolean"},
                                "block_seconds": nullable({"type": "number"}),
                            }
                        )
                    ),
                    "links": {"type": "object", "additionalProperties": {"type": "string"}},
                }
            )
        }
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with links, chains and versions."""
        self.params.read(request.query_string)
        self.format(request)
        catalog = self.context.catalog.current()
        body = {
            "data": {
                "name": "gapless",
                "version": package_version(),
                "catalog_version": catalog.version,
                "chains": [
                    {"chain_id": c.chain_id, "name": c.name, "active": c.active, "block_seconds": c.block_seconds}
                    for c in catalog.chains.values()
                ],
                "links": {
                    "contracts": "/v1/contracts",
                    "events": "/v1/events",
                    "tokens": "/v1/tokens",
                    "transfers": "/v1/tokens/{address}/transfers",
                    "holders": "/v1/tokens/{address}/holders",
                    "address": "/v1/addresses/{address}",
                    "derived": "/v1/derived",
                    "blocks": "/v1/blocks",
                    "status": "/status",
                    "openapi": "/openapi.json",
                },
            }
        }
        send_json(response, body, cache_control="public, max-age=2")


class Health(Resource):
    """``/health``: this process answers."""

    summary: ClassVar = "Whether this process answers"
    scope: ClassVar = None
    counted: ClassVar = False
    answer: ClassVar = an_object({"status": {"const": "ok"}})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer without a question to Postgres or Redis."""
        self.params.read(request.query_string)
        send_json(response, {"status": "ok"})


class Ready(Resource):
    """``/ready``: requests can be answered: the database is there and has its tables."""

    summary: ClassVar = "Whether requests can be answered"
    scope: ClassVar = None
    answer: ClassVar = an_object(
        {
            "status": {"const": "ready"},
            "redis": _REDIS,
            "database": {"type": "string", "description": "Why no new block is indexed, where its disk is full."},
        },
        required=["status", "redis"],
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Ask the database; Redis is only a cache, so its absence is told but no obstacle."""
        self.params.read(request.query_string)
        try:
            full = is_full(self.context.database)
            self.context.catalog.current()
            if self.context.settings.ready_fails_when_stalled:
                refuse_full(self.context.database)
                refuse_stalled(self.context.database)
        except ApiError as error:
            send(response, error)
            return
        told = {"database": DISK_FULL} if full else {}
        send_json(response, {"status": "ready", "redis": _redis(self.context.cache.ping()), **told})


class Status(Resource):
    """``/status``: how far every chain and contract is indexed, and what is wrong."""

    summary: ClassVar = "How far everything is indexed"
    answer: ClassVar = an_object(
        {
            "data": an_object(
                {
                    "version": {"type": "string"},
                    "complete": {"type": "boolean", "description": "Of all contracts' events."},
                    "chains": an_array(_CHAIN),
                    "contracts": an_array(_CONTRACT),
                    "derived": an_array(_DERIVED),
                    "programs": an_array(_PROGRAM),
                    "jobs": an_array(
                        an_object(
                            SHORT_JOB,
                            required=[name for name in SHORT_JOB if name not in administration.PRIVATE_OF_JOB],
                            description="Parameters, progress and error are told to keys with the scope admin alone.",
                        )
                    ),
                    "redis": _REDIS,
                    "streams": an_object(
                        {"open": {"type": "integer"}, "most": {"type": "integer"}},
                        description="Of the process that answers.",
                    ),
                }
            )
        }
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with chains and contracts."""
        self.params.read(request.query_string)
        self.format(request)
        catalog = self.context.catalog.current()
        chains = orjson.loads(self.context.database.query(status.CHAINS)[0][0] or b"[]")
        sources = orjson.loads(self.context.database.query(status.SOURCES, [None])[0][0] or b"[]")
        following = orjson.loads(self.context.database.query(status.FOLLOWING)[0][0] or b"{}")
        contracts = []
        for contract in catalog.contracts.values():
            ids = {event.event_id for event in contract.events.values()}
            feeding = [s for s in sources if s["event"] in ids and s["active"]]
            contracts.append({"name": contract.name, "active": contract.active, **_progress(feeding)})
        send_json(
            response,
            {
                "data": {
                    "version": package_version(),
                    "complete": all(c["complete"] for c in contracts if c["active"]),
                    "chains": chains,
                    "contracts": contracts,
                    **following,
                    "jobs": self._jobs(request),
                    "redis": _redis(self.context.cache.ping()),
                    "streams": {"open": self.context.streams.used, "most": self.context.streams.count},
                }
            },
        )

    def _jobs(self, request: falcon.Request) -> Any:
        asking: Principal | None = request.context.get("principal")
        left_out = (
            administration.LONG_OF_JOB
            if asking is not None and "admin" in asking.scopes
            else administration.PRIVATE_OF_JOB
        )
        return orjson.loads(self.context.database.query(administration.RECENT_JOBS, [left_out])[0][0] or b"[]")


def _progress(sources: list[dict[str, Any]]) -> dict[str, Any]:
    """Blocks wanted and missing, summed over a contract's sources."""
    wanted = sum(last - first + 1 for s in sources for first, last in ranges(s["wanted"]))
    missing = sum(last - first + 1 for s in sources for first, last in ranges(s["missing"]))
    return {
        "complete": bool(sources) and missing == 0,
        "blocks_wanted": wanted,
        "blocks_missing": missing,
        # Rounded down: what is not whole is never shown as 100.
        "percent": (10_000 * (wanted - missing) // wanted) / 100 if wanted else None,
    }


def _redis(answer: bool | None) -> str:
    return {None: "not used", True: "ok", False: "away"}[answer]


@lru_cache(maxsize=1)
def package_version() -> str:
    """The version of the installed package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gapless")
    except PackageNotFoundError:
        return "unknown"
