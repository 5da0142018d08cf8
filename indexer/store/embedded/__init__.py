"""Real Postgres and Redis servers for machines that have none: ``with embedded.postgres(data_dir) as url: ...``.

Started by the first owner, stopped by the last.

* ``shared``: owners of one server. ``postgres_server``, ``redis_server``, ``account``: the servers, and the account
  they run as.
"""

from indexer.store.embedded.postgres_server import binaries, postgres
from indexer.store.embedded.redis_server import redis
from indexer.store.embedded.shared import NotInstalledError

__all__ = ["NotInstalledError", "binaries", "postgres", "redis"]
