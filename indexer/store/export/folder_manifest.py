"""``_manifest.json``: which files of a folder are its table's, of which blocks, and what their rows sum up to."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

from indexer import __version__
from indexer.errors import GaplessError
from indexer.intervals import BlockRange, RangeSet, normalise
from indexer.store.export.file_plan import cell_of
from indexer.store.export.folder import Folder

NAME: Final = "_manifest.json"
FORM: Final = 1

FileFormat = Literal["parquet", "csv", "ndjson"]
ENDINGS: Final[Mapping[FileFormat, str]] = {"parquet": "parquet", "csv": "csv.zst", "ndjson": "ndjson.zst"}

#: Names that an export gives, and only those: nothing else in a folder is ever deleted.
_OURS: Final = re.compile(r"chain_id=\d+/first_block=\d+/\d+-\d+\.\d+\.(parquet|csv\.zst|ndjson\.zst)(\.part)?")


class ManifestError(GaplessError):
    """A folder's manifest cannot be used."""


@dataclass(frozen=True, slots=True)
class RangeFile:
    """One file, or a range whose blocks have no rows.

    Attributes:
        path: relative to the folder; None: no rows, no file.
        chain_id, first_block, last_block: whose rows.
        rows: how many.
        bytes, sha256: of the file.
        final: whether none of its blocks could be reorganised when it was written.
        checksum: what Postgres' hashes of the rows sum up to, in digits.
        method: how Postgres hashed them; sums of another method say nothing.
        covered: false: its blocks are not all covered any more. It stays as it was until they are again.
    """

    path: str | None
    chain_id: int
    first_block: int
    last_block: int
    rows: int
    bytes: int
    sha256: str | None
    final: bool
    checksum: str
    method: str
    covered: bool = True

    @property
    def blocks(self) -> BlockRange:
        """Its range."""
        return self.first_block, self.last_block


@dataclass(slots=True)
class FolderManifest:
    """What a folder says.

    Attributes:
        contract, event, signature: what the rows are of.
        file_format: of all files.
        blocks_per_file: the width of the grid.
        proven: whether only blocks that were proven against receipts roots are in it.
        columns: of the table: name, ABI type and type in the files, in order.
        wide: columns whose numbers are text, since one does not fit into 38 digits.
        generation: +1 with every manifest; part of the names of files.
        marks: by chain: of the state of history in which all files of the chain were last compared.
        files: all of them, in the order of chains and blocks.
    """

    contract: str
    event: str
    signature: str
    file_format: FileFormat
    blocks_per_file: int
    proven: bool
    columns: list[dict[str, str]]
    wide: list[str] = field(default_factory=list)
    generation: int = 0
    marks: dict[str, str] = field(default_factory=dict)
    files: list[RangeFile] = field(default_factory=list)

    def of_chain(self, chain_id: int) -> list[RangeFile]:
        """The files of a chain."""
        return [one for one in self.files if one.chain_id == chain_id]

    def covered(self, chain_id: int) -> RangeSet:
        """The blocks of a chain whose rows are in the folder."""
        return normalise(one.blocks for one in self.of_chain(chain_id))

    def path(self, chain_id: int, blocks: BlockRange) -> str:
        """The name of a new file; no file had it before."""
        cell, (first, last) = cell_of(blocks[0], self.blocks_per_file), blocks
        name = f"{first}-{last}.{self.generation + 1}.{ENDINGS[self.file_format]}"
        return f"chain_id={chain_id}/first_block={cell}/{name}"

    def strays(self, folder: Folder) -> Iterator[str]:
        """Files in the folder that an export left there unnamed, as one that was killed does."""
        named = {one.path for one in self.files}
        return (name for name in folder.names() if name not in named and _OURS.fullmatch(name))

    def write(self, folder: Folder) -> None:
        """Makes it what the folder says."""
        self.generation += 1
        self.files.sort(key=lambda one: (one.chain_id, one.first_block))
        document = {"form": FORM, "written_by": f"gapless {__version__}", **asdict(self)}
        covered = {str(c): self.covered(c) for c in sorted({one.chain_id for one in self.files})}
        document["covered"] = covered
        folder.write(NAME, json.dumps(document, indent=1).encode() + b"\n")


def load(folder: Folder) -> FolderManifest | None:
    """Reads the manifest of a folder; None where it has none.

    Raises:
        ManifestError: it is not one that this version writes.
    """
    data = folder.read(NAME)
    if data is None:
        return None
    try:
        document: dict[str, Any] = json.loads(data)
        if document["form"] != FORM:
            raise ManifestError(
                f"{folder.shown}/{NAME} has the form {document['form']}, this version of gapless writes {FORM}",
                hint="export to another folder, or use the version that wrote it",
            )
        known = {one.name for one in fields(FolderManifest)} - {"files"}
        files = [RangeFile(**one) for one in document["files"]]
        return FolderManifest(**{name: document[name] for name in known}, files=files)
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{folder.shown}/{NAME} is no manifest of an export ({error})",
            hint="restore it, or export to another folder",
        ) from None
