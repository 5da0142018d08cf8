"""Audits of programs: each is replayed in a process of its own (:mod:`indexer.programs.replay`), one by one."""

import json
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.engine import Engine

from indexer.processes import tied
from indexer.programs.replay import Replay
from indexer.programs.supervisor import ProgramTask
from indexer.redact import redact
from indexer.store.integrity.findings import Finding
from indexer.store.programs import program_generations
from indexer.sync.audit.program_rows import ProgramsCheck
from indexer.sync.audit.scope import AuditScope

_LOOK_EVERY: Final = 0.1
_GRACE: Final = 3.0


@dataclass(frozen=True, slots=True)
class ProgramAudit:
    """Replays the programs of a manifest.

    Attributes:
        engine: the database.
        tasks: the programs.
        stop: ends the process at work when set.
    """

    engine: Engine
    tasks: Sequence[ProgramTask]
    stop: threading.Event

    def __call__(self, scope: AuditScope) -> ProgramsCheck:
        """Replays those that handle an audited event; what follows from all blocks before has no parts."""
        check = ProgramsCheck()
        told: dict[str, str] = {}
        events = {event.event_id: event for event in scope.events}
        with self.engine.connect() as connection:
            every = program_generations.load(connection, chain_id=scope.chain_id)
        served = {one.name: one for one in every if one.served}
        for task in self.tasks:
            one = served.get(task.name)
            if scope.chain_id not in task.chain_ids or self.stop.is_set():
                continue
            if one is not None:
                event = next((events[number] for number in one.event_ids if number in events), None)
                is_within = scope.within[0] <= one.start_block and one.through_block <= scope.within[1]
                if event is None or not is_within:
                    continue
            found = self._replay(task, scope.chain_id)
            check.events += found.events
            check.rows += found.rows
            if found.told:
                told[task.name] = found.told
            label = events[found.event_id].label if found.event_id in events else scope.chain
            check.findings += [
                Finding(
                    kind="program",
                    chain_id=scope.chain_id,
                    label=label,
                    event_id=found.event_id,
                    source_id=None,
                    first=found.first,
                    last=found.last,
                    count=each.count,
                    detail=f"derived.{each.table} of program {task.name}: {each.detail}",
                    program_id=found.program_id,
                )
                for each in found.differences
            ]
        check.told = told
        return check

    def _replay(self, task: ProgramTask, chain_id: int) -> Replay:
        url = self.engine.url.render_as_string(hide_password=False)
        # Sets are gone through in the same order as in the program's own process.
        environment = {**os.environ, "DATABASE_URL": url, "PYTHONHASHSEED": "0"}
        with tempfile.TemporaryDirectory(prefix="gapless-replay-") as folder:
            result, output = Path(folder) / "result", Path(folder) / "output"
            command = [
                *(sys.executable, "-m", "indexer.programs.replay", "--name", task.name, "--module", str(task.path)),
                *("--chain", str(chain_id), "--working-set", str(task.working_set), "--result", str(result)),
            ]
            with (
                output.open("wb") as stream,
                tied(command, output=stream, environment=environment, grace=_GRACE) as process,
            ):
                while process.poll() is None and not self.stop.wait(_LOOK_EVERY):
                    pass
            if result.exists():
                return Replay.from_json(json.loads(result.read_text()))
            if self.stop.is_set():
                return Replay("its replay was ended")
            said = output.read_text("utf-8", "replace").strip().rpartition("\n")[2]
            return Replay(f"its replay ended with status {process.returncode}: {redact(said)[:500]}")
