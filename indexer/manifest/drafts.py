"""A contract half read: what its own table says is known, what other contracts say is not yet."""

from dataclasses import dataclass

from indexer.abi.model import Abi, Event
from indexer.abi.names import argument_names
from indexer.abi.types import AbiError, Parameter
from indexer.manifest.document import ContractPart
from indexer.manifest.locate import KeyPath
from indexer.manifest.report import ManifestReport
from indexer.problems import did_you_mean


@dataclass(frozen=True)
class Draft:
    """One contract of the manifest.

    Attributes:
        path: where its table stands.
        part: its table.
        abi: its ABI, or None where that cannot be read (a problem that was reported).
        events: the selected events, in the ABI's order.
    """

    name: str
    path: KeyPath
    part: ContractPart
    abi: Abi | None
    events: tuple[Event, ...]


def find_event(abi: Abi, name: str, path: KeyPath, report: ManifestReport) -> Event | None:
    """Return the ABI's event of that name, ``Name~selector`` or signature, or report that there is none."""
    wanted = "".join(name.split())
    try:
        return abi.event(wanted)
    except AbiError as error:
        near = (
            ""
            if any(event.name == wanted for event in abi.events)
            else did_you_mean(wanted.partition("(")[0], (event.name for event in abi.events))
        )
        report.add(path, f"{error}{near}", name)
        return None


def find_selected(draft: Draft, name: str, path: KeyPath, report: ManifestReport) -> Event | None:
    """Return the event, if it is also among those that the contract selects."""
    if draft.abi is None:
        return None
    event = find_event(draft.abi, name, path, report)
    if event is not None and event not in draft.events:
        if not draft.part.refused("events"):
            report.add(path, f"{name} is not among the contract's events: add it to contracts.{draft.name}.events")
        return None
    return event


def arguments(event: Event) -> dict[str, Parameter]:
    """Return an event's arguments by the names that the API gives them (an unnamed one is ``arg0``, by position)."""
    return dict(zip(argument_names(parameter.name for parameter in event.inputs), event.inputs, strict=True))
