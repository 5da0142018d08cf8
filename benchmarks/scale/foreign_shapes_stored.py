"""What is stored of a log of another standard (ERC-721 under an ERC-20 ABI)."""

import sqlalchemy as sa

from benchmarks.scale import Row
from benchmarks.scale._foreign import answers, write
from benchmarks.scale._setup import applied
from benchmarks.scale.token_discovery import ABIS, MANIFEST

_CHUNKS, _FEW_CHUNKS = 10, 1


def measure(server_url: str, *, small: bool) -> Row:
    """Bytes for each such log, all indexes included."""
    with applied(server_url, MANIFEST, ABIS) as engine:
        write(engine, answers(_FEW_CHUNKS if small else _CHUNKS, foreign=0.25))
        with engine.begin() as connection:
            logs, size = connection.execute(
                sa.text("""
                    SELECT (SELECT coalesce(sum(logs), 0) FROM gapless.foreign_shapes)
                           + (SELECT count(*) FROM gapless.undecoded_logs),
                           pg_total_relation_size('gapless.foreign_shapes')
                           + pg_total_relation_size('gapless.undecoded_logs')
                """)
            ).one()
    return Row(f"one of {logs:,} logs of a foreign shape", size / logs, 40, "bytes")
