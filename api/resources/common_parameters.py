"""Parameters that many paths have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from api.errors import ApiError, Problem
from api.parameters import Parameters
from api.schemas import Schema
from api.values import ADDRESS, BLOCK, HASH, TIME, Kind, choice, integer, list_of, text, words

MAX_WAIT: Final = 10
INCLUDES: Final = {
    "token": "token (symbol, name and decimals, by address)",
    "tx": "tx (the rows' transactions, by hash)",
}
MEDIA_NAMES: Final = {"csv": "CSV", "ndjson": "NDJSON", "parquet": "Parquet"}


class ChainParameters(Parameters):
    """The chain."""

    chain: Annotated[str | None, text(100)] = Field(
        None, description="Name or id of the chain; needed where several are possible."
    )


class BoundParameters(Parameters):
    """The blocks or times that rows are of."""

    from_block: Annotated[int | None, BLOCK] = Field(None, description="First block.")
    to_block: Annotated[int | None, BLOCK] = Field(None, description="Last block.")
    from_time: Annotated[Any, TIME] = Field(None, description="First moment.")
    to_time: Annotated[Any, TIME] = Field(None, description="Last moment.")


class AddressParameters(Parameters):
    """The contracts that rows are of."""

    address: Annotated[list[bytes] | None, list_of(ADDRESS)] = Field(
        None, description="Addresses that emitted the events (comma list)."
    )


class TransactionParameters(Parameters):
    """The transaction that rows are of."""

    tx_hash: Annotated[bytes | None, HASH] = Field(None, description="Hash of the transaction.")


class FinalityParameters(Parameters):
    """How final rows must be."""

    finality: Annotated[str, choice("latest", "safe", "finalized")] = Field(
        "latest", description="Only blocks that are at least this final."
    )


class FreshnessParameters(FinalityParameters):
    """Which state of the chain is answered from."""

    at_block: Annotated[int | None, BLOCK] = Field(
        None, description="Answer as of this block; 409 if it is not indexed yet."
    )
    min_block: Annotated[int | None, BLOCK] = Field(
        None, description="Answer only once this block is indexed, else 409."
    )
    wait: Annotated[int | None, integer(0, MAX_WAIT)] = Field(None, description="Seconds to wait for min_block.")


class CountParameters(Parameters):
    """Whether rows are counted."""

    count: Annotated[str, choice("none", "estimated", "exact")] = Field(
        "none", description="Count all rows of the request: exactly, or exactly up to 10,000 and estimated above."
    )


#: The parameter ``fields`` for the document, where the members depend on the event.
ANY_FIELDS: Final[Schema] = {
    "name": "fields",
    "in": "query",
    "description": "Which members of a row to send (comma list): `id`, `args`, `args.<name>`.",
    "schema": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "style": "form",
    "explode": False,
}


@dataclass(frozen=True, slots=True)
class CollectionParameter:
    """A parameter whose values follow from the collection.

    Attributes:
        name: in the URL.
        kind: how its value is written.
        description: for the OpenAPI document.
    """

    name: str
    kind: Kind[Any]
    description: str


def chosen_fields(names: Iterable[str]) -> CollectionParameter:
    """The parameter ``fields`` of a collection whose rows can have these members."""
    return CollectionParameter("fields", words(tuple(names)), "Which members of a row to send (comma list).")


def included(names: Iterable[str]) -> CollectionParameter:
    """The parameter ``include`` of a collection that can add these."""
    described = f"What to add: {', '.join(INCLUDES[name] for name in names)}."
    return CollectionParameter("include", words(tuple(names)), described)


def page_limit(unit: str, most: int, default: int) -> CollectionParameter:
    """The parameter ``limit``."""
    kind = integer(1, most)
    # It is no default of the value: an export without a limit has all rows.
    shown = Kind(kind.parse, {**kind.schema, "default": default})
    return CollectionParameter("limit", shown, f"{unit} of a page. An export without it has all.")


def answer_format(formats: Iterable[str]) -> CollectionParameter:
    """The parameter ``format``."""
    exports = [MEDIA_NAMES[name] for name in formats if name != "json"]
    named = " and ".join(filter(None, [", ".join(exports[:-1]), exports[-1]]))
    described = f"{named} {'are exports' if len(exports) > 1 else 'is an export'}."
    return CollectionParameter("format", choice(*formats), f"Instead of Accept. {described}")


def check_together(values: Mapping[str, Any]) -> None:
    """Refuse parameters that contradict one another.

    Raises:
        ApiError: that lists them.
    """
    problems = []
    if "after" in values and "before" in values:
        problems.append(Problem("before", "cannot be combined with after"))
    for first, last in (("from_block", "to_block"), ("from_time", "to_time")):
        if first in values and last in values and values[first] > values[last]:
            problems.append(Problem(first, f"must not be above {last}"))
    if "wait" in values and "min_block" not in values:
        problems.append(Problem("wait", "needs min_block"))
    if values.get("format", "json") != "json":
        for name in ("before", "include"):
            if name in values:
                problems.append(Problem(name, f"cannot be combined with format={values['format']}"))
        if values.get("count", "none") != "none":
            problems.append(Problem("count", f"cannot be combined with format={values['format']}"))
    if problems:
        raise ApiError.invalid(problems)


def cursor_side(values: Mapping[str, Any]) -> Literal["after", "before"] | None:
    """Which cursor a request has, if any."""
    return "after" if "after" in values else "before" if "before" in values else None


def narrowed(addresses: list[bytes] | None, only: bytes) -> list[bytes]:
    """The addresses of a request whose path names one: that one, or none where the parameter has others only."""
    return [only] if addresses is None or only in addresses else []


def explicit_end(values: Mapping[str, Any]) -> bool:
    """Whether a request says itself at which block it ends."""
    return any(name in values for name in ("to_block", "to_time", "at_block"))
