"""The small languages inside the manifest's strings: addresses, environment variables, schedules."""

import re
from collections.abc import Mapping

from indexer.checksum import is_well_cased
from indexer.manifest.model import Schedule

_ADDRESS = re.compile(r"0x([0-9a-fA-F]*)")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTERVAL = re.compile(r"([1-9][0-9]{0,8}) +([a-z]+)")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SCHEDULES = '"100 blocks", "5 minutes" (seconds, minutes, hours, days, weeks) or "cron 0 */6 * * *"'


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
            return Schedule("blocks", amount, None, text)
        if unit in _SECONDS:
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
