"""Which of the chains at work stand still, told once each, and once that they move again."""

import logging
from collections.abc import Callable, Collection

from sqlalchemy.engine import Engine

from indexer.log import bind
from indexer.store import status

log = logging.getLogger(__name__)


class StalledChains:
    """What is known of them since the last look.

    Args:
        engine: the database.
        chains: tells the names of the chains at work.
    """

    def __init__(self, engine: Engine, chains: Callable[[], Collection[str]]) -> None:
        self._engine = engine
        self._chains = chains
        self._reasons: dict[str, str] = {}

    @property
    def told(self) -> str | None:
        """The chains of which no new block was indexed for longer than their pace allows, and why; None: all move."""
        if not (reasons := dict(self._reasons)):
            return None
        return "no new block is indexed of " + ", ".join(
            f"{name} ({reason})" if reason else name for name, reason in reasons.items()
        )

    def look(self) -> None:
        """Looks again, and tells what has changed.

        Raises:
            sqlalchemy.exc.DBAPIError: Postgres could not be asked.
        """
        with self._engine.connect() as connection:
            stalled = status.load_stalled(connection)
        mine = {name: reason for name, reason in stalled.items() if name in self._chains()}
        for name, reason in mine.items():
            if name not in self._reasons:
                bind(log, chain=name).error("%s is stalled: %s", name, reason)
        for name in self._reasons:
            if name not in mine:
                bind(log, chain=name).info("%s moves again", name)
        self._reasons = mine
