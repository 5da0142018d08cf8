"""Waiting for a block to be indexed, so that a client can read its own transaction."""

from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any, Final

from api.context import Context
from api.sql.statement import Statement
from api.state import State

#: Seconds between looks: a fraction of the fastest chains' block time.
POLL: Final = 0.05


def wait_for(context: Context, statement: Statement, values: Mapping[str, Any]) -> None:
    """Return when ``min_block`` is indexed, or ``wait`` seconds later.

    Args:
        context: the API's parts: its slots for waiting are limited, because each holds a thread.
        statement: one that answers with a state.
        values: of the request, with ``min_block``.

    Raises:
        ApiError: OVERLOADED if there is something to wait for and no slot is free.
    """

    def arrived() -> bool:
        state = State.read(context.database.query(statement.text, statement.values(values))[0][0] or b"")
        return state.has_come_to(values["min_block"])

    if not values.get("wait") or arrived():
        return
    with context.waits.taken():
        end = monotonic() + values["wait"]
        while monotonic() < end and not arrived():
            sleep(POLL)
