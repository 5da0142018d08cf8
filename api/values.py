"""Values as a URL writes them: strict reading, and the JSON Schema that says the same.

A :class:`Kind` is both at once, so that what is accepted and what the OpenAPI document promises cannot drift apart.
Strict means: what is not exactly a value of the kind is refused with a sentence that says what is allowed. ``int()``
alone would take ``1_0``, ``٣`` and `` 7``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from pydantic_core import CoreSchema, core_schema

from api.cursors import CursorError, Position
from indexer.abi.topics import is_well_cased

T = TypeVar("T")

MAX_BLOCK: Final = 2**63 - 2  # the exclusive end of a range of blocks must still be a bigint
MAX_LIST: Final = 100

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.([0-9]+))?")
_HEX: Final = re.compile(r"0x((?:[0-9a-fA-F]{2})*)")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2}))?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LAST_SECOND: Final = 253402300799  # 9999-12-31T23:59:59Z


class BadValueError(ValueError):
    """A text that is no value of its kind.

    Attributes:
        code: the error code of the answer.
    """

    def __init__(self, message: str, code: str = "INVALID_PARAMETER") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Kind(Generic[T]):
    """How to read a value, and what it may be. A pydantic field that is ``Annotated`` with a kind is read by it.

    Attributes:
        parse: text to value; raises BadValueError.
        schema: JSON Schema of the text.
    """

    parse: Callable[[str], T]
    schema: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """The validator that pydantic calls."""
        return core_schema.no_info_plain_validator_function(self.parse)


def integer(minimum: int, maximum: int) -> Kind[int]:
    """Decimal digits without sign (but ``-``), leading zeros, separators or blanks."""

    def parse(text: str) -> int:
        # The length is checked first: a million digits would cost seconds.
        if len(text) > 80 or not _INTEGER.fullmatch(text) or text == "-0" or not minimum <= int(text) <= maximum:
            raise BadValueError(f"must be an integer from {minimum} to {maximum}")
        return int(text)

    bounds = {"minimum": minimum, "maximum": maximum}
    return Kind(parse, {"type": "integer", **bounds} if maximum < 2**63 else _digits(minimum, maximum))


def _digits(minimum: int, maximum: int) -> dict[str, Any]:
    # JSON Schema's numbers are doubles in many tools: wide integers are described as strings of digits.
    return {"type": "string", "pattern": "^(0|-?[1-9][0-9]*)$" if minimum < 0 else "^(0|[1-9][0-9]*)$", "maxLength": 78}


def decimal(places: int) -> Kind[str]:
    """A number with at most so many digits after the point, kept as text."""

    def parse(text: str) -> str:
        match = _DECIMAL.fullmatch(text) if len(text) <= 200 else None
        if not match or len(match[1] or "") > places:
            raise BadValueError(f"must be a decimal number with at most {places} digits after the point")
        return text

    return Kind(parse, {"type": "string", "pattern": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"})


def choice(*values: str) -> Kind[str]:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in values:
            raise BadValueError(f"must be {' or '.join(values)}")
        return text

    return Kind(parse, {"type": "string", "enum": list(values)})


def text(max_length: int = 1000) -> Kind[str]:
    """Any text that Postgres can hold."""

    def parse(value: str) -> str:
        if "\0" in value:
            raise BadValueError("must not hold a NUL character")
        if not 1 <= len(value) <= max_length:
            raise BadValueError(f"must have 1 to {max_length} characters")
        return value

    return Kind(parse, {"type": "string", "minLength": 1, "maxLength": max_length})


def hex_bytes(size: int | None = None) -> Kind[bytes]:
    """``0x`` and hex digits in any case.

    Args:
        size: how many bytes, or None for any number up to 1,024.
    """
    allowed = f"0x and {2 * size} hex digits" if size is not None else "0x and an even number of hex digits"

    def parse(value: str) -> bytes:
        match = _HEX.fullmatch(value) if len(value) <= 2050 else None
        if not match or (size is not None and len(match[1]) != 2 * size):
            raise BadValueError(f"must be {allowed}")
        return bytes.fromhex(match[1])

    digits = f"{{{2 * size}}}" if size is not None else "*"
    return Kind(parse, {"type": "string", "pattern": f"^0x[0-9a-fA-F]{digits}$"})


def parse_address(value: str) -> bytes:
    """Read an address: 20 bytes as hex in one case, or with its checksum, EIP-55 or Rootstock's (EIP-1191).

    Raises:
        BadValueError: with the code INVALID_ADDRESS.
    """
    match = _HEX.fullmatch(value) if len(value) == 42 else None
    if not match:
        raise BadValueError("must be an address: 0x and 40 hex digits", "INVALID_ADDRESS")
    digits = match[1]
    if not is_well_cased(digits):
        raise BadValueError(
            f"has a wrong checksum, so one of its characters is mistyped; it is 0x{digits.lower()} if it is meant so",
            "INVALID_ADDRESS",
        )
    return bytes.fromhex(digits)


def parse_time(value: str) -> datetime:
    """Read a time: ISO 8601 with an offset, a date (midnight UTC), or seconds since 1970.

    Those have nine digits or more: 20230402 is more likely a date without its dashes than a day in 1970.

    Raises:
        BadValueError: if it is none of these.
    """
    try:
        if re.fullmatch(r"[0-9]{9,12}", value) and int(value) <= _LAST_SECOND:
            return datetime.fromtimestamp(int(value), UTC)
        if _TIME.fullmatch(value):
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise BadValueError("must be a time such as 2023-04-02T09:19:24Z, a date such as 2023-04-02, or Unix seconds")


def parse_date(value: str) -> str:
    """Read a day: ``2023-04-02``.

    Raises:
        BadValueError: if there is no such day.
    """
    try:
        if _DATE.fullmatch(value):
            datetime.fromisoformat(value)
            return value
    except ValueError:
        pass
    raise BadValueError("must be a day such as 2023-04-02")


def _parse_cursor(value: str) -> Position:
    try:
        return Position.parse(value)
    except CursorError as error:
        raise BadValueError(str(error), "INVALID_CURSOR") from None


def list_of(kind: Kind[T]) -> Kind[list[T]]:
    """Values of a kind with commas between them, each once."""

    def parse(value: str) -> list[T]:
        parts = value.split(",")
        if len(parts) > MAX_LIST:
            raise BadValueError(f"must not have more than {MAX_LIST} values")
        # A value given twice must not answer its rows twice.
        return list(dict.fromkeys(kind.parse(part) for part in parts))

    return Kind(parse, {"type": "array", "items": dict(kind.schema), "minItems": 1, "maxItems": MAX_LIST})


def words(allowed: Sequence[str]) -> Kind[frozenset[str]]:
    """Words out of a set with commas between them."""
    each = list_of(choice(*allowed))
    return Kind(lambda value: frozenset(each.parse(value)), {**each.schema, "uniqueItems": True})


BLOCK: Final = integer(0, MAX_BLOCK)
ADDRESS: Final = Kind(parse_address, {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"})
HASH: Final = hex_bytes(32)
TIME: Final = Kind(parse_time, {"type": "string", "description": "ISO 8601, a date, or Unix seconds"})
DATE: Final = Kind(parse_date, {"type": "string", "format": "date"})
CURSOR: Final = Kind(_parse_cursor, {"type": "string"})
BOOL: Final = choice("true", "false")
