"""What a new block writes of a source whose history is covered in very many pieces."""

import sqlalchemy as sa

from benchmarks.scale import Row
from benchmarks.scale._head import followed

_RANGES, _FEW_RANGES = 100_000, 1000
_BLOCKS = 5


def measure(server_url: str, *, small: bool) -> Row:
    """Bytes of write-ahead log for a block; the server must be at rest otherwise."""
    ranges = _FEW_RANGES if small else _RANGES
    with followed(server_url, 1) as chain:
        with chain.engine.begin() as connection:
            connection.execute(
                sa.text("""
                    UPDATE gapless.sources SET coverage = coverage + (
                        SELECT range_agg(int8range(-4 * n, -4 * n + 2)) FROM generate_series(1, :ranges) n)
                """),
                {"ranges": ranges},
            )
        chain.extend()  # opens the coverage, which is written once
        with chain.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # No page is written whole for the sake of a checkpoint in the midst of it.
            connection.execute(sa.text("CHECKPOINT"))
            chain.extend()
            before = connection.execute(sa.text("SELECT pg_current_wal_insert_lsn()")).scalar_one()
            for _ in range(_BLOCKS):
                chain.extend()
            written = connection.execute(
                sa.text("SELECT pg_current_wal_insert_lsn() - CAST(:before AS pg_lsn)"), {"before": before}
            ).scalar_one()
    return Row(f"a block over coverage of {ranges:,} ranges", float(written) / _BLOCKS / 1000, 16, "kB")
