"""Balances of one chain: ledgers that lag behind are taken further, and nodes are asked for earlier transfers.

Once a ledger has reached the tip, the follower takes it on in its own transactions, and there is nothing left to do
here until it lags again (:func:`catch_up`).

Whether tokens gave anything before their transfers are counted (:func:`ask_for_earlier`), logs tell: one wide
question for the transfers of a token before that block, or a few narrower ones, of which each look takes the next.
Where nodes refuse to look that far, code tells it: a contract that is there at the end of the block from which on it
is counted, and was not there before, was deployed in that block. What neither tells is asked again, less and less
often.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy.engine import Engine

from indexer.chain.logs.earliest_log import EarliestLog
from indexer.chain.records.errors import FatalError, LaggingError, NoEndpointError, RangeError
from indexer.store.catalog import ledgers
from indexer.store.catalog.version import CatalogChangedError
from indexer.store.tokens import balance_checks, balances, orphan_holdings
from indexer.store.tokens.balance_checks import Question
from indexer.store.tokens.balances import STEP_ROWS

log = logging.getLogger(__name__)

MOST = 20
"""Tokens that are asked about in one look."""

NARROW = 1_000
"""Fewer blocks than this at a time are not worth asking for: the rest would take too many questions."""

FIRST_PAUSE, LONGEST_PAUSE = 3600.0, 7 * 86_400.0
"""Seconds until a token is asked about again in vain: the first time, and at most."""


def catch_up(engine: Engine, chain_id: int, *, stop: threading.Event | None = None, step_rows: int = STEP_ROWS) -> int:
    """Takes all ledgers of a chain as far as their transfers are covered, in short transactions.

    Any number of processes may do so at once: each ledger is worked on by one of them.

    Args:
        engine: the database.
        chain_id: the chain.
        stop: ends it after the step at hand when set.
        step_rows: about how many logs are counted in one transaction.

    Returns:
        How many steps were taken that led further.

    Raises:
        sqlalchemy.exc.DBAPIError: Postgres could not be used; what was done in earlier steps stays.
    """
    stop = stop or threading.Event()
    steps = 0
    with engine.connect() as connection:
        # Only those: the follower passes over a ledger that it finds locked.
        waiting = [ledger for ledger in ledgers.load(connection, chain_id) if balances.lags(connection, ledger)]
    while waiting and not stop.is_set():
        ledger = waiting.pop(0)
        try:
            with engine.begin() as connection:
                step = balances.advance(connection, chain_id, ledger.ledger_id, rows=step_rows)
        except CatalogChangedError:
            break  # the next beat looks at all ledgers anew
        if step is None:
            continue
        if step.restarted:
            log.warning(
                "balances of %s are built anew: blocks that were counted are not covered any more", step.contract
            )
            continue
        steps += step.counted
        # The others take their turns: a long history holds up no short one.
        if not step.is_last:
            waiting.append(ledger)
    while not stop.is_set():
        with engine.begin() as connection:
            if orphan_holdings.sweep(connection) == 0:
                break
    return steps


class TransfersNode(Protocol):
    """What is asked of a chain (``chain.client.ChainClient``)."""

    def code(self, address: bytes, block: int | str = "latest") -> bytes:
        """The code at an address."""

    def earliest_log(self, address: bytes, last: int, topics: Sequence[bytes] = ...) -> EarliestLog:
        """The first log of an address at or before a block."""


def ask_for_earlier(engine: Engine, node: TransfersNode, chain_id: int, *, stop: threading.Event | None = None) -> int:
    """Ask about some of the tokens of which it is not known yet; each answer is kept at once.

    Args:
        engine: the database.
        node: the chain.
        chain_id: the chain.
        stop: ends it after the token at hand when set.

    Returns:
        How many tokens were asked about.

    Raises:
        ProviderError: no node answers at all; what was kept before stays.
    """
    with engine.connect() as connection:
        questions = balance_checks.due(connection, chain_id, MOST)
    for at, question in enumerate(questions):
        if stop is not None and stop.is_set():
            return at
        _settle(engine, node, chain_id, question)
    return len(questions)


def _settle(engine: Engine, node: TransfersNode, chain_id: int, question: Question) -> None:
    checked_from, found, detail = question.checked_from, None, None
    silent = question.settled
    if not silent:
        earliest = node.earliest_log(question.address, checked_from - 1, question.topics)
        found = earliest.block
        if found is None:
            width, checked_from = checked_from - earliest.since, earliest.since
            silent = checked_from == 0
            if not silent and width < NARROW:
                silent, detail = _deployed_there(node, question, checked_from)
    if found is not None:
        log.warning(
            "balances of %s: 0x%s gave in block %d already, and is counted from block %d: they are not exact; an "
            "earlier start_block makes them so",
            *(question.contract, question.address.hex(), found, question.before),
        )
    known = found is not None or silent
    pause = None if known else 0.0 if detail is None else min(FIRST_PAUSE * 4.0**question.attempts, LONGEST_PAUSE)
    with engine.begin() as connection:
        balance_checks.keep(
            connection, chain_id, question, checked_from=checked_from, found=found, silent=silent, detail=detail,
            again_after=pause,
        )  # fmt: skip


def _deployed_there(node: TransfersNode, question: Question, checked_from: int) -> tuple[bool, str | None]:
    """Whether a token was deployed in the very block from which on it is counted; if not, why that is not known."""
    unlooked = f"nodes do not tell of logs before block {checked_from}"
    if question.found_by_code:
        # The first block with code is where a node begins to know states, too.
        return False, unlooked
    try:
        before, there = (bool(node.code(question.address, at)) for at in (question.before - 1, question.before))
    except (FatalError, LaggingError, NoEndpointError, RangeError):
        return False, f"{unlooked}, and none has the state of block {question.before - 1}"
    if before:
        return False, f"{unlooked}, and it has code since before that"
    return (True, None) if there else (False, f"{unlooked}, and it has no code in block {question.before} yet")
