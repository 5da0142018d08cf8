"""Where files go: a directory, or a bucket of an object store that pyarrow knows (``s3://``, ``gs://``).

A file appears whole or not at all. In a directory it is written under a name that no reader of Parquet takes for a
file, flushed to the disk, and renamed; an object store shows an object once it is complete.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from indexer.errors import GaplessError
from indexer.redact import redact

_UNFINISHED: Final = ".part"
_LOCK: Final = ".lock"


class FolderError(GaplessError):
    """The folder cannot be read or written."""


class Sink:
    """A file that is being written: counts and hashes what passes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    @property
    def digest(self) -> str:
        """SHA-256 of what was written, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:
        """Write all of it."""
        self._stream.write(data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def flush(self) -> None:
        """Files do so when they are closed."""

    def writable(self) -> bool:
        """Python's files tell this."""
        return True

    def close(self) -> None:
        """Does nothing: the stream is closed where it was opened."""
        self.closed = True


class Folder:
    """A folder of files.

    Args:
        filesystem: of pyarrow.
        root: a path in it.
        shown: how people know it; no secret.
    """

    def __init__(self, filesystem: fs.FileSystem, root: str, shown: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._is_local = isinstance(filesystem, fs.LocalFileSystem)
        self.shown = shown

    @classmethod
    def at(cls, place: str) -> "Folder":
        """The folder of a path or URI.

        Raises:
            FolderError: it is none that pyarrow knows.
        """
        if "://" not in place:
            path = Path(place).expanduser().absolute()
            return cls(fs.LocalFileSystem(), str(path), place)
        shown = _without_secrets(place)
        try:
            filesystem, path = fs.FileSystem.from_uri(place)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FolderError(
                f"cannot use {shown}: {redact(str(error).replace(place, shown))}",
                hint="give a directory, or a URI such as s3://bucket/path",
            ) from None
        return cls(filesystem, path, shown)

    def below(self, *names: str) -> "Folder":
        """A folder in it."""
        return Folder(self._fs, "/".join((self._root, *names)), "/".join((self.shown.rstrip("/"), *names)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            reason = redact(str(error)).strip().splitlines()
            raise FolderError(
                f"cannot {what} in {self.shown}: {reason[0] if reason else type(error).__name__}",
                hint="what was finished before is in the folder's manifest; mend it and run the export again",
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other exports of this machine out of a directory. An object store has no such lock.

        Raises:
            FolderError: another export writes there.
        """
        if not self._is_local:
            yield
            return
        with self._failing("write"):
            Path(self._root).mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path(_LOCK), os.O_CREAT | os.O_RDWR, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderError(
                    f"another export writes to {self.shown}", hint="wait for its end, or give another --out"
                ) from None
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def new_file(self, name: str) -> Iterator[Sink]:
        """A file that is there once the block has ended, and not at all where that failed.

        Raises:
            FolderError: it cannot be written.
        """
        path = self._path(name)
        with self._failing(f"write {name}"):
            if self._is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            unfinished = path + _UNFINISHED if self._is_local else path
            stream = self._fs.open_output_stream(unfinished)
        sink = Sink(_Guarded(stream, self._failing, name))
        try:
            yield sink
        except BaseException:
            # Closing would finish an object: what is given up is deleted, and no manifest names it.
            with self._failing(f"delete {name}"):
                stream.close()
                self._fs.delete_file(unfinished)
            raise
        with self._failing(f"write {name}"):
            stream.close()
            if self._is_local:
                _flush(unfinished)
                Path(unfinished).replace(path)
                _flush(str(Path(path).parent))

    def write(self, name: str, data: bytes) -> None:
        """Puts a small file there, in place of the one of that name."""
        with self.new_file(name) as sink:
            sink.write(data)

    def read(self, name: str) -> bytes | None:
        """A small file; None where there is none."""
        with self._failing(f"read {name}"):
            if self._fs.get_file_info(self._path(name)).type == fs.FileType.NotFound:
                return None
            with self._fs.open_input_stream(self._path(name)) as stream:
                return bytes(stream.read())

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there, and its folder where that is empty then."""
        with self._failing(f"delete {name}"):
            if self._fs.get_file_info(self._path(name)).type != fs.FileType.NotFound:
                self._fs.delete_file(self._path(name))
        if self._is_local:
            parent = Path(self._path(name)).parent
            if not any(parent.iterdir()):
                parent.rmdir()

    def names(self) -> list[str]:
        """The names of all files below, relative to it."""
        with self._failing("list"):
            found = self._fs.get_file_info(fs.FileSelector(self._root, allow_not_found=True, recursive=True))
        return sorted(one.path[len(self._root) + 1 :] for one in found if one.type == fs.FileType.File)


class _Guarded:
    """A stream whose failures are told as the folder's."""

    def __init__(self, stream: Any, failing: Any, name: str) -> None:
        self._stream, self._failing, self._name = stream, failing, name

    def write(self, data: Any) -> None:
        with self._failing(f"write {self._name}"):
            self._stream.write(data)


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _without_secrets(uri: str) -> str:
    """The URI without user, password and options."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
