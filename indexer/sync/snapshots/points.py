"""The points of a snapshot series: when they are due, their calls, and why a call failed.

All calls of a point are made at one block, to every target. The ``multicall`` library describes and encodes them; our
own client sends them (``chain.reads``); the outputs are decoded like events.

Solidity reverts with ``Error(string)``, ``Panic(uint256)`` or a custom error of the contract's ABI; the panic codes
are listed in the Solidity documentation ("Panic via assert and Error via require").
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.triggers.cron import CronTrigger
from eth_typing import Address
from multicall import Call as MulticallCall

from indexer.abi.decoder import DataDecoder, UndecodableLog, compile_outputs, compile_values
from indexer.abi.model import Abi
from indexer.chain.client import ChainClient
from indexer.manifest.model import Schedule, Snapshot, SnapshotCall
from indexer.store.rows.snapshots import Reading

_ERROR = bytes.fromhex("08c379a0")
_PANIC = bytes.fromhex("4e487b71")
_PANICS = {
    0x00: "generic panic",
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "value out of an enum's range",
    0x22: "wrongly encoded storage byte array",
    0x31: "pop of an empty array",
    0x32: "array index out of bounds",
    0x41: "out of memory",
    0x51: "call of an uninitialised function",
}
_MAX_REASON = 500

UNANSWERED = "not answered: "
"""So begins what stands in place of a reason where no node would run a call: it says nothing of the contract."""


def revert_reason(data: bytes, abi: Abi) -> str:
    """What a contract said when it reverted.

    Args:
        data: what the call returned, any bytes.
        abi: the contract's, for its custom errors.
    """
    if not data:
        return "reverted without a reason"
    selector, body = data[:4], data[4:]
    if selector == _ERROR and len(body) >= 64:
        length = int.from_bytes(body[32:64])
        text = body[64 : 64 + min(length, _MAX_REASON)].decode(errors="replace").replace("\0", "\ufffd")
        return f"reverted: {text}"
    if selector == _PANIC and len(body) >= 32:
        code = int.from_bytes(body[:32])
        return f"panic 0x{code:02x}: {_PANICS.get(code, 'unknown code')}"[:_MAX_REASON]
    for error in abi.errors:
        if error.selector == selector:
            try:
                values = compile_values(error.inputs).decode(body, [])
            except UndecodableLog:
                break
            return f"reverted: {error.name}({_listed(values)})"[:_MAX_REASON]
    return f"reverted with 0x{data[:64].hex()}" + ("…" if len(data) > 64 else "")


def _listed(values: Sequence[object]) -> str:
    return ", ".join("0x" + value.hex() if isinstance(value, bytes) else str(value) for value in values)


def past_times(every: Schedule, first: int, last: int) -> Iterator[tuple[int, int]]:
    """The times at which a series by the clock is due, each with the one before, in Unix seconds.

    Args:
        every: in seconds (the multiples of so many since 1970) or by cron (UTC).
        first: the first time that counts.
        last: the last one.
    """
    if every.kind == "seconds":
        for moment in range(-(-first // every.amount) * every.amount, last + 1, every.amount):
            yield moment - every.amount, moment
        return
    trigger = CronTrigger.from_crontab(every.cron or "", timezone="UTC")
    before = first - 1
    fire = trigger.get_next_fire_time(None, utc(first))
    while fire is not None and fire.timestamp() <= last:
        yield before, int(fire.timestamp())
        before = int(fire.timestamp())
        fire = trigger.get_next_fire_time(fire, fire + timedelta(seconds=1))


def utc(seconds: int) -> datetime:
    """A time in Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def due_points(snapshot: Snapshot, last: int | None, tip: int) -> list[int]:
    """The blocks at which a series "every N blocks" is still to be read, ascending.

    Args:
        snapshot: with a schedule in blocks: those whose number N divides.
        last: the newest block at which it was read; None: never.
        tip: the newest block that is indexed.
    """
    step = snapshot.every.amount
    first = tip // step * step if last is None else (last // step + 1) * step
    earliest = -(-(snapshot.start_block or 0) // step) * step
    return list(range(max(first, earliest), tip + 1, step))


@dataclass(frozen=True, slots=True)
class SnapshotTarget:
    """One contract to ask, with one list of arguments."""

    address: bytes
    item: int
    arguments: Mapping[str, Any] | None


def read_point(
    client: ChainClient, calls: Sequence[SnapshotCall], abi: Abi, targets: Sequence[SnapshotTarget], number: int
) -> list[Reading]:
    """Asks every target for every call, at one block.

    Args:
        client: the chain's nodes.
        calls: of the series.
        abi: of its contract, for the reasons of failures.
        targets: the contracts to ask.
        number: the block.

    Returns:
        A reading for each target, in their order; a call that failed has null outputs, and its reason among them.

    Raises:
        ProviderError: the nodes could not be asked.
    """
    questions = [(target.address, encode(call, target)) for target in targets for call in calls]
    answers = iter(client.multicall(questions, number))
    decoders = [compile_outputs(call.function) for call in calls]
    readings = []
    for target in targets:
        values: list[Any] = []
        failures: dict[str, str] = {}
        unanswered = False
        for call, decoder in zip(calls, decoders, strict=True):
            answer = next(answers)
            outputs: Sequence[Any] = [None] * len(call.function.outputs)
            if answer.refusal:
                unanswered = True
                failures[said_of(call)] = UNANSWERED + answer.refusal
            elif not answer.success:
                failures[said_of(call)] = revert_reason(answer.data, abi)
            else:
                outputs = _decoded(decoder, answer.data, call, failures) or outputs
            values += outputs
        readings.append(Reading(target.address, target.item, shown(target.arguments), values, failures, unanswered))
    return readings


def said_of(call: SnapshotCall) -> str:
    """What a call's failures are filed under: its own name, else its signature."""
    return call.name or call.function.signature


def encode(call: SnapshotCall, target: SnapshotTarget) -> bytes:
    """The call data: selector and arguments, those of the snapshot's query filled in."""
    arguments = [
        (target.arguments or {})[value[1:]] if isinstance(value, str) and value.startswith("$") else value
        for value in call.args
    ]
    function = call.function
    outputs = ",".join(output.type.canonical for output in function.outputs)
    described = MulticallCall(Address(target.address), [f"{function.signature}({outputs})", *arguments])
    return bytes(described.data)


def _decoded(decoder: DataDecoder, data: bytes, call: SnapshotCall, failures: dict[str, str]) -> Sequence[Any] | None:
    notes: list[str] = []
    try:
        values = decoder.decode(data, notes)
    except UndecodableLog as error:
        failures[said_of(call)] = "no code at the address" if not data else f"undecodable answer: {error}"
        return None
    if notes:
        failures[said_of(call)] = "; ".join(notes)
    return values


def shown(arguments: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A target's arguments as they are kept."""
    if arguments is None:
        return None
    return {
        name: "0x" + bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)
        for name, value in arguments.items()
    }
