"""Who an embedded server runs as.

Postgres refuses to run as root, and a server that needs no privilege should have none. When we are root it runs as the
owner of its data or, for new data, as ``nobody``: an account that every machine has, so that none must be created.
"""

from __future__ import annotations

import logging
import os
import pwd
import stat
from pathlib import Path

from indexer.processes import Account

log = logging.getLogger(__name__)


def unprivileged(data: Path) -> Account | None:
    """The account for the server whose data are in ``data``; None: our own, because we are not root."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def let_through(account: Account | None, *paths: Path) -> None:
    """Let the account reach these paths: every directory above them becomes searchable (not readable) by others.

    A clone under ``/root`` is the usual case. Each directory that is changed is named in the log.
    """
    if account is None:
        return
    for path in paths:
        for directory in reversed(path.resolve().parents):
            status = directory.stat()
            own = status.st_uid == account.uid and status.st_mode & stat.S_IXUSR
            if not own and not status.st_mode & stat.S_IXOTH:
                directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
                log.warning("made %s searchable (chmod o+x): the embedded servers do not run as root", directory)


def publish(account: Account | None, tree: Path) -> None:
    """Make an installed program's files readable by others, which they are not under ``umask 077``."""
    if account is None or tree.stat().st_mode & stat.S_IXOTH:
        return
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
