"""What the log says, and what it never says."""

import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from indexer.log import Format, JsonFormatter, TextFormatter, bind, configure

URL = "https://user:SECRET@eth.example/v2/SECRET?key=SECRET"

Records = Callable[[], list[dict[str, Any]]]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, root.handlers[:], sys.excepthook, threading.excepthook
    levels = {name: logging.getLogger(name).level for name in ("urllib3", "web3", "apscheduler", "alembic")}
    yield
    root.level, root.handlers[:], sys.excepthook, threading.excepthook = before
    logging.captureWarnings(capture=False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def records() -> Records:
    stream = io.StringIO()
    configure("DEBUG", "json", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def text_of(log: Callable[[logging.Logger], None], stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    configure("INFO", "text", stream)
    log(logging.getLogger("indexer.sync.history.backfill"))
    return stream.getvalue()


def test_a_line_to_read() -> None:
    line = text_of(
        lambda log: log.info(
            "chunk %s", "written", extra={"chain": "ethereum", "range": (100, 199), "note": "a b", "hash": b"\x01"}
        )
    )
    date, time, rest = line[:10], line[11:19], line[19:]
    assert [len(part) for part in date.split("-")] == [4, 2, 2]
    assert [len(part) for part in time.split(":")] == [2, 2, 2]
    assert rest == ' INFO    sync.history.backfill  chunk written  chain=ethereum range=100-199 note="a b" hash=0x01\n'


def test_colour_on_a_terminal_only() -> None:
    assert text_of(lambda log: log.error("broken"), Terminal()).startswith("\x1b[31m")
    assert "\x1b" not in text_of(lambda log: log.error("broken"))
    assert "\x1b" not in text_of(lambda log: log.info("fine"), Terminal())


@pytest.mark.parametrize(
    ("form", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("text", io.StringIO, False),
        ("json", Terminal, True),
    ],
)
def test_the_format(form: Format, stream: type[io.StringIO], is_json: bool) -> None:
    out = stream()
    configure("INFO", form, out)
    logging.getLogger("indexer").info("hello")
    assert out.getvalue().startswith("{") == is_json


def test_a_json_record(records: Records) -> None:
    logging.getLogger("indexer.chain").warning(
        "slow", extra={"chain": "ethereum", "range": (1, 2), "message_": 1, "big": 2**70}
    )
    (record,) = records()
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "warning",
        "logger": "indexer.chain",
        "message": "slow",
        "chain": "ethereum",
        "range": [1, 2],
        "message_": 1,
        "big": 2**70,
    }


def test_a_field_does_not_hide_what_every_record_has(records: Records) -> None:
    logging.getLogger("x").info("hello", extra={"level": 5, "time": 6})
    (record,) = records()
    assert (record["level"], record["level_"], record["time_"]) == ("info", 5, 6)


def test_one_record_is_one_line_whatever_is_in_it(records: Records) -> None:
    logging.getLogger("x").info("a\nb\r\u2028", extra={"o": object(), "nested": {"a": [{1}, None, 1.5, True]}})
    (record,) = records()
    assert record["message"] == "a\nb\r\u2028"
    assert record["nested"] == {"a": [[1], None, 1.5, True]}


def test_bound_fields(records: Records) -> None:
    log = bind(bind(logging.getLogger("x"), chain="ethereum"), request_id="r1")
    log.info("one", extra={"rows": 5})
    log.info("two", extra={"chain": "base"})
    one, two = records()
    assert (one["chain"], one["request_id"], one["rows"]) == ("ethereum", "r1", 5)
    assert (two["chain"], two["request_id"]) == ("base", "r1")


def test_the_level_and_quiet_libraries(records: Records) -> None:
    logging.getLogger("urllib3.connectionpool").debug('https://a.example:443 "POST /SECRET HTTP/1.1" 200')
    logging.getLogger("indexer.x").debug("shown")
    assert [record["message"] for record in records()] == ["shown"]


def raise_nested() -> None:
    try:
        raise OSError(f"cannot reach {URL}")
    except OSError as error:
        error.add_note(f"a note on {URL}")
        raise RuntimeError(f"Max retries exceeded with url: /v2/SECRET at {URL!r}") from error


@pytest.mark.promise("S-01")
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_leaves(form: Format) -> None:
    stream = io.StringIO()
    configure("INFO", form, stream)
    log = logging.getLogger("x")
    log.info("asking %s", URL)
    log.info("fields", extra={"url": URL, "many": [URL, {"in": URL}], "error": OSError(URL), "key": {URL: 1}})
    log.info(f"postgresql://gapless:SECRET@db/gapless and {URL}\\n")
    try:
        raise_nested()
    except RuntimeError:
        log.exception("failed at %s", URL)
    logging.getLogger("urllib3").warning("Retrying: /v2/x with url: /v2/SECRET")
    warnings.warn(f"odd {URL}", stacklevel=1)
    text = stream.getvalue()
    assert "SECRET" not in text
    assert "https://eth.example/***" in text
    assert "raise_nested" in text


@pytest.mark.parametrize(
    "code", ["raise OSError(url)", "import threading; threading.Thread(target=lambda: 1 / len(url[:0]) or url).start()"]
)
def test_uncaught_exceptions_are_logged_and_redacted(code: str) -> None:
    program = f"from indexer.log import configure\nconfigure('INFO', 'json')\nurl = {URL!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    (record,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert record["level"] == "critical"
    assert "Error" in record["exception"]
    assert "SECRET" not in done.stderr


def test_a_bad_call_of_the_log_is_logged_all_the_same() -> None:
    # Formatted by hand: pytest's own handlers would raise.
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%d", (URL,), None)
    for formatter in (JsonFormatter(), TextFormatter()):
        assert "%d (its arguments do not fit: ('https://eth.example/***',))" in formatter.format(record)


@pytest.mark.promise("S-10")
def test_a_terminal_obeys_nothing_that_comes_from_outside() -> None:
    line = text_of(lambda log: log.info("token \x1b[2J\r", extra={"token": "\x1b]0;x\x07", "wide": "a\u2028b"}))
    assert line.endswith('token \\x1b[2J\\r  token="\\u001b]0;x\\u0007" wide="a\\u2028b"\n')


@pytest.mark.promise("S-10")
@pytest.mark.parametrize("text", ["\x9b2J", "\x1b[2J", "a\u2028b", "\ud800", "\U0001f600", "\x85", "\x7f"])
def test_a_line_of_json_is_ascii(text: str) -> None:
    stream = io.StringIO()
    configure("INFO", "json", stream)
    logging.getLogger("x").info(text, extra={"token": text, "in": [text, {text: 1}]})
    line = stream.getvalue().removesuffix("\n")
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["in"] == [text, {text: 1}]
