"""Work that was asked for through the API (``/v1/jobs``), done by ``gapless run`` beside everything else.

A job belongs to the process that leads: the one that follows its chain, or the first of its chains. A thread for each
kind looks for jobs and does one at a time; nothing that follows a head waits for it. While a job is
under way a second thread says so in the database every few seconds, and learns there whether it is to be cancelled.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import uuid4

import psycopg
import sqlalchemy as sa

from indexer.errors import GaplessError
from indexer.redact import redact
from indexer.service.chain_at_work import Network
from indexer.service.jobs import ServiceResources, cache_of
from indexer.service.program_audit import ProgramAudit
from indexer.service.program_tasks import program_tasks
from indexer.store.access import jobs
from indexer.store.access.jobs import JobClaim
from indexer.sync import audit as auditing
from indexer.sync.audit import table_checks
from indexer.sync.audit.redecode import redecode
from indexer.sync.audit.repair import Repair
from indexer.sync.audit.run import report_as_json
from indexer.sync.tokens import metadata_job

log = logging.getLogger(__name__)

BEAT_EVERY: Final = 3.0
_LOOK_EVERY: Final = 0.2
#: Findings in the result of an audit; all of them are in the table ``gapless.findings``.
MOST_FINDINGS: Final = 100


@dataclass(slots=True)
class Task:
    """A job under way.

    Attributes:
        resources: database, cache and manifest.
        networks: the chains it is about, by name.
        parameters: as they were asked for.
        stop: set when it is to end.
        progress: tells how far it is, as JSON.
    """

    resources: ServiceResources
    networks: Mapping[str, Network]
    parameters: Mapping[str, Any]
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[], Mapping[str, Any]] = dict

    @property
    def contract(self) -> str | None:
        """The contract it is about; None: all."""
        return self.parameters.get("contract")

    @property
    def blocks(self) -> tuple[int, int] | None:
        """The blocks it is about; None: all."""
        first, last = self.parameters.get("from_block"), self.parameters.get("to_block")
        if first is None and last is None:
            return None
        return first or 0, 2**62 if last is None else last


class _Doing(Protocol):
    def __call__(self, task: Task) -> dict[str, Any]: ...


def _repair(task: Task) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, one in task.networks.items():
        work = Repair(task.resources.engine, one.client, one.chain.chain_id, name, None, task.stop)

        def tell(name: str = name, work: Repair = work) -> dict[str, Any]:
            return {"chain": name, "blocks_fetched": work.outcome.checked, "blocks_replaced": work.outcome.blocks}

        task.progress = tell
        if task.blocks is not None and task.contract is not None:
            done = work.range(task.contract, *task.blocks)
        else:
            done = work.findings(task.contract)
        results[name] = {
            "blocks_fetched": done.checked,
            "blocks_replaced": done.blocks,
            "rows_removed": done.removed,
            "blocks_filled": done.filled,
            "findings_settled": len(done.repaired),
            "left": [redact(line) for line in done.left[:MOST_FINDINGS]],
        }
    return results


def _audit(task: Task) -> dict[str, Any]:
    given = task.parameters
    request = auditing.Request(task.contract, task.blocks, given.get("sample"), bool(given.get("deep")))
    results: dict[str, Any] = {}
    for name, one in task.networks.items():

        def tell(doing: str, done: int, total: int, name: str = name) -> None:
            task.progress = lambda: {"chain": name, "doing": doing, "done": done, "of": total}

        client = one.client if request.deep else None
        chain_id, engine = one.chain.chain_id, task.resources.engine
        programs = ProgramAudit(engine, program_tasks(task.resources.manifest), task.stop)
        report = auditing.audit(
            engine, chain_id, name, request, client=client, programs=programs, stop=task.stop, on_progress=tell
        )
        if not task.stop.is_set():
            table_checks.take_digests(engine, chain_id)
        results[name] = report_as_json(name, report, MOST_FINDINGS) | {"findings_count": len(report.findings)}
    return results


def _redecode(task: Task) -> dict[str, Any]:
    done = redecode(task.resources.engine, task.contract)
    return {
        "rows": dict(done.rows),
        "counted": dict(done.counted),
        "still_undecoded": dict(done.still),
        "not_finalized": done.waiting,
        "children_fetched_anew": sorted(done.taken),
    }


def _refresh_tokens(task: Task) -> dict[str, Any]:
    given = task.parameters.get("addresses")
    addresses = None if given is None else [bytes.fromhex(address[2:]) for address in given]
    results: dict[str, Any] = {}
    for name, one in task.networks.items():

        def tell(done: int, total: int, name: str = name) -> None:
            task.progress = lambda: {"chain": name, "done": done, "of": total}

        engine, cache = task.resources.engine, cache_of(task.resources, one)
        done = metadata_job.reread(
            engine, one.client, one.chain.chain_id, cache, addresses, stop=task.stop, on_progress=tell
        )
        results[name] = {"tokens_read": done}
    return results


KINDS: Final[Mapping[str, _Doing]] = {
    "repair": _repair,
    "audit": _audit,
    "redecode": _redecode,
    "refresh_tokens": _refresh_tokens,
}
_WITHOUT_NODES: Final = frozenset({"redecode"})


def worker_name() -> str:
    """A name for this process that no other one ever has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


@dataclass(slots=True)
class JobRunner:
    """Does the jobs of one kind, one after the other.

    Attributes:
        resources: database, cache and manifest.
        networks: the chains that are followed here, as they are at the moment.
        kind: of which jobs.
        stop: set when the process is to end.
        worker: this process.
        lease: seconds after which others may believe this process dead.
    """

    resources: ServiceResources
    networks: Callable[[], Mapping[str, Network]]
    kind: str
    stop: threading.Event
    worker: str = field(default_factory=worker_name)
    lease: float = jobs.LEASE

    def run(self) -> None:
        """Do jobs until there is none.

        Raises:
            sqlalchemy.exc.DBAPIError: Postgres does not answer; a job that was under way is taken up again.
        """
        while not self.stop.is_set():
            with self.resources.engine.begin() as connection:
                job = jobs.claim(connection, self.kind, self.worker, may=self.leads, lease=self.lease)
            if job is None:
                return
            self._do(job)

    def leads(self, parameters: Mapping[str, Any]) -> bool:
        """Whether a job is this process's to do: it follows the job's chain, the first of several.

        A process that stands by leaves all jobs to the one that leads. Where a job names what is not there, the first
        chain of all decides who says so.
        """
        manifest, networks = self.resources.manifest, self.networks()
        contract, chain = manifest.contracts.get(parameters.get("contract", "")), parameters.get("chain")
        names = manifest.chains if contract is None else [one.chain for one in contract.deployments]
        found = [networks[name] for name in names if name in networks and chain in (None, name)]
        first = min(found or networks.values(), key=lambda one: one.chain.chain_id, default=None)
        return first is not None and first.follower.leads()

    def _do(self, job: JobClaim) -> None:
        log.info("job %d (%s) is begun", job.job_id, job.kind)
        try:
            networks = self._chosen(job)
            task = Task(self.resources, networks, job.parameters)
            with ExitStack() as stack:
                for one in networks.values():
                    stack.enter_context(one.at_work())
                heart = stack.enter_context(_Heart(self, job, task))
                result = self._work(task)
        except GaplessError as error:
            if self.stop.is_set():
                self._give_back(job)
                return
            self._end(job, "failed", error=redact(f"{error}" + (f" ({error.hint})" if error.hint else "")))
            return
        except (sa.exc.DBAPIError, psycopg.Error):
            if not self.stop.is_set():
                raise  # the job stays ours until the lease is over, and is begun again then
            self._give_back(job)
            return
        except Exception:
            log.exception("job %d (%s) failed by a defect", job.job_id, job.kind)
            self._end(job, "failed", error="a defect of gapless: the indexer's log has it")
            return
        if heart.standing == "cancelled":
            self._end(job, "cancelled", result=result)
        elif heart.standing == "ours" and task.stop.is_set():  # the process, a chain or its lead is to end, or has
            self._give_back(job)
        elif heart.standing == "ours":
            self._end(job, "done", result=result)

    def _give_back(self, job: JobClaim) -> None:
        with self.resources.engine.begin() as connection:
            jobs.give_back(connection, job)

    def _work(self, task: Task) -> dict[str, Any]:
        for one in task.networks.values():
            if not one.checked:
                one.client.check()
                one.checked = True
        return KINDS[self.kind](task)

    def _end(
        self, job: JobClaim, outcome: jobs.Outcome, *, result: dict[str, Any] | None = None, error: str | None = None
    ) -> None:
        with self.resources.engine.begin() as connection:
            jobs.finish(connection, job, outcome, result=result, error=error)
        log.info("job %d (%s): %s%s", job.job_id, job.kind, outcome, f": {error}" if error else "")

    def _chosen(self, job: JobClaim) -> dict[str, Network]:
        """The chains that a job is about.

        Raises:
            GaplessError: one that it names is not there.
        """
        if job.kind in _WITHOUT_NODES:
            return {}
        contract, chain = job.parameters.get("contract"), job.parameters.get("chain")
        manifest, networks = self.resources.manifest, self.networks()
        names = list(manifest.chains)
        if contract is not None:
            if contract not in manifest.contracts:
                raise GaplessError(f"the manifest has no contract {contract} any more")
            names = [deployment.chain for deployment in manifest.contracts[contract].deployments]
        chosen = {name: networks[name] for name in names if chain in (None, name) and name in networks}
        if not chosen:
            raise GaplessError(f"there is nothing to do on chain {chain}: the manifest has no such chain for it")
        for name, one in chosen.items():
            if one.stop.is_set():
                raise GaplessError(f"chain {name} is halted: see its state in gapless status")
        return chosen


class _Heart:
    """Says in the database that a job is under way, from a thread of its own, until it is not.

    Args:
        desk: whose job.
        job: which.
        task: told to stop when the job is cancelled or no longer ours, its chain or process is to end, or another
            process leads.
    """

    def __init__(self, desk: JobRunner, job: JobClaim, task: Task) -> None:
        self._desk = desk
        self._job = job
        self._task = task
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"job {job.job_id}", daemon=True)
        self.standing: jobs.Standing = "ours"

    def __enter__(self) -> "_Heart":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if not self._task.stop.is_set():
            self._beat()  # a cancellation that came just now still counts

    def _run(self) -> None:
        left = 0.0
        while not self._over.wait(_LOOK_EVERY):
            is_to_end = self._desk.stop.is_set() or any(one.stop.is_set() for one in self._task.networks.values())
            if is_to_end or not self._desk.leads(self._job.parameters):
                self._task.stop.set()
            left -= _LOOK_EVERY
            if left <= 0:
                self._beat()
                left = BEAT_EVERY

    def _beat(self) -> None:
        with suppress(sa.exc.DBAPIError, psycopg.Error), self._desk.resources.engine.begin() as connection:
            self.standing = jobs.beat(connection, self._job, self._task.progress())
        if self.standing != "ours":
            self._task.stop.set()
