"""Real Postgres and Redis servers for machines that have none: ``with embedded.postgres(data_dir) as url: ...``."""

from indexer.store.embedded.postgres_server import binaries, postgres
from indexer.store.embedded.redis_server import redis
from indexer.store.embedded.shared import NotInstalledError

__all__ = ["NotInstalledError", "binaries", "postgres", "redis"]
