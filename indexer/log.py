"""Structured logging with Python's ``logging``: lines to read on a terminal, one JSON object a line elsewhere.

A record's fields are whatever stands in ``extra``::

    log = logging.getLogger(__name__)
    log.info("chunk written", extra={"chain": "ethereum", "range": (100, 199), "rows": 42})

and :func:`bind` makes a logger that adds the same fields to every record. Whatever leaves here, message, fields or
traceback, is redacted: of a URL only scheme and host are shown.

:class:`Trouble` says when a trouble is told: a state that comes back at every beat is told once, not at every beat.
Troubles are told apart by their kind and their host, never by their text: counts and block numbers make each text
new.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson

from indexer.redact import is_suspect, redact

Format = Literal["auto", "text", "json"]

# What every LogRecord has; all else on a record is a field.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: They log each request, with its path, at DEBUG or INFO; ours says the same without the key.
NOISY = ("urllib3", "web3", "apscheduler", "alembic", "asyncio", "multicall")

TELL_AGAIN_AFTER = 60.0
"""Seconds without a trouble after which it is told as a new one, and after which what came and went works again."""

Telling = Literal["new", "comes and goes"]


class BoundLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds fields to every record; those of a call's own ``extra`` come on top."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the fields."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def bind(logger: logging.Logger | BoundLogger, **fields: object) -> BoundLogger:
    """Return the logger with fields (``chain``, ``range``, ``request_id``) that every record of it will have."""
    if isinstance(logger, BoundLogger):
        return BoundLogger(logger.logger, {**(logger.extra or {}), **fields})
    return BoundLogger(logger, fields)


# What a record says of the place in the code, the thread and the process that made it, where they are not looked up.
_UNSEEN: Mapping[str, Any] = {
    **vars(logging.makeLogRecord({})),
    "module": "", "filename": "", "pathname": "", "lineno": 0, "funcName": "", "taskName": None,
    "thread": None, "threadName": None, "process": None, "processName": None,
}  # fmt: skip


def write(logger: logging.Logger, level: int, message: str, *args: object, **fields: object) -> None:
    """Log what is logged at every request: as ``logger.log``, for less.

    ``logging`` looks at the stack, the thread and the process for each record. No line shows these.

    Args:
        logger: the logger.
        level: of the record.
        message: with ``%`` for the arguments.
        args: the arguments.
        fields: what would stand in ``extra``.
    """
    if not logger.isEnabledFor(level):
        return
    record = logging.LogRecord.__new__(logging.LogRecord)
    vars(record).update(
        _UNSEEN,
        name=logger.name,
        levelno=level,
        levelname=logging.getLevelName(level),
        created=time.time(),
        msg=message,
        args=args,
        **fields,
    )
    logger.handle(record)


def configure(level: str = "INFO", form: Format = "auto", stream: TextIO | None = None) -> None:
    """Send all logs of the process to one stream, and uncaught exceptions (threads' too) into the log.

    Args:
        level: the lowest level that is shown.
        form: ``text``, ``json``, or ``auto``: text if the stream is a terminal.
        stream: where to; left out: standard error.
    """
    stream = stream or sys.stderr
    text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter(color=stream.isatty()) if text else JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


class TextFormatter(logging.Formatter):
    """``2026-01-31 12:00:01 INFO    sync.backfill  chunk written  chain=ethereum range=100-199``."""

    _COLORS: Mapping[int, str] = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}

    def __init__(self, *, color: bool = False) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, followed by its traceback if it has one."""
        time = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")
        name = record.name.removeprefix("indexer.")
        fields = "".join(f" {key}={_plain(value)}" for key, value in fields_of(record).items())
        line = f"{time} {record.levelname:<7} {name}  {_printable(_message(record))}" + (f" {fields}" if fields else "")
        if record.exc_info:
            line += f"\n{_printable(self.formatException(record.exc_info))}"
        line = redact(line)
        color = self._COLORS.get(record.levelno) if self._color else None
        return f"{color}{line}\x1b[0m" if color else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the fields, and the traceback as ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        seconds = int(record.created)
        document: dict[str, object] = {
            "time": f"{_second(seconds)}.{int((record.created - seconds) * 1000):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        # A field may not hide what every record has.
        for key, value in vars(record).items():
            if key not in _STANDARD:
                document[f"{key}_" if key in document else key] = value
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        try:
            line = orjson.dumps(document, default=_redacted, option=_AS_IT_IS).decode()
        except (TypeError, ValueError):  # a key that JSON does not know, a thing that holds itself, a large number
            line = ""
        # What orjson leaves as it is, a terminal might obey.
        if not line.isascii() or "\x7f" in line:
            line = json.dumps(document, default=_redacted)
        # One look at the whole line: nearly none holds what must not be shown, and each request writes one.
        return line if line and not is_suspect(line) else json.dumps(_redacted(document))


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[: len("2026-01-31T12:00:01")]


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields that were given to a record."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # logging itself would print the arguments, unredacted, and drop the record
        return f"{record.msg} (its arguments do not fit: {record.args!r})"


def _printable(text: str) -> str:
    """Return the text without what a terminal would obey: a token's name may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _plain(value: object) -> str:
    """Return a field's value for a line; a pair of numbers is a block range."""
    match value:
        case (int() as first, int() as last):
            return f"{first}-{last}"
        case bytes():
            return f"0x{value.hex()}"
    text = str(value)
    if text and text.isprintable() and " " not in text:
        return text
    return _printable(json.dumps(text, ensure_ascii=False))


def _redacted(value: object) -> object:
    # Before JSON escapes it: behind a backslash a URL would seem to end.
    match value:
        case str():
            return redact(value)
        case bytes():
            return f"0x{value.hex()}"
        case bool() | int() | float() | None:
            return value
        case Mapping():
            return {redact(str(key)): _redacted(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted(item) for item in value]
    return redact(str(value))


# Whatever is no plain value is shown as :func:`_redacted` has it.
_AS_IT_IS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("indexer").critical("uncaught exception: this is a defect", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread else "unknown"
    logging.getLogger("indexer").critical(
        "uncaught exception in a thread: this is a defect",
        extra={"thread_name": name},
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )


def kind_of(error: BaseException) -> str:
    """What two troubles of one kind have in common: the class of the error, and the host that it speaks of."""
    return f"{type(error).__name__} {getattr(error, 'host', '')}".strip()


@dataclass(slots=True)
class Troubles:
    """When each kind of trouble was last met, by all that meet the same ones. Thread-safe.

    Attributes:
        clock: a monotonic clock, seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _met: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def met(self, kind: str) -> bool:
        """Takes note of a trouble. Returns whether it was met within the last minute, too."""
        now = self.clock()
        with self._lock:
            before = self._met.get(kind)
            self._met[kind] = now
            for old in [other for other, at in self._met.items() if now - at > TELL_AGAIN_AFTER]:
                del self._met[old]
        return before is not None and now - before <= TELL_AGAIN_AFTER


@dataclass(slots=True)
class Trouble:
    """The trouble of one piece of work that is done again and again.

    Attributes:
        troubles: what others have met: one host's fault is told once, not once by each of them.
    """

    troubles: Troubles = field(default_factory=Troubles)
    _now: str = ""
    _told: bool = False
    _restless: bool = False
    _good_since: float = 0.0
    _told_at: float = float("-inf")

    def failed(self, kind: str) -> Telling | None:
        """The work failed.

        Args:
            kind: :func:`kind_of` the error.

        Returns:
            How to tell it: as new, or, a minute later at the earliest, as a trouble that comes and goes; None: it has
            been told.
        """
        again, now = self.troubles.met(kind), self.troubles.clock()
        if kind == self._now:
            return None
        self._now = kind
        if not again:
            self._told, self._told_at = True, now
            return "new"
        if self._restless or self._good_since == 0.0 or now - self._told_at < TELL_AGAIN_AFTER:
            return None
        self._told = self._restless = True
        return "comes and goes"

    def worked(self) -> bool:
        """The work was done. Returns whether to tell that it works again."""
        now = self.troubles.clock()
        if self._now:
            self._now, self._good_since = "", now
        if not self._told or (self._restless and now - self._good_since < TELL_AGAIN_AFTER):
            return False
        self._told = self._restless = False
        return True
