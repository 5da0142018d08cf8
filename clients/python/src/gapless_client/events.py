"""Server-sent events, and the states of a stream."""

import codecs
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import random
from typing import Any, Final, Literal

from gapless_client.document import Decode
from gapless_client.errors import Retries, UnreachableError, passes

log: Final = logging.getLogger("gapless_client")


@dataclass(frozen=True)
class StreamRow:
    """A row as it was indexed.

    Attributes:
        row: as on a page.
        cursor: where to go on behind it.
    """

    row: dict[str, Any]
    cursor: str


@dataclass(frozen=True)
class Revert:
    """A reorganisation: what was sent of blocks above ``common_block`` is void; what took its place follows."""

    common_block: int
    cursor: str


@dataclass(frozen=True)
class Status:
    """How far the stream is.

    Attributes:
        through: everything up to this block has been sent; None while there is more to come.
        waiting_for: a block that is wanted and not indexed yet.
        rewrites: grows when finalized rows were changed by a repair or a re-decoding.
        meta: as of a page.
        cursor: where to go on.
    """

    through: int | None
    waiting_for: int | None
    rewrites: int
    meta: dict[str, Any]
    cursor: str


@dataclass(frozen=True)
class Balances:
    """All balances of an address as they are now, in place of those before.

    Attributes:
        rows: as on a page.
        is_all: whether these are all; an address may have more than a message holds.
        cursor: where to go on.
    """

    rows: list[dict[str, Any]]
    is_all: bool
    cursor: str


@dataclass(frozen=True)
class DerivedRows:
    """What has changed of the rows of a page of a derived table.

    Attributes:
        rows: those that are new or changed, as on a page.
        gone: the keys of those that the page has no more.
        is_reset: whether what was told before is void: these are the rows of the whole page.
        is_all: whether the table has no more rows than the page, as far as its filters find them.
        cursor: where to go on.
    """

    rows: list[dict[str, Any]]
    gone: list[dict[str, Any]]
    is_reset: bool
    is_all: bool
    cursor: str


Message = StreamRow | Revert | Status | Balances | DerivedRows


@dataclass(frozen=True)
class Connection:
    """What a stream's connection does. Every attempt and every break is told.

    Attributes:
        state: ``waiting`` is between a break, or a refusal for the moment, and the next attempt.
        attempt: from 1, since the last event that came.
        error: why it waits.
        seconds: until the next attempt.
    """

    state: Literal["connecting", "open", "waiting", "closed"]
    attempt: int = 0
    error: Exception | None = None
    seconds: float = 0.0


OnState = Callable[[Connection], None]
OnProgress = Callable[[Status], None]


@dataclass
class ServerEvent:
    """One event of a stream."""

    name: str
    data: str
    cursor: str

    @property
    def said(self) -> dict[str, Any]:
        """Its data."""
        found: dict[str, Any] = json.loads(self.data)
        return found


class EventParser:
    """Parses ``text/event-stream`` (HTML Living Standard, 9.2.6), as far as the API uses it.

    Attributes:
        retry: seconds after which the server wants to see the client again.
    """

    def __init__(self) -> None:
        self.retry = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin with a new connection."""
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._name = ""
        self._data: list[str] = []
        self._cursor = ""

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that a piece of the answer completes. One without data moves the cursor alone."""
        *lines, self._rest = (self._rest + self._text.decode(piece)).split("\n")
        for line in lines:
            field, _, value = line.removesuffix("\r").partition(":")
            value = value.removeprefix(" ")
            if not line.removesuffix("\r"):
                if self._data or self._cursor:
                    yield ServerEvent(self._name, "\n".join(self._data), self._cursor)
                self._name, self._data, self._cursor = "", [], ""
            elif field == "event":
                self._name = value
            elif field == "data":
                self._data.append(value)
            elif field == "id":
                self._cursor = value
            elif field == "retry" and value.isdecimal():
                self.retry = int(value) / 1000


class Following:
    """The state of a stream over all its connections.

    Args:
        after: a cursor, or a row's id; empty: begin with what comes next.
        retries: how patiently it comes back.
        on_state: hears of every attempt and break; left out, breaks are logged as warnings.
        on_progress: hears how far the stream is.
    """

    def __init__(
        self,
        after: str,
        retries: Retries,
        on_state: OnState | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._parser = EventParser()
        self._cursor = after
        self._retries = retries
        self._told = on_state or _warn
        self._progress = on_progress
        self._attempt = 0
        self._decoders: dict[tuple[Any, Any], Decode] = {}

    def headers(self) -> dict[str, str]:
        """Begin an attempt: what its request is to send."""
        self._attempt += 1
        self._told(Connection("connecting", self._attempt))
        place = {"Last-Event-ID": self._cursor} if self._cursor else {}
        return {"Accept": "text/event-stream", **place}

    def opened(self) -> None:
        """The server has begun to answer."""
        self._parser.begin()
        self._told(Connection("open", self._attempt))

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that a piece of the answer completes."""
        for event in self._parser.feed(piece):
            self._attempt = 0  # it works
            yield event

    def unknown(self, event: ServerEvent) -> dict[str, Any] | None:
        """The row of an event for whose kind there is no decoder yet."""
        is_rows = event.data and event.name in ("row", "balances", "derived")
        return event.said if is_rows and _kind(event.said) not in self._decoders else None

    def learn(self, row: dict[str, Any], decode: Decode) -> None:
        """Decode rows of this kind so from now on."""
        self._decoders[_kind(row)] = decode

    def message(self, event: ServerEvent) -> Message | None:
        """The message of an event, behind which the stream goes on; None for one that is none, or is not known."""
        message: Message | None = None
        # An event without an id leaves the place as it is.
        cursor = event.cursor or self._cursor
        match event.name if event.data else "":
            case "row":
                message = StreamRow(self._decoders[_kind(event.said)](event.said), cursor)
            case "balances":
                decode = self._decoders[_kind(event.said)]
                message = Balances([decode(each) for each in event.said["data"]], bool(event.said["all"]), cursor)
            case "derived":
                said, decode = event.said, self._decoders[_kind(event.said)]
                rows, gone = ([decode(each) for each in said[part]] for part in ("data", "gone"))
                message = DerivedRows(rows, gone, bool(said["reset"]), bool(said["all"]), cursor)
            case "revert":
                message = Revert(event.said["common_block"], cursor)
            case "status":
                said = event.said
                place = said["through_block"], said["waiting_for_block"]
                message = Status(*place, said["rewrites"], said["meta"], cursor)
                if self._progress is not None:
                    self._progress(message)
        self._cursor = cursor
        return message

    def broken(self, error: Exception | None) -> float:
        """Seconds until the next attempt.

        Args:
            error: None if the server ended the stream.

        Raises:
            GaplessError: the error, where it does not pass by itself.
        """
        error = error or UnreachableError("the server ended the stream")
        if not passes(error):
            raise error
        self._attempt = max(self._attempt, 1)
        seconds = self._retries.delay(self._attempt, error, random())
        if self._attempt == 1:
            seconds = max(seconds, self._parser.retry)
        self._told(Connection("waiting", self._attempt, error, seconds))
        return seconds

    def closed(self) -> None:
        """The stream is over."""
        self._told(Connection("closed"))


def _kind(row: dict[str, Any]) -> tuple[Any, Any]:
    """Of what a row is, where a stream has rows of several events."""
    return row.get("contract"), row.get("event")


def _warn(connection: Connection) -> None:
    if connection.state == "waiting":
        log.warning(
            "the stream broke (%s); attempt %d in %.1f s", connection.error, connection.attempt + 1, connection.seconds
        )
