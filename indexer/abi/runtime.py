"""What generated decoders call: the reading of tails, with bounds on time and memory, and what they raise."""

from decimal import Decimal
from typing import NoReturn

from indexer.errors import GaplessError

WORK_FACTOR = 4
"""How many times a log's bytes may be read. An encoder's output reads each byte once; offsets that share a tail are
valid, but arrays of offsets to one another grow exponentially (2.5 KB kept a naive decoder busy for seconds)."""

_word = int.from_bytes


class UndecodableLog(GaplessError):  # noqa: N818 - an outcome, named like one
    """A log that bears an event's topic but not its shape.

    Attributes:
        reason: why, for ``gapless.undecoded_logs``. It names no value of the log (that is kept raw), so that logs can
            be grouped by it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def fail(reason: str) -> NoReturn:
    """Raise :class:`UndecodableLog`, where an expression is needed."""
    raise UndecodableLog(reason)


def reach(data: bytes, at: int, size: int, left: list[int], path: str) -> None:
    """Check that ``size`` bytes can be read at ``at``, and charge them.

    Args:
        data: the log's data.
        at: absolute position, of any size: offsets are what the log says.
        size: bytes.
        left: one number: the bytes that may still be read.
        path: the argument, for the reason.

    Raises:
        UndecodableLog: they lie outside the data, or too much was read already.
    """
    if at + size > len(data):
        raise _beyond(path)
    left[0] -= size
    if left[0] < 0:
        raise _too_much(path)


def span(data: bytes, at: int, item_size: int, left: list[int], path: str) -> tuple[int, int]:
    """First and last position (exclusive) of the items of a dynamic array whose length word stands at ``at``.

    Args:
        data: the log's data.
        at: absolute position of the length word.
        item_size: bytes that an item takes where it stands, 1 or more.
        left: one number: the bytes that may still be read.
        path: the argument, for the reason.

    Raises:
        UndecodableLog: the length or the items lie outside the data, or too much was read already.
    """
    # Most of the time that dynamic values take is spent here, hence one function.
    start = at + 32
    if start > len(data):
        raise _beyond(path)
    stop = start + _word(data[at:start]) * item_size
    if stop > len(data):
        raise _beyond(path)
    left[0] -= stop - at
    if left[0] < 0:
        raise _too_much(path)
    return start, stop


def _beyond(path: str) -> UndecodableLog:
    return UndecodableLog(f"argument {path}: its offset or length points beyond the data")


def _too_much(path: str) -> UndecodableLog:
    return UndecodableLog(f"argument {path}: offsets overlap so often that the data would be read many times over")


def read_bytes(data: bytes, at: int, left: list[int], path: str) -> bytes:
    """The bytes whose length word stands at ``at``.

    What follows them is not looked at: compilers before 0.5 did not pad the last value to 32 bytes, and padding that is
    not zero is part of no value.

    Raises:
        UndecodableLog: see :func:`span`.
    """
    start, stop = span(data, at, 1, left, path)
    return data[start:stop]


def read_text(data: bytes, at: int, left: list[int], notes: list[str], path: str) -> str:
    """The string whose length word stands at ``at``, as Postgres can hold it.

    NUL characters and bytes that are not UTF-8 become U+FFFD, and ``notes`` says so, once an argument.

    Raises:
        UndecodableLog: see :func:`span`.
    """
    raw = read_bytes(data, at, left, path)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
        _note(notes, f"argument {path}: invalid UTF-8 replaced")
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
        _note(notes, f"argument {path}: NUL replaced")
    return text


def _note(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)


def scaled(value: int, places: int) -> Decimal:
    """``value / 10 ** places``, exactly: the digits are shifted, not divided, so that no context rounds them."""
    return Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -places))


def scaled_text(value: int, places: int) -> str:
    """``value / 10 ** places`` as a plain decimal, for JSON."""
    return format(scaled(value, places), "f")
