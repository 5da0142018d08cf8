"""``filters``: which values of indexed arguments are wanted, as topics that a node can search for."""

from collections.abc import Mapping
from typing import Any

from indexer.abi.topics import topic_value
from indexer.abi.types import AbiError, Parameter
from indexer.manifest.drafts import Draft, arguments, find_selected
from indexer.manifest.locate import KeyPath
from indexer.manifest.model import TopicFilter
from indexer.manifest.report import ManifestReport
from indexer.problems import did_you_mean, listed


def read_filters(
    raw: Mapping[str, Any], draft: Draft, path: KeyPath, report: ManifestReport
) -> dict[str, tuple[TopicFilter, ...]]:
    """Read ``{ Event = { argument = value or [values] } }``, or a list of such alternatives for an event."""
    filters: dict[str, tuple[TopicFilter, ...]] = {}
    for name, value in raw.items():
        here: KeyPath = (*path, name)
        event = find_selected(draft, name, here, report)
        if event is None or draft.abi is None:
            continue
        api_name = draft.abi.api_name(event)
        if api_name in filters:
            report.add(here, "this event has a filter already, under another spelling of its name")
            continue
        alternatives: list[tuple[Any, KeyPath]] = [(value, here)]
        if isinstance(value, list):
            alternatives = [(item, (*here, at)) for at, item in enumerate(value)]
        if not alternatives:
            report.add(here, "the list is empty: nothing would pass it")
        filters[api_name] = tuple(
            _read_alternative(item, arguments(event), event.name, where, report) for item, where in alternatives
        )
    return filters


def _read_alternative(
    raw: object, known: Mapping[str, Parameter], event: str, path: KeyPath, report: ManifestReport
) -> TopicFilter:
    indexed = [name for name, parameter in known.items() if parameter.indexed]
    if not isinstance(raw, dict) or not raw:
        report.add(path, "expected { argument = value } or { argument = [values] }", raw)
        return TopicFilter({}, ())
    chosen: dict[str, tuple[str | int | bool, ...]] = {}
    topics: dict[str, tuple[bytes, ...]] = {}
    for name, value in raw.items():
        here: KeyPath = (*path, name)
        if name not in known:
            near = did_you_mean(name, known)
            report.add(here, f"{event} has no argument {name}{near} (indexed arguments: {listed(indexed)})")
        elif name not in indexed:
            report.add(
                here, f"{name} of {event} is not indexed: a node cannot search for it (indexed: {listed(indexed)})"
            )
        else:
            chosen[name], topics[name] = _read_values(value, known[name], here, report)
    return TopicFilter(chosen, tuple(topics.get(name) for name in indexed))


def _read_values(
    value: object, parameter: Parameter, path: KeyPath, report: ManifestReport
) -> tuple[tuple[str | int | bool, ...], tuple[bytes, ...]]:
    items: list[tuple[Any, KeyPath]] = [(value, path)]
    if isinstance(value, list):
        items = [(item, (*path, at)) for at, item in enumerate(value)]
    if not items:
        report.add(path, "the list is empty: nothing would pass it")
    shown: list[str | int | bool] = []
    topics: list[bytes] = []
    for item, here in items:
        try:
            topic = topic_value(parameter, item)
        except AbiError as error:
            report.add(here, str(error), item)
            continue
        if topic in topics:
            report.add(here, "this value is in the list already", item)
            continue
        topics.append(topic)
        shown.append(item.lower() if isinstance(item, str) and parameter.type.canonical != "string" else item)
    return tuple(shown), tuple(topics)
