"""A program replayed beside what it keeps, and compared with it: a process of its own, for audits.

The rows of its events are read up to the block at which its tables are true, and handled into temporary tables, all in
one snapshot that is rolled back: nothing of it stays. It takes as long as a build, and as much memory: the program's
working set, and the temporary tables in Postgres. The code runs in a process like the program's own, with the same
order of sets and the same refusals.
"""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import Connection, Engine

from indexer.programs import module
from indexer.programs.handling import HandlerError
from indexer.programs.memory import WORKING_SET, Memory
from indexer.programs.module import LoadedProgram, ProgramFileError
from indexer.programs.runner import STEP_ROWS, WRITE_ROWS, handling_of, layouts
from indexer.programs.table import TableType
from indexer.store.database import create_engine, process_name
from indexer.store.programs import disturbances, program_generations, program_inputs, program_tables, scratch_tables
from indexer.store.programs.program_generations import ProgramGeneration
from indexer.store.programs.program_inputs import Inputs
from indexer.store.programs.program_tables import TableChanges
from indexer.store.programs.scratch_tables import ScratchTable

DIFFERENCES_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class TableDifference:
    """A table that is not what a replay gives.

    Attributes:
        table: the table of the generation.
        count: how many of its rows differ.
        detail: the first of them, for people.
    """

    table: str
    count: int
    detail: str


@dataclass(slots=True)
class Replay:
    """What a replay found.

    Attributes:
        told: why nothing was compared, or what else is to be known; empty: nothing.
        program_id: the generation; None: nothing was compared.
        event_id: one of its events.
        first: the first block that was replayed.
        last: the last one.
        events: how many rows of events were handled.
        rows: how many rows its tables have.
        differences: of each table that differs.
    """

    told: str = ""
    program_id: int | None = None
    event_id: int | None = None
    first: int = 0
    last: int = -1
    events: int = 0
    rows: int = 0
    differences: list[TableDifference] = field(default_factory=list)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Replay":
        """What the process wrote."""
        return cls(**{**document, "differences": [TableDifference(**one) for one in document["differences"]]})


def compare(
    engine: Engine,
    name: str,
    loaded: LoadedProgram,
    chain_id: int,
    *,
    working_set: int = WORKING_SET,
    step_rows: int = STEP_ROWS,
    write_rows: int = WRITE_ROWS,
) -> Replay:
    """Replays the served generation of a program on a chain, and compares.

    Args:
        engine: the database.
        name: of the program.
        loaded: its code.
        chain_id: the chain.
        working_set: rows in memory at most, about.
        step_rows: about how many rows of each event are read at once.
        write_rows: changed rows after which they are written to the temporary tables.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        try:
            served = [one for one in program_generations.load(connection, name, chain_id) if one.served]
            if not served:
                return Replay("it has no build yet")
            inputs = program_inputs.load_inputs(connection, chain_id, loaded.program.contracts)
            if reason := next(_obstacles(connection, served[0], loaded, inputs), ""):
                return Replay(reason)
            work = _ReplayWork(connection, served[0], loaded, inputs)
            return work.compared(working_set, step_rows, min(write_rows, working_set))
        finally:
            connection.rollback()


def _obstacles(connection: Connection, one: ProgramGeneration, loaded: LoadedProgram, inputs: Inputs) -> Iterator[str]:
    """Why the rows of a generation need not be what a replay gives."""
    if not one.live:
        yield f"what is served is stale: {one.remark or 'it is kept no more'}"
    if one.code_hash != loaded.code_hash:
        yield "its rows are of other code than the file has now; they are built anew, unless it stands still"
    if one.remark is not None:
        yield f"its rows are of more than one code: {one.remark}"
    if not one.is_built_by(list(layouts(loaded).values()), [event.event_id for event in inputs.events]):
        yield "its events or columns are others now; it is built anew"
    changed = [each for each in disturbances.load(connection, one.program_id) if each.first_block <= one.through_block]
    if changed:
        yield f"rows that it has handled have changed: {changed[0].reason}; it is built anew"
    if one.through_block < one.start_block:
        yield "it has handled no block yet"
    elif program_inputs.reach(connection, one, inputs) < one.through_block:
        yield "blocks that it has handled are not covered any more"


class _ReplayWork:
    """One replay.

    Args:
        connection: in the snapshot.
        generation: what is compared.
        loaded: the code.
        inputs: the events.
    """

    def __init__(
        self, connection: Connection, generation: ProgramGeneration, loaded: LoadedProgram, inputs: Inputs
    ) -> None:
        self._connection = connection
        self._generation = generation
        self._inputs = inputs
        self._loaded = loaded
        self._scratch: dict[TableType, ScratchTable] = {
            table: scratch_tables.create(connection, stored)
            for table, stored in zip(loaded.program.tables, generation.tables, strict=True)
        }
        self._memory = Memory(loaded.program.tables, self._fetch)

    def compared(self, working_set: int, step_rows: int, write_rows: int) -> Replay:
        """What the replay finds."""
        one = self._generation
        found = Replay(
            f"it stands still: {one.problem}" if one.problem else "",
            one.program_id, one.event_ids[0], one.start_block, one.through_block,
        )  # fmt: skip
        handling = handling_of(self._loaded.program, self._inputs, one.chain_id, self._memory)
        through = one.start_block - 1
        while through < one.through_block:
            through, rows = program_inputs.read_blocks(
                self._connection, one.chain_id, self._inputs, through + 1, one.through_block, step_rows
            )
            try:
                with _guarded():
                    handling.handle(rows, one.through_block)
            except HandlerError as error:
                found.differences = [TableDifference(one.tables[0].stored_as, 1, f"a replay fails: {error}")]
                return found
            found.events += len(rows)
            if self._memory.dirty_rows >= write_rows or self._memory.fresh_rows >= working_set // 2:
                self._write(working_set)
        self._write(working_set)
        for kept, replayed in zip(one.tables, self._scratch.values(), strict=True):
            rows_of, count, differing = scratch_tables.differences(
                self._connection, one.chain_id, kept, replayed, DIFFERENCES_SHOWN
            )
            found.rows += rows_of
            if count:
                more = f"; and {count - len(differing)} more" if count > len(differing) else ""
                detail = "; ".join(each.described() for each in differing)
                found.differences.append(TableDifference(kept.stored_as, count, f"{detail}{more}"))
        return found

    def _fetch(self, table: TableType, keys: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
        rows = keys if table.key_count > 1 else [(one,) for one in keys]
        chain_id = self._generation.chain_id
        return program_tables.load_rows(self._connection, chain_id, self._scratch[table], rows)

    def _write(self, working_set: int) -> None:
        for table, one in self._memory.changes().items():
            changes = TableChanges(one.added, one.changed, one.removed)
            scratch_tables.write(self._connection, self._generation.chain_id, self._scratch[table], changes)
        self._memory.written(working_set)


@contextmanager
def _guarded() -> Iterator[None]:
    module.handlers_run(1)
    try:
        yield
    finally:
        module.handlers_run(-1)


def main() -> None:
    """Run the process: writes a :class:`Replay` as JSON into a file."""
    parser = argparse.ArgumentParser(description="Replay a program of a manifest, and compare.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--module", type=Path, required=True)
    parser.add_argument("--chain", type=int, required=True, help="EIP-155 chain id")
    parser.add_argument("--working-set", type=int, default=WORKING_SET)
    parser.add_argument("--result", type=Path, required=True, help="file for what is found")
    given = parser.parse_args()
    engine = create_engine(os.environ["DATABASE_URL"], application_name=process_name("gapless audit"), pool_size=1)
    try:
        loaded = module.load(given.module)
    except ProgramFileError as error:
        found = Replay(str(error))
    else:
        module.forbid_outside()
        found = compare(engine, given.name, loaded, given.chain, working_set=given.working_set)
    given.result.write_text(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
