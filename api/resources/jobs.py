"""``/v1/jobs``: work for the running indexer, asked for by an administrator."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

import falcon
import orjson
from pydantic import AfterValidator, Field

from api.access import principal_of
from api.body import Body, NoBody, Operation
from api.errors import ApiError, Problem
from api.parameters import Parameters
from api.resources.base import Resource, send_json
from api.resources.numbered import Numbered, nothing, numbered
from api.schemas import TIME, an_array, an_object, nullable
from api.sql import administration
from api.values import MAX_BLOCK, BadValueError, choice, integer, parse_address

STATES: Final = ("queued", "running", "done", "failed", "cancelled")
#: Jobs that may wait at once.
MOST_WAITING: Final = 100

#: Which members of the body a kind of job takes.
TAKES: Final[Mapping[str, frozenset[str]]] = {
    "repair": frozenset({"contract", "chain", "from_block", "to_block"}),
    "audit": frozenset({"contract", "chain", "from_block", "to_block", "sample", "deep"}),
    "redecode": frozenset({"contract"}),
    "refresh_tokens": frozenset({"chain", "addresses"}),
}

#: What ``/status`` tells of a job, too.
SHORT: Final[Mapping[str, Any]] = {
    "id": {"type": "integer"},
    "kind": {"type": "string", "enum": list(TAKES)},
    "parameters": {"type": "object", "description": "As they were asked for."},
    "state": {"type": "string", "enum": list(STATES)},
    "cancel_asked": {"type": "boolean"},
    "progress": nullable({"type": "object", "description": "How far it is, as its kind tells it."}),
    "error": nullable({"type": "string"}),
    "attempts": {"type": "integer", "description": "How often it was begun."},
    "created_at": TIME,
    "started_at": nullable(TIME),
    "ended_at": nullable(TIME),
}
_JOB: Final = an_object(
    {
        **SHORT,
        "result": nullable({"type": "object", "description": "What came of it, by chain where it is about chains."}),
        "created_by": {"type": "string"},
        "heartbeat_at": nullable(TIME),
    }
)


def _address(text: str) -> str:
    try:
        return "0x" + parse_address(text).hex()
    except BadValueError as error:
        raise ValueError(str(error)) from None


_Block = Annotated[int, Field(ge=0, le=MAX_BLOCK)]


class JobRequest(Body):
    """Work that is asked for. Which members belong to which kind: docs/operations.md."""

    kind: Literal["repair", "audit", "redecode", "refresh_tokens"]
    contract: Annotated[str | None, Field(max_length=200, description="Its name in the manifest; left out: all.")] = (
        None
    )
    chain: Annotated[str | None, Field(max_length=200, description="Its name; left out: all.")] = None
    from_block: _Block | None = None
    to_block: _Block | None = None
    sample: Annotated[
        int | None, Field(ge=1, le=1_000_000_000, description="Ask nodes about so many blocks only, chosen at random.")
    ] = None
    deep: Annotated[bool, Field(description="Prove the logs against the blocks' receipts roots.")] = False
    addresses: Annotated[
        tuple[Annotated[str, AfterValidator(_address)], ...] | None,
        Field(min_length=1, max_length=1000, description="Tokens; left out: all that are known."),
    ] = None


class JobFilters(Parameters):
    """Which jobs."""

    state: Annotated[str | None, choice(*STATES)] = Field(None, description="Only jobs in this state.")
    limit: Annotated[int, integer(1, 1000)] = Field(100, description="How many.")


class Jobs(Resource):
    """``/v1/jobs``: the newest, and a new one."""

    summary: ClassVar = "Jobs, the newest first"
    tag: ClassVar = "jobs"
    scope: ClassVar = "admin"
    params: ClassVar = JobFilters
    answer: ClassVar = an_object({"data": an_array(_JOB)})
    operations: ClassVar = {
        "post": Operation(
            "Ask the running indexer for work",
            JobRequest,
            an_object({"data": _JOB}),
            status=202,
            codes=("CHAIN_NOT_FOUND", "CONTRACT_NOT_FOUND", "LIMIT_REACHED"),
        )
    }

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with jobs."""
        parameters = JobFilters.read(request.query_string)
        self.format(request)
        rows = self.context.database.query(administration.LIST_JOBS, [parameters.state, parameters.limit])
        send_json(response, {"data": orjson.loads(rows[0][0] or b"[]")})

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Ask for a job."""
        asked: JobRequest = self.operations["post"].read(req)
        parameters = self._checked(asked)
        values = [asked.kind, orjson.dumps(parameters).decode(), principal_of(req).name, MOST_WAITING]
        rows = self.context.writes.query(administration.CREATE_JOB, values)
        if not rows:
            raise ApiError("LIMIT_REACHED", f"{MOST_WAITING} jobs wait already: cancel some, or wait")
        made = orjson.loads(rows[0][0] or b"{}")
        resp.status = falcon.HTTP_202
        send_json(resp, {"data": made})
        resp.set_header("Location", f"/v1/jobs/{made['id']}")

    def _checked(self, asked: JobRequest) -> dict[str, Any]:
        """The parameters that were given.

        Raises:
            ApiError: they do not belong to the kind or together, or name what is not there.
        """
        given = {name: value for name, value in asked.model_dump(exclude_unset=True).items() if value is not None}
        given.pop("kind")
        takes = TAKES[asked.kind]
        problems = [
            Problem(name, f"is not for {asked.kind}, which takes {', '.join(sorted(takes))}")
            for name in given
            if name not in takes
        ]
        first, last = asked.from_block, asked.to_block
        if asked.kind == "repair" and (first is not None or last is not None):
            problems += [
                Problem(name, "is required for a repair of a range")
                for name in ("contract", "from_block", "to_block")
                if given.get(name) is None
            ]
        if first is not None and last is not None and first > last:
            problems.append(Problem("from_block", "lies after to_block"))
        if problems:
            raise ApiError.invalid(problems)
        catalog = self.context.catalog.current()
        if asked.chain is not None:
            given["chain"] = catalog.chain(asked.chain).name
        if asked.contract is not None and asked.contract not in catalog.contracts:
            raise ApiError("CONTRACT_NOT_FOUND", f"no contract {asked.contract!r} is indexed")
        return given


class OneJob(Numbered):
    """``/v1/jobs/{job}``: one of them, and its end."""

    what: ClassVar = "job"
    one: ClassVar = administration.ONE_JOB
    summary: ClassVar = "One job"
    tag: ClassVar = "jobs"
    scope: ClassVar = "admin"
    answer: ClassVar = an_object({"data": _JOB})
    operations: ClassVar = {
        "delete": Operation(
            "Cancel a job: one that waits at once, one that is under way as soon as it can be left",
            NoBody,
            an_object({"data": _JOB}),
            codes=("NOT_FOUND",),
        )
    }

    def on_delete(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        """Cancel the job."""
        self.operations["delete"].read(req)
        rows = self.context.writes.query(administration.CANCEL_JOB, [numbered(job, "job")])
        if not rows:
            raise nothing("job", job)
        send_json(resp, {"data": orjson.loads(rows[0][0] or b"{}")})
