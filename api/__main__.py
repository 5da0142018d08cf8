"""``python -m api``: the API alone, over ``DATABASE_URL`` and ``REDIS_URL``. Operators use ``gapless serve``."""

import logging
import os
import sys

from api.server import serve
from indexer.errors import GaplessError


def main() -> int:
    """Serve until told to stop; returns the exit status."""
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO"))
    url = os.environ.get("DATABASE_URL")
    if not url:
        print("DATABASE_URL is not set", file=sys.stderr)  # noqa: T201
        return 2
    try:
        serve(url, os.environ.get("REDIS_URL") or None)
    except GaplessError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
