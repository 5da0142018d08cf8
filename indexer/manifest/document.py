"""The manifest as written: a flat, frozen model for each table of ``indexer.toml``, and the values in its strings.

A model here knows the keys and the plain types of its own table only. What the values mean, and how the tables fit
together, is decided in ``chains``, ``contracts``, ``log_scopes`` and ``snapshots``. Every key is optional here, so that
a table with a mistake in one key is still checked in its others; keys that must be there are asked for with
:meth:`DocumentPart.required`. The small languages inside strings are addresses, environment variables and schedules.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from indexer.abi.topics import is_well_cased
from indexer.errors import ABSENT, did_you_mean, listed, nearest
from indexer.manifest.model import Schedule
from indexer.manifest.source import KeyPath, ManifestReport

_ADDRESS = re.compile(r"0x([0-9a-fA-F]*)")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTERVAL = re.compile(r"([1-9][0-9]{0,8}) +([a-z]+)")
#: Beyond these, times and numbers of blocks cannot be stored.
_MOST_SECONDS = 36_500 * 86_400
_MOST_BLOCKS = 2**53
#: Of a day, and of one call: all of a day's stay within 64 bits.
_MOST_CREDITS = 10**15
_DEAREST_CALL = 10**9
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SCHEDULES = '"100 blocks", "5 minutes" (seconds, minutes, hours, days, weeks) or "cron 0 */6 * * *"'

# pydantic's name of a failed check -> what would have been right.
_EXPECTED = {
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "float_type": "expected a number",
    "int_type": "expected a whole number",
    "list_type": "expected a list",
    "string_type": "expected a string",
}


def parse_address(value: object) -> bytes:
    """Read an address: 0x and 40 hex digits, in one case or with a right checksum (EIP-55, Rootstock's EIP-1191).

    Returns:
        The 20 bytes.

    Raises:
        ValueError: it is none; the message says what is wrong with it.
    """
    if not isinstance(value, str):
        raise ValueError('expected an address, a string: "0x…"')
    match = _ADDRESS.fullmatch(value)
    if match is None:
        raise ValueError("expected an address: 0x and 40 hexadecimal digits")
    digits = match.group(1)
    if len(digits) != 40:
        raise ValueError(f"an address has 40 hexadecimal digits after 0x, this one has {len(digits)}")
    if not is_well_cased(digits):
        # The checksum of a mistyped address is no help: it would bless the mistake.
        raise ValueError(
            "its checksum (EIP-55) is wrong: copy the address again, or write it in lower case if sure of it"
        )
    return bytes.fromhex(digits)


class UnsetVariableError(ValueError):
    """A string names an environment variable that is not set, or is set to nothing."""


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Replace every ``${NAME}`` by the environment variable's value.

    Raises:
        UnsetVariableError: a variable is not set or empty.
        ValueError: the text between the braces is no name.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if not _VARIABLE_NAME.fullmatch(name):
            raise ValueError("expected the name of an environment variable: ${NAME}")
        if name not in environ:
            raise UnsetVariableError(f"environment variable {name} is not set: export it, or put it into .env")
        if not environ[name].strip():
            raise UnsetVariableError(f"environment variable {name} is empty")
        return environ[name].strip()

    return _VARIABLE.sub(value_of, text)


def parse_schedule(text: str) -> Schedule:
    """Read when a snapshot is taken: so many blocks, so much time, or a cron expression (UTC).

    Raises:
        ValueError: it is none of these.
    """
    if text.startswith("cron "):
        return _parse_cron(text)
    match = _INTERVAL.fullmatch(text)
    if match is not None:
        amount, unit = int(match.group(1)), match.group(2).removesuffix("s")
        if unit == "block":
            if amount > _MOST_BLOCKS:
                raise ValueError(f"at most {_MOST_BLOCKS} blocks may lie between two snapshots")
            return Schedule("blocks", amount, None, text)
        if unit in _SECONDS:
            if amount * _SECONDS[unit] > _MOST_SECONDS:
                raise ValueError(f"at most {_MOST_SECONDS // _SECONDS['day']} days may lie between two snapshots")
            return Schedule("seconds", amount * _SECONDS[unit], None, text)
    raise ValueError(f"expected {_SCHEDULES}")


def _parse_cron(text: str) -> Schedule:
    from apscheduler.triggers.cron import CronTrigger  # it costs 60 ms, and few manifests need it

    fields = text.split()[1:]
    if len(fields) != 5:
        raise ValueError(f"a cron expression has 5 fields (minute hour day month weekday), this one has {len(fields)}")
    if re.search(r"\d", fields[4]):
        # APScheduler counts weekdays from Monday, crontab from Sunday.
        raise ValueError(
            "name the weekdays of a cron expression (mon, tue-fri, sun): numbers mean different days elsewhere"
        )
    cron = " ".join(fields)
    try:
        CronTrigger.from_crontab(cron, timezone="UTC")
    except ValueError as error:
        raise ValueError(f"not a cron expression: {error}") from error
    return Schedule("cron", 0, cron, text)


class DocumentPart(BaseModel):
    """One table of the manifest."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    secret: ClassVar[frozenset[str]] = frozenset()
    """Keys whose values are never shown."""

    _refused: frozenset[str] = PrivateAttr(default=frozenset())
    """Keys that were given with a mistake, among them the keys that a misspelt one was probably meant to be."""

    @classmethod
    def read(cls, raw: object, path: KeyPath, report: ManifestReport) -> Self:
        """Read one table; what is wrong goes to the report, and the rest is read without it."""
        if not isinstance(raw, dict):
            report.add(path, "expected a table", raw if not cls.secret else ABSENT)
            part = cls()
            part._refused = frozenset(cls.model_fields)
            return part
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            cls._report(tuple(detail["loc"]), detail["type"], detail["msg"], detail["input"], path, report)
        refused = {str(detail["loc"][0]) for detail in details}
        part = cls.model_validate({key: value for key, value in raw.items() if key not in refused})
        meant = {near for key in refused if (near := nearest(key, cls.model_fields)) is not None}
        part._refused = frozenset(refused | meant)
        return part

    @classmethod
    def _report(
        cls, where: KeyPath, kind: str, text: str, found: object, path: KeyPath, report: ManifestReport
    ) -> None:
        key = str(where[0])
        if kind == "extra_forbidden":
            # Its value stays unshown: a misspelt rpc is a secret too.
            known = tuple(field.alias or name for name, field in cls.model_fields.items())
            report.add((*path, key), f"unknown key{did_you_mean(key, known)} (allowed: {listed(known)})")
            return
        message = _EXPECTED.get(kind) or _without_subject(text)
        report.add((*path, *where), message, ABSENT if key in cls.secret else found)

    def required(self, key: str, path: KeyPath, report: ManifestReport, meaning: str) -> bool:
        """Tell whether a key was given; report it as missing, unless a mistake in it was reported already."""
        if getattr(self, key) is not None:
            return True
        if not self.refused(key):
            report.add(path, f"{key} is missing: {meaning}")
        return False

    def refused(self, *keys: str) -> bool:
        """Tell whether one of the keys was given with a mistake, so that its absence here means nothing."""
        return not self._refused.isdisjoint(keys)


def _without_subject(text: str) -> str:
    """What pydantic says of a value ("Input should be ..."), to stand behind the key."""
    text = text.removeprefix("Input ")
    return text[:1].lower() + text[1:]


class ChainPart(DocumentPart):
    """``[chains.NAME]``."""

    secret = frozenset({"rpc", "history"})

    id: int | None = Field(default=None, ge=1, le=2**53)
    rpc: list[Any] | None = None
    history: list[Any] | None = None
    poll_interval: float | None = Field(default=None, gt=0, le=3600)
    finality: Any = None
    bloom_checks: bool = True
    check_history: Literal["bloom", "sample", "none"] | None = None
    log_index: Literal["per_block", "per_transaction"] = "per_block"
    null_blocks: bool = False
    dev: bool = False


class EndpointPart(DocumentPart):
    """``{ url = "${X}", ... }`` in a chain's ``rpc``."""

    secret = frozenset({"url", "headers"})

    url: str | None = None
    priority: int = Field(default=0, ge=0, le=1000)
    requests_per_second: float | None = Field(default=None, gt=0)
    archive: bool | None = None
    headers: dict[str, str] | None = None
    credits_per_day: int | None = Field(default=None, gt=0, le=_MOST_CREDITS)
    credits: dict[str, Annotated[int, Field(ge=0, le=_DEAREST_CALL)]] | None = None
    price_per_million_credits: str | None = None


class HistorySourcePart(DocumentPart):
    """``{ url = "sqd:${X}", ... }`` in a chain's ``history``."""

    secret = frozenset({"url", "headers"})

    url: str | None = None
    verify: Literal["all", "sample", "none"] = "sample"
    requests_per_second: float | None = Field(default=None, gt=0)
    headers: dict[str, str] | None = None


class FinalityPart(DocumentPart):
    """``finality = { blocks = N }``, ``{ seconds = N }`` or ``{ tag = "finalized", at_least = N }``."""

    blocks: int | None = Field(default=None, ge=0, le=_MOST_BLOCKS)
    seconds: int | None = Field(default=None, ge=0, le=_MOST_SECONDS)
    tag: str | None = None
    at_least: int | None = Field(default=None, ge=0)


class ContractPart(DocumentPart):
    """``[contracts.NAME]``."""

    chain: str | None = None
    chains: Any = None
    abi: str | None = None
    address: Any = None
    factory: Any = None
    start_block: Any = None
    end_block: int | None = Field(default=None, ge=0, le=2**63 - 2)
    events: list[str] | None = None
    filters: dict[str, Any] | None = None
    indexes: dict[str, list[str]] | None = None
    tx_hash_index: bool = True
    token_arguments: dict[str, list[str]] | None = None
    include: list[str] | None = None


class PlacePart(DocumentPart):
    """``[contracts.NAME.chains.CHAIN]``: what is different on one chain."""

    address: Any = None
    factory: Any = None
    start_block: Any = None
    end_block: int | None = Field(default=None, ge=0, le=2**63 - 2)
    filters: dict[str, Any] | None = None


class FactoryPart(DocumentPart):
    """``factory = { contract = ..., event = ..., argument = ... }``."""

    contract: str | None = None
    event: str | None = None
    argument: str | None = None


class SnapshotPart(DocumentPart):
    """``[snapshots.NAME]``."""

    contract: str | None = None
    chains: list[str] | None = None
    calls: list[Any] | None = None
    every: str | None = None
    start_block: int | None = Field(default=None, ge=0, le=2**63 - 2)
    for_each: str | None = None


class CallPart(DocumentPart):
    """``{ call = "balanceOf(address)", args = [...] }`` in a snapshot's ``calls``."""

    call: str | None = None
    args: list[Any] | None = None
    name: str | None = None


class DerivedPart(DocumentPart):
    """``[derived.NAME]``."""

    from_: Any = Field(default=None, alias="from")
    where: str | None = None
    lookup: dict[str, Any] = {}
    select: dict[str, str] = {}
    stored: bool | None = None
    index: list[Any] = []
    key: Any = None
    count: str | None = None
    sum: dict[str, str] = {}
    average: dict[str, str] = {}
    min: dict[str, str] = {}
    max: dict[str, str] = {}
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    sql: str | None = None
    comment: str | None = None
    comments: dict[str, str] = {}


class LookupPart(DocumentPart):
    """``lookup = { NAME = { event = ..., on = ... } }``."""

    event: str | None = None
    on: Any = None
    take: Literal["last", "first"] = "last"


class ProgramPart(DocumentPart):
    """``[programs.NAME]``."""

    module: str | None = None
    chains: list[str] | None = None
    working_set: int | None = Field(default=None, ge=1_000, le=100_000_000)


class TrackingPart(DocumentPart):
    """``[tokens]`` and ``[balances]``."""

    enabled: bool = True
    chains: list[str] | None = None
    contracts: list[str] | None = None


class BalancesPart(TrackingPart):
    """``[balances]``."""

    daily: list[str] | None = None


class ManifestPart(DocumentPart):
    """The whole file."""

    chains: dict[str, Any] | None = None
    contracts: dict[str, Any] | None = None
    snapshots: dict[str, Any] | None = None
    derived: dict[str, Any] | None = None
    programs: dict[str, Any] | None = None
    tokens: Any = None
    balances: Any = None
