"""The verdict: one sentence about everything, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from indexer.store.lag import DISK_FULL

Level: TypeAlias = Literal["good", "partly", "bad"]

#: Seconds without a word from the nodes after which the indexer counts as standing still.
SILENCE: Final = 120

_TITLES: Final[Mapping[Level, str]] = {
    "good": "Everything that is wanted is indexed",
    "partly": "Right as far as it goes, and not complete yet",
    "bad": "Something is wrong",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to think of it.

    Attributes:
        level: the worst of the reasons.
        title: it in a sentence.
        reasons: what keeps it from being good, the worst first.
    """

    level: Level
    title: str
    reasons: Sequence[tuple[Level, str]]


def judge(
    chains: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]
) -> Verdict:
    """Judge.

    Args:
        chains: those of the manifest: ``name``, ``state``, ``state_reason``, ``silent_seconds``, ``undecoded_logs``,
            ``endpoints``.
        events: ``missing_blocks`` and ``indexes_put_off`` of each.
        findings: what audits found and what is not repaired yet: ``chain``, ``kind``, ``count``.
    """
    reasons: list[tuple[Level, str]] = []
    if not chains:
        reasons.append(("partly", "nothing is declared yet: `gapless run` or `gapless apply` reads the manifest"))
    for chain in chains:
        reasons += _of_chain(chain)
    for finding in findings:
        reasons.append(
            (
                "bad",
                f"{finding['chain']}: an audit found {finding['count']:,} × {finding['kind']}: see `gapless repair`",
            )
        )
    if lacking := [event["missing_blocks"] for event in events if event["missing_blocks"]]:
        reasons.append(
            ("partly", f"history is missing in {len(lacking)} of {len(events)} events: {sum(lacking):,} blocks")
        )
    if unindexed := sum(bool(event["indexes_put_off"]) for event in events):
        reasons.append(("partly", f"{unindexed} tables get their indexes when their history is there"))
    reasons.sort(key=lambda reason: reason[0])  # "bad" before "partly", as it happens to be in the alphabet
    level: Level = reasons[0][0] if reasons else "good"
    return Verdict(level, _TITLES[level], reasons)


def _of_chain(chain: Mapping[str, Any]) -> list[tuple[Level, str]]:
    name, state, why = chain["name"], chain["state"], chain["state_reason"]
    reasons: list[tuple[Level, str]] = []
    if state == "stalled":
        reasons.append(("bad", f"{name} stands still: {why or 'see the log of the indexer'}"))
    elif state == "halted":
        reasons.append(("bad", f"{name} is halted: {why or 'see the log of the indexer'}"))
    elif state == "waiting" and (why or "").startswith(DISK_FULL):
        reasons.append(("bad", f"{name} is waiting: {why}"))
    elif state != "following":
        reasons.append(("partly", f"{name} is {state}" + (f": {why}" if why else "")))
    silent = chain["silent_seconds"]
    if silent is not None and silent > SILENCE:
        reasons.append(("bad", f"{name}: nothing was heard of its nodes for {ago(silent)}: is `gapless run` running?"))
    # What only pushes new heads answers no question.
    endpoints = [one for one in chain["endpoints"] if not one["host"].startswith(("ws:", "wss:"))]
    if endpoints and all(endpoint["state"] == "unhealthy" for endpoint in endpoints):
        reasons.append(("bad", f"{name}: none of its endpoints is well"))
    if chain["undecoded_logs"]:
        reasons.append(
            ("partly", f"{name}: {chain['undecoded_logs']:,} logs do not fit their ABI: `gapless undecoded`")
        )
    return reasons


def ago(seconds: float) -> str:
    """A span of time in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
