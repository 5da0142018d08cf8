"""A program at work on one chain: events read, handled in memory, and written back with the position.

Each :meth:`ProgramRunner.step` is bounded. History is handled in large batches, whose changes stay in memory until
there are many; what they are and how far they go is written in one transaction. From the finalized block on, each step
is written at once, with what undoes it. Whatever others did to the generation meanwhile (a reorganisation, another
writer) shows in its version: what was not written is forgotten, and its position is read again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy.engine import Connection, Engine

from indexer.programs import module
from indexer.programs.describe import described
from indexer.programs.events import EventArguments
from indexer.programs.handling import HandlerError, Handling
from indexer.programs.memory import WORKING_SET, Memory, RowsUnreadError
from indexer.programs.module import LoadedProgram
from indexer.programs.program import Program
from indexer.programs.table import TableType
from indexer.store import database
from indexer.store.derived.replacing import ViewInTheWayError
from indexer.store.programs import disturbances, program_generations, program_inputs, program_tables
from indexer.store.programs.program_generations import ProgramGeneration, ProgramLostError
from indexer.store.programs.program_inputs import Batch, Inputs
from indexer.store.programs.program_tables import ProgramColumn, ProgramTable, TableChanges

log = logging.getLogger(__name__)

STEP_ROWS: Final = 20_000
"""About how many rows of each event one step handles at most."""
WRITE_ROWS: Final = 200_000
"""Changed rows after which history is written."""
WRITE_EVERY: Final = 10.0
"""Seconds after which it is written at the latest."""
SERVE_AGAIN: Final = 5.0
"""Seconds until a build that something of a user keeps from being served is tried to be served again."""

Outcome = Literal["moved", "idle", "waits", "stands"]
"""``moved``: there may be more to do at once; ``waits``: its events are not there yet; ``stands``: it has a problem."""


@dataclass(slots=True)
class _Work:
    """What is in memory of a generation; forgotten as a whole."""

    generation: ProgramGeneration
    inputs: Inputs
    memory: Memory
    handling: Handling
    through: int
    """The last block that was handled, written or not."""
    finalized: int = -1


class ProgramRunner:
    """One program on one chain.

    Args:
        engine: the database.
        name: of the program.
        loaded: its code.
        chain_id: the chain.
        working_set: rows in memory at most, about.
        step_rows: about how many rows of each event a step handles at most.
        write_rows: changed rows after which history is written.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        loaded: LoadedProgram,
        chain_id: int,
        *,
        working_set: int = WORKING_SET,
        step_rows: int = STEP_ROWS,
        write_rows: int = WRITE_ROWS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._name = name
        self._loaded = loaded
        self._chain_id = chain_id
        self._working_set = working_set
        self._step_rows = step_rows
        self._write_rows = min(write_rows, working_set)
        self._clock = clock
        self._tables = layouts(loaded)
        self._work: _Work | None = None
        self._error: HandlerError | None = None
        self._written_at = clock()
        self._serve_after = clock()

    @property
    def label(self) -> str:
        """For people."""
        return f"program {self._name} on chain {self._chain_id}"

    def forget(self) -> None:
        """Forgets what is in memory: the position is read again."""
        self._work = None
        self._error = None

    def step(self) -> Outcome:
        """Takes the program one step further.

        Raises:
            sqlalchemy.exc.DBAPIError, psycopg.Error, BusyError: Postgres could not be asked; nothing is lost.
        """
        try:
            return self._step()
        except ProgramLostError as error:
            log.info("%s: %s", self.label, error)
            self.forget()
            return "moved"
        except RowsUnreadError as error:
            self.forget()
            raise (error.__cause__ or error) from None
        except BaseException:
            self.forget()
            raise

    def _step(self) -> Outcome:
        work = self._work or self._open()
        if work is None:
            return "waits"
        batch = self._read(work)
        if batch is None:
            raise ProgramLostError("its tables were changed meanwhile; reading its position again")
        if batch.disturbances and not self._settle(work, batch):
            return "moved"
        if batch.rows and not self._handle(work, batch):
            return "moved"
        work.through, work.finalized = batch.through, batch.finalized
        at_end = batch.through >= (batch.reach if batch.generation.near else min(batch.reach, batch.finalized))
        at_end |= self._error is not None and batch.through == self._error.block_number - 1
        moved = work.through > work.generation.through_block
        if moved and (at_end or self._is_due(work)):
            self._write(work)
        elif not work.generation.near and at_end and work.through >= batch.finalized >= 0:
            self._write(work)  # it is near from here on
            moved = True
        if self._error is not None and at_end:
            self._stand(work, self._error)
            return "stands"
        if at_end and not work.generation.served and self._clock() >= self._serve_after:
            self._serve(work)
        return "moved" if moved and not (at_end and batch.through == batch.reach) else "idle"

    # -- beginning ---------------------------------------------------------------------------------------------------

    def _open(self) -> _Work | None:
        """Finds the generation that the code goes on with, or begins one."""
        found = database.attempt(self._engine, f"{self.label} cannot begin", self._find)
        if found is None:
            return None
        generation, inputs = found
        memory = Memory(
            list(self._tables), self._fetch_of(generation), is_new=generation.through_block < generation.start_block
        )
        handling = handling_of(self._loaded.program, inputs, self._chain_id, memory)
        self._work = _Work(generation, inputs, memory, handling, generation.through_block)
        self._written_at = self._clock()
        return self._work

    def _find(self, connection: Connection) -> tuple[ProgramGeneration, Inputs] | None:
        inputs = program_inputs.load_inputs(connection, self._chain_id, self._loaded.program.contracts)
        if inputs.start_block is None:
            return None
        live = [one for one in program_generations.load(connection, self._name, self._chain_id) if one.live]
        ids = [event.event_id for event in inputs.events]
        if live and live[0].is_built_by(list(self._tables.values()), ids):
            (generation,) = live
            if generation.code_hash == self._loaded.code_hash or generation.problem is not None:
                if generation.code_hash != self._loaded.code_hash:
                    program_generations.mend(connection, generation, self._loaded.code_hash)
                    log.info("%s: goes on with mended code from block %d", self.label, generation.through_block + 1)
                version = program_generations.take(connection, generation.program_id)
                (now,) = [one for one in program_generations.load(connection, self._name, self._chain_id) if one.live]
                assert now.version == version
                return now, inputs
        return self._begin(connection, live, inputs, "its code is another one: its tables are built anew"), inputs

    def _begin(
        self, connection: Connection, live: Sequence[ProgramGeneration], inputs: Inputs, remark: str
    ) -> ProgramGeneration:
        for one in live:
            program_generations.freeze(connection, one, remark)
            log.info("%s: %s", self.label, remark)
        assert inputs.start_block is not None
        begun = program_generations.begin(
            connection,
            self._name,
            self._chain_id,
            code_hash=self._loaded.code_hash,
            event_ids=[event.event_id for event in inputs.events],
            tables=list(self._tables.values()),
            start_block=inputs.start_block,
        )
        program_generations.change_ends(connection)
        log.info("%s: begins at block %d", self.label, begun.start_block)
        return begun

    def _fetch_of(
        self, generation: ProgramGeneration
    ) -> Callable[[TableType, Sequence[Any]], Sequence[tuple[Any, ...]]]:
        stored = dict(zip(self._tables, generation.tables, strict=True))

        def fetch(table: TableType, keys: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
            rows = keys if table.key_count > 1 else [(one,) for one in keys]
            with self._engine.connect() as connection:
                found = program_tables.load_rows(connection, self._chain_id, stored[table], rows)
                connection.rollback()
            return found

        return fetch

    # -- a step ------------------------------------------------------------------------------------------------------

    def _read(self, work: _Work) -> Batch | None:
        with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            batch = program_inputs.read(
                connection,
                work.generation.program_id,
                work.generation.version,
                work.inputs,
                after=work.through,
                most_rows=self._step_rows,
                before=self._error.block_number if self._error is not None else None,
            )
            connection.rollback()
        return batch

    def _settle(self, work: _Work, batch: Batch) -> bool:
        """Does what disturbances ask for; returns whether what was read can be handled."""
        written = [one for one in batch.disturbances if one.first_block <= work.generation.through_block]
        if written:
            reason = f"{written[0].reason}: its tables are built anew"

            def begin_anew(connection: Connection) -> None:
                held = program_generations.lock(connection, work.generation.program_id, work.generation.version)
                inputs = program_inputs.load_inputs(connection, self._chain_id, self._loaded.program.contracts)
                if inputs.start_block is None:
                    program_generations.freeze(connection, held, reason)
                    program_generations.change_ends(connection)
                else:
                    self._begin(connection, [held], inputs, reason)

            database.attempt(self._engine, f"{self.label} cannot begin anew", begin_anew)
            self.forget()
            return False
        is_handled = any(one.first_block <= work.through for one in batch.disturbances)
        with self._engine.begin() as connection:
            disturbances.settle(connection, batch.disturbances)
        # Another set of sources is another set of rows, also of the blocks to come.
        self.forget()
        log.debug("%s: reading again%s", self.label, " what was not written" if is_handled else "")
        return False

    def _handle(self, work: _Work, batch: Batch) -> bool:
        """Hands events to the handlers; returns whether none of them failed."""
        module.handlers_run(1)
        try:
            work.handling.handle(batch.rows, batch.finalized)
        except HandlerError as error:
            # What is in memory includes a part of that block: it is handled again up to the block before.
            self._work = None
            self._error = error
            return False
        finally:
            module.handlers_run(-1)
        return True

    def _is_due(self, work: _Work) -> bool:
        return (
            work.generation.near
            or work.memory.dirty_rows >= self._write_rows
            or work.memory.fresh_rows >= self._working_set // 2
            or self._clock() >= self._written_at + WRITE_EVERY
        )

    def _write(self, work: _Work) -> None:
        """Writes what was changed, and how far that goes."""
        changes = work.memory.changes()
        stored = dict(zip(self._tables, work.generation.tables, strict=True))
        with self._engine.begin() as connection:
            held = program_generations.lock(connection, work.generation.program_id, work.generation.version)
            if any(one.first_block <= work.through for one in disturbances.load(connection, held.program_id)):
                raise ProgramLostError("rows that it handles were changed meanwhile; reading them again")
            for table, one in changes.items():
                program_tables.write(
                    connection,
                    self._chain_id,
                    stored[table],
                    TableChanges(one.added, one.changed, one.removed, one.before),
                )
            if held.near:
                for each in held.tables:
                    program_tables.forget_before(connection, each, work.finalized)
            moved = program_generations.move(connection, held, work.through, near=work.through >= work.finalized)
        work.generation = moved
        work.memory.written(self._working_set)
        self._written_at = self._clock()

    def _stand(self, work: _Work, error: HandlerError) -> None:
        """Says once why the program stands still."""
        if work.generation.problem == str(error):
            return
        log.error("%s stands still: %s. %s", self.label, error, error.hint or "")
        with self._engine.begin() as connection:
            program_generations.note_problem(connection, work.generation.program_id, str(error), error.block_number)
            found = program_generations.load(connection, self._name, self._chain_id)
        work.generation = next(one for one in found if one.program_id == work.generation.program_id)

    def _serve(self, work: _Work) -> None:
        def serve(connection: Connection) -> bool:
            is_other = program_generations.serve(connection, work.generation)
            if is_other:
                program_generations.change_ends(connection)
            return is_other

        try:
            changed = database.attempt(
                self._engine,
                f"{self.label} cannot be shown yet",
                serve,
                patience=1.0,
            )
        except database.BusyError as error:
            log.info("%s; trying again", error)
            return
        except ViewInTheWayError as error:
            self._serve_after = self._clock() + SERVE_AGAIN
            with self._engine.begin() as connection:
                remark = f"its new build waits: {error}; {error.hint}"
                is_news = program_generations.note_remark(connection, self._name, self._chain_id, remark)
            if is_news:
                log.error("%s: what was built anew is not served: %s. %s", self.label, error, error.hint)
            return
        if changed:
            log.info("%s: what was built anew is served from now on", self.label)
            self.forget()


def layouts(loaded: LoadedProgram) -> dict[TableType, ProgramTable]:
    """The tables of a program as the store wants them."""
    return {
        table: ProgramTable(
            document["name"],
            tuple(ProgramColumn(**column) for column in document["columns"]),
            comment=document["comment"],
        )
        for table, document in zip(loaded.program.tables, described(loaded)["tables"], strict=True)
    }


def handling_of(program: Program, inputs: Inputs, chain_id: int, memory: Memory) -> Handling:
    """A program's handlers over the rows of its events on a chain."""
    arguments = [
        EventArguments(event.label, [(column.argument, column.name) for column in event.table.columns])
        for event in inputs.events
    ]
    return Handling(program, arguments, chain_id, memory)
