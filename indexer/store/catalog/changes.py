"""What applying a manifest changes, one difference at a time and summed up for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_SIGNS = {"add": "+", "remove": "-", "change": "~"}
_MOST_NAMES = 6
_MOST_DETAILS = 3


@dataclass(frozen=True, slots=True)
class Change:
    """One difference that was made.

    Attributes:
        action: what was done.
        kind: to what.
        name: ``usdc`` of a contract, ``usdc.Transfer`` of an event or its source, ``usdc.Transfer(value)`` of an index.
        detail: more, for people.
    """

    action: Literal["add", "remove", "change"]
    kind: Literal["chain", "contract", "event", "source", "snapshot", "index", "balances"]
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{_SIGNS[self.action]} {self.kind} {self.name}" + (f": {self.detail}" if self.detail else "")

    @property
    def owner(self) -> tuple[str, str]:
        """What it belongs to: changes of one contract are read together."""
        if self.kind in ("contract", "event", "source", "index", "balances"):
            return "contract", self.name.partition(".")[0]
        return self.kind, self.name


def summary(changes: Iterable[Change]) -> list[str]:
    """Changes as lines for people: one for each contract and action, however many events it has."""
    groups: dict[tuple[str, tuple[str, str]], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.action, change.owner), []).append(change)
    return [str(group[0]) if len(group) == 1 else _line(group) for group in groups.values()]


def _line(group: Sequence[Change]) -> str:
    first = group[0]
    of_kind = {
        kind: [change for change in group if change.kind == kind]
        for kind in ("contract", "event", "source", "index", "balances")
    }
    noun = "contract " if of_kind["contract"] else ""
    said = [change.detail for change in (*of_kind["contract"], *of_kind["event"]) if change.detail]
    parts = [_short(dict.fromkeys(said), _MOST_DETAILS)]
    if of_kind["event"]:
        parts.append(f"{_count(of_kind['event'], 'event')} ({_names(of_kind['event'])})")
    events = {change.name for change in of_kind["event"]}
    if of_kind["source"]:
        of_new = [change for change in of_kind["source"] if change.name in events]
        of_known = [change for change in of_kind["source"] if change.name not in events]
        parts.append(_details(of_new))
        if of_known:
            parts.append(": ".join(filter(None, [f"history of {_names(of_known)}", _details(of_known)])))
    if of_kind["index"]:
        parts.append(f"{_count(of_kind['index'], 'index', 'indexes')} ({_names(of_kind['index'])})")
    if of_kind["balances"]:
        parts.append(
            f"balances {_short(dict.fromkeys(change.detail for change in of_kind['balances']), _MOST_DETAILS)}"
        )
    return f"{_SIGNS[first.action]} {noun}{first.owner[1]}: {'; '.join(filter(None, parts))}"


def _details(changes: Sequence[Change]) -> str:
    return _short(dict.fromkeys(change.detail for change in changes if change.detail), _MOST_DETAILS)


def _names(changes: Sequence[Change]) -> str:
    return _short(dict.fromkeys(change.name.partition(".")[2] for change in changes), _MOST_NAMES)


def _short(texts: Iterable[str], most: int) -> str:
    texts = list(texts)
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _count(changes: Sequence[Change], noun: str, plural: str = "") -> str:
    return f"{len(changes)} {noun if len(changes) == 1 else plural or noun + 's'}"


def abi_difference(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str:
    """What two versions of an ABI do not have in common: ``ABI: + event Paused, - function pause``."""
    before, after = _items(old), _items(new)
    lines = [f"+ {name}" for name in after if name not in before]
    lines += [f"- {name}" for name in before if name not in after]
    lines += [f"~ {name}" for name in after if name in before and before[name] != after[name]]
    return f"ABI: {_short(lines, _MOST_NAMES)}" if lines else ""


def _items(abi: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {
        f"{item.get('type', 'function')} {item.get('name', '')}({_types(item.get('inputs', ()))})": item for item in abi
    }


def _types(inputs: Sequence[Mapping[str, Any]]) -> str:
    return ",".join(str(argument.get("type", "")) for argument in inputs)
