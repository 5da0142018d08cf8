"""Noticing that the manifest, an ABI file that it names, or what was applied, has changed."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from indexer.errors import ProblemsError
from indexer.manifest.model import Manifest
from indexer.store.catalog.declaration import Change, summary

log = logging.getLogger(__name__)

RETRY_EVERY = 30.0
"""Seconds after which it is tried again to find out what could not be found out."""

_Stat = tuple[tuple[str, int, int], ...]


class ManifestWatcher:
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


class PartialManifestWatcher:
    """Looks at a manifest of which some parts wait for a node that does not answer: all others are taken up.

    Where a contract was deployed (``start_block = "auto"``) is asked of its chain; a chain without an answering node
    must not keep the others waiting.
    """

    def __init__(
        self,
        watch: ManifestWatcher,
        manifest: Manifest,
        settle: Callable[[Manifest], tuple[Manifest, Mapping[str, str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Looks for the first time: ``manifest`` is what can be taken up of it now.

        Args:
            watch: tells of changes.
            manifest: as it was read.
            settle: what can be taken up of a manifest, and by the names of chains what the rest waits for.
            clock: seconds that only grow.

        Raises:
            GaplessError: no node can say where something was deployed.
        """
        self._watch, self._settle, self._clock = watch, settle, clock
        self._whole = manifest
        self._waiting: Mapping[str, str] = {}
        self._is_due = True
        self._retry_at = 0.0
        self.manifest = self._take(manifest)

    def look(self, *, force: bool = False) -> Manifest | None:
        """Returns the manifest if it, or what can be taken up of it, is another one than at the last look.

        Args:
            force: return it also where nothing changed.

        Raises:
            ProblemsError: it is invalid.
            GaplessError: no node can say where something was deployed; the next looks try again.
        """
        newest = self._watch.look(force=force)
        if newest is not None:
            self._whole, self._is_due = newest, True
        if not self._is_due and (not self._waiting or self._clock() < self._retry_at):
            return None
        before = self.manifest
        self.manifest = self._take(self._whole)
        return self.manifest if newest is not None or self.manifest != before else None

    def settle_again(self) -> Manifest:
        """What can be taken up now of the manifest in force, where it may have become another part of it.

        Raises:
            GaplessError: no node can say where something was deployed.
        """
        self.manifest = self._take(self._whole)
        return self.manifest

    def _take(self, whole: Manifest) -> Manifest:
        self._retry_at = self._clock() + RETRY_EVERY
        manifest, waiting = self._settle(whole)
        for chain, reason in waiting.items():
            if chain not in self._waiting:
                log.warning('%s: contracts with start_block = "auto" wait for a node that answers: %s', chain, reason)
        self._waiting, self._is_due = waiting, False
        return manifest


class CatalogWatcher:
    """Notices that the catalog is not that of the manifest in force: another process has applied another one."""

    def __init__(self, version: Callable[[], int], differs: Callable[[Manifest], Sequence[Change]]) -> None:
        """Begins with nothing known.

        Args:
            version: reads the catalog's.
            differs: what applying a manifest would change.
        """
        self._version, self._differs = version, differs
        self._seen: tuple[int, Manifest] | None = None
        self.changes: Sequence[Change] = ()

    def look(self, manifest: Manifest) -> None:
        """Looks again where the catalog, or the manifest, is another one than at the last look, and says what is new.

        Args:
            manifest: the one in force.
        """
        version = self._version()
        if self._seen is not None and self._seen[0] == version and self._seen[1] is manifest:
            return
        before, self.changes = self.changes, self._differs(manifest)
        self._seen = version, manifest
        if self.changes and self.changes != before:
            log.warning(
                "another process has applied another manifest than %s: this indexer works by that one from now on. "
                "To have this one in force again, run gapless apply with it, or send SIGHUP; it would do: %s",
                manifest.path,
                "; ".join(summary(self.changes)),
            )
        elif before and not self.changes:
            log.info("the catalog is that of %s again", manifest.path)


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
