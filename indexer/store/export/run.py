"""One export: a folder brought up to date with one event's table."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy.engine import Connection, Engine

from indexer.errors import GaplessError
from indexer.intervals import ALWAYS, EMPTY, BlockRange, RangeSet, contains, format_ranges, intersect, subtract, union
from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.export import exported_ranges, folder_manifest, range_file
from indexer.store.export.copy_numbers import TooWideError
from indexer.store.export.exported_ranges import Exportable
from indexer.store.export.file_plan import FileStep, plan
from indexer.store.export.folder import Folder
from indexer.store.export.folder_manifest import FileFormat, FolderManifest, ManifestError, RangeFile
from indexer.store.export.range_file import RangeRows, Written
from indexer.store.integrity import digests

log = logging.getLogger(__name__)

#: Seconds between two manifests of an export that goes on: what is written since the last one is lost by a kill.
_COMMIT_EVERY: Final = 5.0


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be exported.

    Attributes:
        file_format: of the files.
        blocks_per_file: the width of the grid of files.
        blocks: only these; files that are there are kept up to date in any case.
        chain_id: only this chain; None: all.
        proven: only blocks that were proven against receipts roots.
        unfinalized: also blocks that can still be reorganised.
        compare: compare all files with the tables, also where history changed nothing.
    """

    file_format: FileFormat = "parquet"
    blocks_per_file: int = 100_000
    blocks: BlockRange = (0, ALWAYS)
    chain_id: int | None = None
    proven: bool = False
    unfinalized: bool = False
    compare: bool = False


@dataclass(slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        written, rewritten, kept: files.
        rows: of the files that were written.
        covered: by chain: the blocks that are in the folder now.
        set_apart: by chain: blocks whose files stay though they are not all covered any more.
        skipped: blocks whose coverage was taken back while the export went on.
        stopped: whether it was told to stop before it was done.
    """

    written: int = 0
    rewritten: int = 0
    kept: int = 0
    rows: int = 0
    covered: dict[str, RangeSet] = field(default_factory=dict)
    set_apart: dict[str, RangeSet] = field(default_factory=dict)
    skipped: int = 0
    stopped: bool = False


class StoppedError(GaplessError):
    """The export was told to stop; what was finished is in the folder's manifest."""


def export(
    engine: Engine, event: CatalogEvent, folder: Folder, request: ExportRequest, stop: threading.Event
) -> ExportReport:
    """Brings a folder up to date with an event's table.

    Args:
        engine: the database, of the current schema.
        event: whose rows.
        folder: where; empty, or with a manifest of an export of the same event.
        request: what of them.
        stop: ends it after the rows at hand when set; what was finished is in the manifest then.

    Raises:
        FolderError: the folder cannot be used, or another export uses it.
        ManifestError: what is in the folder is of another kind.
    """
    with folder.locked():
        before = folder_manifest.load(folder)
        manifest = before or _new(event, request, [])
        _require_alike(folder, manifest, event, request)
        for name in list(manifest.strays(folder)):
            folder.delete(name)
        gone: set[str] = set()
        while True:
            one = _Export(engine, event, folder, request, manifest, stop, gone)
            try:
                return one.run()
            except TooWideError as error:
                manifest = _widened(folder, one.manifest, event, request, str(error))
                gone |= one.gone | _paths(one.manifest)


def _new(event: CatalogEvent, request: ExportRequest, wide: list[str], generation: int = 0) -> FolderManifest:
    columns = range_file.described_columns(event, range_file.fields_of(event, wide))
    return FolderManifest(
        event.contract,
        event.api_name,
        event.signature,
        request.file_format,
        request.blocks_per_file,
        request.proven,
        columns,
        wide,
        generation,
    )


def _require_alike(folder: Folder, there: FolderManifest, event: CatalogEvent, request: ExportRequest) -> None:
    """Refuses to mix files of different kinds.

    Raises:
        ManifestError: says what is different.
    """
    asked = _new(event, request, there.wide)
    for name, what in (
        ("contract", "contract"),
        ("event", "event"),
        ("signature", "signature"),
        ("columns", "columns"),
        ("file_format", "format"),
        ("blocks_per_file", "blocks per file"),
        ("proven", "--proven"),
    ):
        found, wanted = getattr(there, name), getattr(asked, name)
        if found != wanted:
            detail = "other columns" if name == "columns" else f"{what} {found}, not {wanted}"
            raise ManifestError(
                f"{folder.shown} holds an export with {detail}",
                hint="export with the same options, or to another folder (--out)",
            )


def _widened(
    folder: Folder, manifest: FolderManifest, event: CatalogEvent, request: ExportRequest, column: str
) -> FolderManifest:
    """The manifest of a folder whose files are all written anew, with one more column as text.

    Raises:
        ManifestError: a file cannot be written anew, since its blocks are not in the tables any more.
    """
    log.info("%s: a number in %s has more than 38 digits; all files get it as text", event.label, column)
    if lost := [one for one in manifest.files if not one.covered]:
        raise ManifestError(
            f"{folder.shown}: a number in the column {column} has more than 38 digits, so all files must get it as "
            f"text, and that of blocks {lost[0].first_block}-{lost[0].last_block} cannot be written anew: its blocks "
            "are not covered any more",
            hint="export to another folder (--out); this one stays as it is",
        )
    return _new(event, request, [*manifest.wide, column], manifest.generation)


def _paths(manifest: FolderManifest) -> set[str]:
    return {one.path for one in manifest.files if one.path is not None}


class _Export:
    """A folder on its way.

    Args:
        engine, event, folder, request, stop: as of :func:`export`.
        manifest: what is there.
        gone: files that are deleted once the manifest is written. Where there are some at the beginning, it replaces
            another one as a whole, and is written once everything is there.
    """

    def __init__(
        self,
        engine: Engine,
        event: CatalogEvent,
        folder: Folder,
        request: ExportRequest,
        manifest: FolderManifest,
        stop: threading.Event,
        gone: set[str],
    ) -> None:
        self._engine, self._event, self._folder, self._request, self._stop = engine, event, folder, request, stop
        self.manifest = manifest
        self.gone = gone
        self._at_once = bool(gone)
        self._committed = time.monotonic()
        self._report = ExportReport()

    def run(self) -> ExportReport:
        """Does all of it."""
        with self._snapshot() as connection:
            every = exported_ranges.load(connection, self._event.event_id)
            method = digests.method(connection)
        for one in every:
            if self._request.chain_id in (None, one.chain_id):
                self._export_chain(one, method)
        self._commit()
        self._report.kept = sum(one.path is not None for one in self.manifest.files) - self._report.written
        return self._report

    def _snapshot(self) -> Connection:
        return self._engine.connect().execution_options(isolation_level="REPEATABLE READ")

    def _available(self, one: Exportable) -> tuple[RangeSet, RangeSet]:
        """The blocks that may be exported: those that are final, and those that are not."""
        blocks = one.proven if self._request.proven else one.covered
        final = intersect(blocks, ((0, one.finalized),)) if one.finalized >= 0 else EMPTY
        return final, subtract(blocks, final) if self._request.unfinalized else EMPTY

    def _export_chain(self, one: Exportable, method: str) -> None:
        final, latest = self._available(one)
        there = [file for file in self.manifest.of_chain(one.chain_id) if file.final]
        self._set_apart(one, final, there)
        changed = [file.blocks for file in self._changed(one, final, there, method)]
        asked = union(intersect(final, (self._request.blocks,)), intersect(final, union([f.blocks for f in there])))
        width = self.manifest.blocks_per_file
        steps = plan(asked, one.wanted, [file.blocks for file in there], changed, width)
        latest_steps = plan(intersect(latest, (self._request.blocks,)), EMPTY, [], [], width)
        if any(not file.final for file in self.manifest.of_chain(one.chain_id)):
            self._forget(one.chain_id, [f.blocks for f in self.manifest.of_chain(one.chain_id) if not f.final])
        taken = [self._take(one, step, method, is_final=True) for step in steps]
        taken += [self._take(one, step, method, is_final=False) for step in latest_steps]
        if all(taken):
            self.manifest.marks[str(one.chain_id)] = one.mark
        self._report.covered[one.chain] = self.manifest.covered(one.chain_id)

    def _set_apart(self, one: Exportable, final: RangeSet, there: Sequence[RangeFile]) -> None:
        """Notes which files hold blocks that may not be exported any more; they stay as they are."""
        held = {file.blocks: contains(final, file.blocks) for file in there}
        self.manifest.files = [
            replace(file, covered=held.get(file.blocks, True)) if file.chain_id == one.chain_id and file.final else file
            for file in self.manifest.files
        ]
        if apart := union([blocks for blocks, is_held in held.items() if not is_held]):
            self._report.set_apart[one.chain] = apart

    def _changed(
        self, one: Exportable, final: RangeSet, there: Sequence[RangeFile], method: str
    ) -> Iterator[RangeFile]:
        """The files whose rows are others by now."""
        if self.manifest.marks.get(str(one.chain_id)) == one.mark and not self._request.compare:
            return
        for file in there:
            if not contains(final, file.blocks):
                continue
            self._check()
            with self._snapshot() as connection:
                found = range_file.measure(connection, RangeRows(self._event, one.chain_id, file.blocks))
            if file.method != method or found != (file.rows, int(file.checksum)):
                yield file

    def _take(self, one: Exportable, step: FileStep, method: str, *, is_final: bool) -> bool:
        """Writes a step's file; returns False where its blocks may not be exported any more."""
        self._check()
        rows = RangeRows(self._event, one.chain_id, step.blocks)
        name = self.manifest.path(one.chain_id, step.blocks)
        with self._snapshot() as connection:
            if not self._may_be_written(connection, one.chain_id, step.blocks, is_final=is_final):
                self._report.skipped += step.blocks[1] - step.blocks[0] + 1
                return False
            written = self._write(connection, rows, name)
        self._forget(one.chain_id, step.replaces)
        self.manifest.files.append(_described(rows, name, written, method, is_final=is_final))
        self._report.written += written.rows > 0
        self._report.rewritten += bool(step.replaces)
        self._report.rows += written.rows
        log.info(
            "%s on %s: blocks %s: %d rows", self._event.label, one.chain, format_ranges((step.blocks,)), written.rows
        )
        if not self._at_once and time.monotonic() - self._committed >= _COMMIT_EVERY:
            self._commit()
        return True

    def _may_be_written(self, connection: Connection, chain_id: int, blocks: BlockRange, *, is_final: bool) -> bool:
        """Whether the snapshot that the rows are read in has the blocks; coverage may be taken back at any time."""
        for one in exported_ranges.load(connection, self._event.event_id):
            if one.chain_id == chain_id:
                final, latest = self._available(one)
                return contains(final if is_final else union(final, latest), blocks)
        return False

    def _write(self, connection: Connection, rows: RangeRows, name: str) -> Written:
        if self.manifest.file_format == "parquet":
            return range_file.write_parquet(connection, rows, self._folder, name, self.manifest.wide, self._check_stop)
        as_csv = self.manifest.file_format == "csv"
        return range_file.write_text(connection, rows, self._folder, name, as_csv=as_csv, check=self._check_stop)

    def _forget(self, chain_id: int, ranges: Sequence[BlockRange]) -> None:
        """Takes files out of the manifest; they are deleted once the next one is written."""
        dropped = [one for one in self.manifest.of_chain(chain_id) if one.blocks in ranges]
        self.gone |= {one.path for one in dropped if one.path is not None}
        self.manifest.files = [one for one in self.manifest.files if one not in dropped]

    def _check(self) -> None:
        """Ends an export that is to stop, with what is finished in the manifest."""
        if self._stop.is_set():
            if not self._at_once:
                self._commit()
            self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError(
                f"{self._event.label}: the export was stopped", hint="run it again: it goes on from where it is"
            )

    def _commit(self) -> None:
        self.manifest.write(self._folder)
        for name in sorted(self.gone):
            self._folder.delete(name)
        self.gone.clear()
        self._committed = time.monotonic()


def _described(rows: RangeRows, name: str, written: Written, method: str, *, is_final: bool) -> RangeFile:
    return RangeFile(
        path=name if written.rows else None,
        chain_id=rows.chain_id,
        first_block=rows.blocks[0],
        last_block=rows.blocks[1],
        rows=written.rows,
        bytes=written.bytes,
        sha256=written.sha256,
        final=is_final,
        checksum=str(written.checksum),
        method=method,
    )
