"""Real Postgres and Redis servers for machines that have none: ``with embedded.postgres(data_dir) as url: ...``.

Started by the first owner, stopped by the last.

* ``shared``: owners of one server, and the account that it runs as. ``programs``: the two servers.
"""

from indexer.store.embedded.programs import binaries, postgres, redis
from indexer.store.embedded.shared import NotInstalledError

__all__ = ["NotInstalledError", "binaries", "postgres", "redis"]
