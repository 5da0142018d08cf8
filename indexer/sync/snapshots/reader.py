"""Reading one point of a snapshot series: its calls to every target, all at one block, and what they answered.

The ``multicall`` library describes and encodes the calls; our own client sends them (``chain.multicall``); the outputs
are decoded like events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_typing import Address
from multicall import Call as MulticallCall

from indexer.abi.decoder import DataDecoder, UndecodableLog, compile_outputs
from indexer.abi.model import Abi
from indexer.chain.client import ChainClient
from indexer.manifest.model import SnapshotCall
from indexer.store.rows.snapshots import Reading
from indexer.sync.snapshots.revert_reasons import reason

UNANSWERED = "not answered: "
"""So begins what stands in place of a reason where no node would run a call: it says nothing of the contract."""


@dataclass(frozen=True, slots=True)
class Target:
    """One contract to ask, with one list of arguments."""

    address: bytes
    item: int
    arguments: Mapping[str, Any] | None


def read(
    client: ChainClient, calls: Sequence[SnapshotCall], abi: Abi, targets: Sequence[Target], number: int
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
                failures[said_of(call)] = reason(answer.data, abi)
            else:
                outputs = _decoded(decoder, answer.data, call, failures) or outputs
            values += outputs
        readings.append(Reading(target.address, target.item, shown(target.arguments), values, failures, unanswered))
    return readings


def said_of(call: SnapshotCall) -> str:
    """What a call's failures are filed under: its own name, else its signature."""
    return call.name or call.function.signature


def encode(call: SnapshotCall, target: Target) -> bytes:
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
