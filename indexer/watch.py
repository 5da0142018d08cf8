"""Noticing that the manifest, or an ABI file that it names, has changed."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from indexer.manifest.model import Manifest
from indexer.problems import ProblemsError

_Stat = tuple[tuple[str, int, int], ...]


class ManifestWatch:
    """Looks at the files of a manifest again and again.

    A file counts as changed when its content is another one; times and sizes only say when to read it again. While the
    newest manifest is invalid, every look reads it anew: a file that was missing may be there now.
    """

    def __init__(self, manifest: Manifest, load: Callable[[], Manifest]) -> None:
        """Begins with a manifest that is in force.

        Args:
            manifest: as it was read.
            load: reads it again; raises ProblemsError where it is invalid.
        """
        self._load = load
        self._files = _files(manifest)
        self._stat = _stat(self._files)
        self._content = _content(self._files)
        self._problem = ""
        self._restless = False

    def look(self, *, force: bool = False) -> Manifest | None:
        """Returns the manifest if it is another one than at the last look and valid.

        Args:
            force: return it also where nothing changed.

        Raises:
            ProblemsError: it is invalid; said once for each set of problems.
        """
        stat = _stat(self._files)
        if stat == self._stat and not self._restless and not force:
            return None
        content = _content(self._files)
        if content == self._content and not self._restless and not force:
            self._stat = stat
            return None
        try:
            manifest = self._load()
        except ProblemsError as error:
            self._stat, self._content, self._restless = stat, content, True
            if str(error) == self._problem and not force:
                return None
            self._problem = str(error)
            raise
        # A file that changed while it was being read is read again at the next look.
        self._restless = _content(self._files) != content
        self._files, self._problem = _files(manifest), ""
        self._stat, self._content = _stat(self._files), _content(self._files)
        return manifest


def _files(manifest: Manifest) -> tuple[Path, ...]:
    return (manifest.path, *sorted({contract.abi_path for contract in manifest.contracts.values()}))


def _stat(files: Iterable[Path]) -> _Stat:
    found: list[tuple[str, int, int]] = []
    for path in files:
        try:
            about = path.stat()
        except OSError:
            found.append((str(path), 0, -1))
        else:
            found.append((str(path), about.st_mtime_ns, about.st_size))
    return tuple(found)


def _content(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        try:
            body = path.read_bytes()
        except OSError:
            body = b""
        digest.update(hashlib.sha256(body).digest())
    return digest.hexdigest()
