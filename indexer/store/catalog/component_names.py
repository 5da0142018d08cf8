"""Components of tuples that an ABI names otherwise now: tables and factory rules keep the names they began with.

A tuple is kept as a JSON object. Rows written after a renaming must not differ in their keys from those before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from indexer.abi.columns import Column, Component
from indexer.store.catalog.declaration import Declaration, Factory


def with_kept_components(declaration: Declaration, stored: Mapping[tuple[str, bytes], Sequence[Column]]) -> Declaration:
    """The declaration with factory rules that name components as the tables do.

    Args:
        declaration: by the ABI's names.
        stored: by contract and topic0, the columns of the events that have a table, at least of those with tuples.
    """
    kept: dict[tuple[str, str], dict[str, str]] = {}
    for contract in declaration.contracts:
        for event in contract.events:
            pairs = zip(event.columns, stored.get((contract.name, event.topic0), ()), strict=False)
            paths = {
                new: old
                for now, before in pairs
                for new, old in _paths(now.argument, now.argument, now.components, before.components)
                if new != old
            }
            if paths:
                kept[contract.name, event.signature] = paths
    if not kept:
        return declaration

    def rule(factory: Factory) -> Factory:
        paths = kept.get((factory.contract, factory.event), {})
        return replace(factory, argument=paths.get(factory.argument, factory.argument))

    return replace(
        declaration,
        contracts=tuple(
            replace(
                contract,
                deployments=tuple(
                    replace(one, place=replace(one.place, factories=tuple(map(rule, one.place.factories))))
                    for one in contract.deployments
                ),
            )
            for contract in declaration.contracts
        ),
    )


def _paths(new: str, old: str, now: Sequence[Component], before: Sequence[Component]) -> Iterator[tuple[str, str]]:
    for one, kept in zip(now, before, strict=False):
        path = f"{new}.{one.name}", f"{old}.{kept.name}"
        yield path
        yield from _paths(*path, one.components, kept.components)
