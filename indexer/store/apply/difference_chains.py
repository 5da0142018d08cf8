"""What the rows of chains must become, whose names are unique at every moment; compared, nothing done.

Part of :mod:`indexer.store.apply.difference`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from indexer.store.apply.difference_sources import Write, values_that_differ
from indexer.store.catalog.catalog_rows import Row
from indexer.store.catalog.changes import Change
from indexer.store.catalog.declaration import ChainDeclaration
from indexer.store.schema import tables


@dataclass(slots=True)
class Chains:
    """What is to be done about chains, in order, and what of it is told."""

    writes: list[Write] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def chains_of(known: Mapping[int, Row], declared: Sequence[ChainDeclaration]) -> Chains:
    """Compares the chains with those that are wanted.

    Args:
        known: by their ids.
        declared: those of the manifest.
    """
    done = Chains()
    wanted = {chain.chain_id: chain for chain in declared}
    names = {chain.name for chain in declared}
    # Names are unique at every moment: those that change are put aside first.
    for chain_id, row in known.items():
        if chain_id in wanted and wanted[chain_id].name != row.name and row.name in names:
            done.writes.append(Write(tables.chains, {"name": f"{row.name}~{chain_id}"}, {"chain_id": chain_id}))
    for chain_id, row in known.items():
        if chain_id not in wanted:
            _retired_chain(done, row, names)
    for chain in declared:
        _chain(done, chain, known.get(chain.chain_id))
    return done


def _retired_chain(done: Chains, row: Row, taken: set[str]) -> None:
    if row.active:
        done.changes.append(Change("remove", "chain", row.name, "its data stays"))
    values: dict[str, Any] = {"active": False} if row.active else {}
    if row.name in taken:
        values["name"] = f"{row.name}-{row.chain_id}"
        detail = f"its name is another chain's now; its data is kept under the name {values['name']}"
        done.changes.append(Change("change", "chain", row.name, detail))
    if values:
        done.writes.append(Write(tables.chains, values, {"chain_id": row.chain_id}))


def _chain(done: Chains, chain: ChainDeclaration, row: Row | None) -> None:
    wanted = {"name": chain.name, "bloom_checks": chain.bloom_checks, "dev": chain.dev, "active": True}
    if row is None:
        done.writes.append(Write(tables.chains, {"chain_id": chain.chain_id, **wanted}))
        done.changes.append(Change("add", "chain", chain.name, f"id {chain.chain_id}"))
    elif values := values_that_differ(row, wanted):
        done.writes.append(Write(tables.chains, values, {"chain_id": chain.chain_id}))
        detail = f"was called {row.name}" if row.name != chain.name else ""
        done.changes.append(Change("change" if row.active else "add", "chain", chain.name, detail))
