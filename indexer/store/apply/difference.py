"""What must be done to the catalog so that it is what a manifest asks for: compared, and nothing done.

Pure: :mod:`indexer.store.apply.apply` does it. What is new is created first, inactive, and compared again: then it has
ids. Nothing that holds data is ever dropped here: what is no longer wanted is marked inactive and keeps its rows and
its coverage, so that wanting it again costs only what is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from indexer.abi import token_standards
from indexer.abi.columns import Column
from indexer.store.apply import derived_tables
from indexer.store.apply.derived_tables import DerivedStep
from indexer.store.apply.difference_events import NewEvent, events_of, refuse_taken, with_kept_components
from indexer.store.apply.difference_sources import (
    Split,
    Write,
    chains_of,
    deployments_of,
    sources_of,
    values_that_differ,
)
from indexer.store.catalog import ledgers
from indexer.store.catalog.declaration import (
    Change,
    ContractDeclaration,
    Declaration,
    EventDeclaration,
    SeriesDeclaration,
    abi_difference,
)
from indexer.store.catalog.ledgers import LedgerStep
from indexer.store.catalog.version import CatalogRows, Row
from indexer.store.database import DatabaseError
from indexer.store.schema import tables


@dataclass(frozen=True, slots=True)
class NewSeries:
    """A series that needs a table."""

    series: SeriesDeclaration
    schema_name: str
    table_name: str


@dataclass(slots=True)
class Difference:
    """What lies between a catalog and a declaration.

    Attributes:
        version: of the catalog that was looked at.
        changes: for people, in the order in which the manifest names things.
        contracts, events, series: what is to be created first; with any of them the rest is provisional: new things
            have negative ids there.
        writes: of rows, in order.
        splits: sources of which some addresses are no longer wanted.
        ledgers: what becomes of balances.
        derived: what becomes of derived tables.
        contract_ids: by the names of all contracts that are wanted.
        event_ids: by contract name and topic of all events that are wanted.
        indexed: ids of events whose indexes are to be others.
    """

    version: int
    changes: list[Change] = field(default_factory=list)
    contracts: list[ContractDeclaration] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    series: list[NewSeries] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    ledgers: list[LedgerStep] = field(default_factory=list)
    derived: list[DerivedStep] = field(default_factory=list)
    indexed: list[int] = field(default_factory=list)
    contract_ids: dict[str, int] = field(default_factory=dict)
    event_ids: dict[tuple[str, bytes], int] = field(default_factory=dict)

    @property
    def creates(self) -> bool:
        """Whether something is to be created first."""
        return bool(self.contracts or self.events or self.series)

    def __bool__(self) -> bool:
        return self.creates or bool(self.writes or self.splits or self.ledgers or self.derived)


def difference(rows: CatalogRows, declaration: Declaration) -> Difference:
    """Compares a catalog with what is wanted.

    Raises:
        DatabaseError: the declaration contradicts what is there.
    """
    tuples = {
        (name, bytes(event.topic0)): [Column.from_json(column) for column in event.columns]
        for name, contract in rows.contracts.items()
        for event in rows.events.get(contract.id, ())
        if any(column.get("components") for column in event.columns)
    }
    return _Comparison(rows, with_kept_components(declaration, tuples), Difference(rows.version)).run()


@dataclass(slots=True)
class _Comparison:
    rows: CatalogRows
    declaration: Declaration
    found: Difference
    renamed: dict[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    covered: frozenset[int] = frozenset()
    _placeholder: int = 0

    def run(self) -> Difference:
        self.covered = frozenset(
            event_id for (event_id, _), sources in self.rows.sources.items() for one in sources if one.covered
        )
        chains = chains_of(self.rows.chains, self.declaration.chains)
        self.found.writes += chains.writes
        self.found.changes += chains.changes
        for contract in self.declaration.contracts:
            self._refuse_names(contract)
        self._find_renamed()
        for contract in self.declaration.contracts:
            self._contract(contract)
        names = {contract.name for contract in self.declaration.contracts}
        self._deactivate_missing(tables.contracts, "contract", self.rows.contracts, names)
        for series in self.declaration.series:
            self._series(series)
        names = {series.name for series in self.declaration.series}
        self._deactivate_missing(tables.series, "snapshot", self.rows.series, names)
        self._retire()
        steps, changes = ledgers.difference(self.rows.ledgers, self._ledgers())
        self.found.ledgers = steps
        self.found.changes += changes
        self.found.derived, changes = derived_tables.difference(self.rows.derived, self.declaration.derived)
        self.found.changes += changes
        return self.found

    def _new_id(self) -> int:
        self._placeholder -= 1
        return self._placeholder

    def _update(self, table: sa.Table, key: Mapping[str, Any], row: Row, wanted: Mapping[str, Any]) -> bool:
        """Notes what of a row is to be different; returns whether anything is."""
        if values := values_that_differ(row, wanted):
            self.found.writes.append(Write(table, values, key))
        return bool(values)

    # -- contracts -------------------------------------------------------------------------------------------------

    def _refuse_names(self, contract: ContractDeclaration) -> None:
        if contract.name in self.rows.contracts:
            return
        schema = contract.schema_name
        owner = next((name for name, row in self.rows.contracts.items() if row.schema_name == schema), None)
        if owner is not None:
            raise DatabaseError(
                f"contract {contract.name} would have the schema {schema}, which holds the data of contract {owner}",
                hint=f"names that differ in their letters' case only are one schema: call it {owner}, or choose "
                f"another name; or take it out of the manifest, run: gapless apply, then: gapless drop {owner}",
            )
        if schema in self.rows.schemas:
            raise DatabaseError(
                f"contract {contract.name} needs a schema {schema}, and the database has one that Gapless did not make",
                hint="give the contract another name; or rename or drop that schema, if nothing needs it",
            )

    def _find_renamed(self) -> None:
        """Arguments that an ABI names otherwise now: rules that name them mean the same ones."""
        for contract in self.declaration.contracts:
            row = self.rows.contracts.get(contract.name)
            known = {bytes(event.topic0): event for event in self.rows.events.get(row.id, ())} if row else {}
            for event in contract.events:
                if (stored := known.get(event.topic0)) is not None:
                    before = [column["argument"] for column in stored.columns]
                    pairs = zip(before, [column.argument for column in event.columns], strict=False)
                    if changed := {old: new for old, new in pairs if old != new}:
                        self.renamed[contract.name, event.signature] = changed

    def _contract(self, contract: ContractDeclaration) -> None:
        row = self.rows.contracts.get(contract.name)
        if row is None:
            contract_id = self._new_id()
            self.found.contracts.append(contract)
            self.found.changes.append(Change("add", "contract", contract.name))
        else:
            contract_id = row.id
            wanted = {"abi": contract.abi, "active": True}
            if self._update(tables.contracts, {"id": contract_id}, row, wanted):
                detail = abi_difference(row.abi, contract.abi)
                action: Any = "change" if row.active else "add"
                self.found.changes.append(Change(action, "contract", contract.name, detail))
        self.found.contract_ids[contract.name] = contract_id
        looked_again: set[int] = set()
        at, told = len(self.found.writes), len(self.found.changes)
        self._events(contract_id, contract)
        chain_ids = {deployment.chain_id for deployment in contract.deployments}
        for event in contract.events:
            label, event_id = f"{contract.name}.{event.api_name}", self.found.event_ids[contract.name, event.topic0]
            for deployment in contract.deployments:
                rows = self.rows.sources.get((event_id, deployment.chain_id), [])
                done = sources_of(label, event_id, event, deployment, rows, self.renamed)
                self.found.writes += done.writes
                self.found.splits += done.splits
                self.found.changes += done.changes
                if done.begins:
                    looked_again.add(deployment.chain_id)
            self._stop_chains(label, event_id, chain_ids)
        kept = self.rows.deployments.get(contract_id, {})
        deployed, changes = deployments_of(contract_id, contract, kept, looked_again, self.renamed)
        self.found.writes[at:at] = deployed
        self.found.changes[told:told] = changes

    def _events(self, contract_id: int, contract: ContractDeclaration) -> None:
        done = events_of(self.rows, contract, contract_id, self.covered, self._new_id)
        self.found.events += done.new
        self.found.writes += done.writes
        self.found.changes += done.changes
        self.found.indexed += done.indexed
        self.found.event_ids |= {(contract.name, topic0): event_id for topic0, event_id in done.ids.items()}

    def _stop_chains(self, label: str, event_id: int, wanted: set[int]) -> None:
        """An event's sources on chains where its contract no longer lives stop; their rows and coverage stay."""
        for chain_id in sorted(self.rows.chains):
            rows = self.rows.sources.get((event_id, chain_id), []) if chain_id not in wanted else []
            stopped = [row for row in rows if row.active]
            self.found.writes += [Write(tables.sources, {"active": False}, {"id": row.id}) for row in stopped]
            if stopped:
                detail = f"on chain {chain_id}, its data stays"
                self.found.changes.append(Change("remove", "source", label, detail))

    # -- snapshots, and what goes with others ------------------------------------------------------------------------

    def _series(self, series: SeriesDeclaration) -> None:
        row = self.rows.series.get(series.name)
        contract = self.rows.contracts.get(series.contract)
        if row is None:
            declared = next(one for one in self.declaration.contracts if one.name == series.contract)
            taken = self.rows.names.get(declared.schema_name, ())
            refuse_taken(f"snapshot {series.name}", declared.schema_name, series.table_name, taken)
            self.found.series.append(NewSeries(series, declared.schema_name, series.table_name))
            self.found.changes.append(Change("add", "snapshot", series.name, f"every {series.every}"))
            return
        columns = [column.to_json() for column in series.columns]
        is_other = row.definition is not None and row.definition != dict(series.definition)
        has_moved = contract is None or row.contract_id != contract.id
        if row.calls != list(series.calls) or has_moved or is_other or row.columns != columns:
            raise DatabaseError(
                f"snapshot {series.name}: its calls, their arguments, its query or its contract have changed; its "
                "table holds the old ones",
                hint="give the new series a name of its own; or take it out of the manifest, run: gapless apply, then: "
                f"gapless drop {series.name}, and put it back",
            )
        wanted = {"every": series.every, "active": True, "definition": dict(series.definition)}
        told = row.every != series.every or not row.active
        self._update(tables.series, {"id": row.id}, row, wanted)
        if told:
            action: Any = "change" if row.active else "add"
            self.found.changes.append(Change(action, "snapshot", series.name, f"every {series.every}"))

    def _deactivate_missing(self, table: sa.Table, kind: Any, rows: Mapping[str, Row], names: set[str]) -> None:
        for name, row in rows.items():
            if row.active and name not in names:
                self.found.writes.append(Write(table, {"active": False}, {"id": row.id}))
                self.found.changes.append(Change("remove", kind, name, "its data stays"))

    def _retire(self) -> None:
        """Sources of contracts, events and chains that are no longer wanted stop; their rows and coverage stay."""
        wanted = {
            (self.found.event_ids[contract.name, event.topic0], deployment.chain_id)
            for contract in self.declaration.contracts
            for event in contract.events
            for deployment in contract.deployments
        }
        judged = {event_id for event_id, _ in wanted}
        for (event_id, chain_id), rows in self.rows.sources.items():
            # Those of events that are wanted, on other chains, were stopped and told before.
            if event_id not in judged and (event_id, chain_id) not in wanted:
                self.found.writes += [
                    Write(tables.sources, {"active": False}, {"id": row.id}) for row in rows if row.active
                ]

    def _ledgers(self) -> list[ledgers.LedgerDeclaration]:
        wanted = []
        for contract in self.declaration.contracts:
            chains = [d for d in contract.deployments if (contract.name, d.chain_id) in self.declaration.balances]
            if not chains:
                continue
            contract_id = self.found.contract_ids[contract.name]
            told = [
                (self.found.event_ids[contract.name, event.topic0], standard, event)
                for event in contract.events
                if (standard := _standard(contract, event)) is not None
            ]
            if not told:
                continue
            doubt = token_standards.doubt([(event.signature, event.columns) for _, _, event in told], contract.abi)
            ids = tuple(sorted(event_id for event_id, _, _ in told))
            standard = min(told, key=lambda one: one[0])[1]
            wanted += [
                ledgers.LedgerDeclaration(
                    contract.name,
                    contract_id,
                    d.chain_id,
                    standard,
                    ids,
                    d.place,
                    d.start_block,
                    doubt,
                    (contract.name, d.chain_id) in self.declaration.daily_balances,
                )
                for d in chains
            ]
        return wanted


def _standard(contract: ContractDeclaration, event: EventDeclaration) -> token_standards.Standard | None:
    return token_standards.standard_of(event.signature, event.columns, contract.abi, anonymous=event.anonymous)
