"""What is indexed, as the API sees it: an immutable snapshot, and how the names in a path find their things in it."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from api.bounded_cache import BoundedCache
from api.database import Database
from api.errors import ApiError
from api.values import BadValueError, parse_address
from indexer.abi.columns import Column
from indexer.abi.token_standards import Standard

T = TypeVar("T")

#: Bytes of what is made for the shapes of requests: clients can ask in any number of them.
MOST_SHAPED_BYTES: Final = 32 * 2**20


def _shaped() -> BoundedCache[Hashable, tuple[Any]]:
    return BoundedCache(MOST_SHAPED_BYTES)


@dataclass(frozen=True, slots=True)
class Chain:
    """One network.

    Attributes:
        block_seconds: mean time between its newest blocks, or None where too few are known.
    """

    chain_id: int
    name: str
    active: bool
    block_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a contract lives on one chain."""

    chain_id: int
    kind: str
    addresses: tuple[bytes, ...]
    factories: tuple[Mapping[str, Any], ...]
    start_block: int
    end_block: int | None
    active: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One event and its table.

    Attributes:
        ordered_by: columns that have an index in the order of (chain, column, block, log).
        addresses: by chain, all addresses that rows can have; a chain where they are not listed is left out.
        standard: the token standard whose transfers it tells of, if it does.
    """

    event_id: int
    contract: str
    schema_name: str
    table_name: str
    name: str
    api_name: str
    signature: str
    topic0: bytes
    anonymous: bool
    columns: tuple[Column, ...]
    active: bool
    ordered_by: frozenset[str]
    addresses: Mapping[int, frozenset[bytes]]
    standard: Standard | None

    def may_share_logs(self, other: "Event", chain_id: int) -> bool:
        """Whether a log of a chain may be in the tables of both."""
        if self.signature != other.signature and not (self.anonymous or other.anonymous):
            return False
        one, two = self.addresses.get(chain_id), other.addresses.get(chain_id)
        return one is None or two is None or not one.isdisjoint(two)


@dataclass(frozen=True, slots=True)
class Series:
    """One snapshot series and its table."""

    series_id: int
    name: str
    contract: str
    schema_name: str
    table_name: str
    calls: tuple[str, ...]
    every: str
    columns: tuple[Column, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class DerivedColumn:
    """A column of a derived table."""

    name: str
    pg_type: str
    comment: str


@dataclass(frozen=True, slots=True)
class Derived:
    """A derived table as it is served: one build of it.

    Attributes:
        generation: the build; of a program's table, that of the program on the chain where it began last.
        key: columns that no two rows share.
        indexes: lists of columns that have an index.
        remark: why it is stale.
        stored: whether it is kept, and not computed when it is read.
        uses: the derived tables that it reads, of a view.
    """

    name: str
    kind: str
    generation: int
    columns: tuple[DerivedColumn, ...]
    key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...]
    active: bool
    remark: str | None
    comment: str
    stored: bool
    uses: tuple[str, ...]

    @property
    def order_key(self) -> tuple[str, ...]:
        """The key without the chain, which every request names."""
        return tuple(name for name in self.key if name != "chain_id")


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract, where it lives, its events by API name and its series by name."""

    contract_id: int
    name: str
    active: bool
    deployments: Mapping[int, Deployment]
    events: Mapping[str, Event]
    series: Mapping[str, Series]


@dataclass(frozen=True, slots=True)
class ContractPath:
    """What ``{c}`` of a path means: a contract, and the one address of it that was named, if one was."""

    contract: Contract
    address: bytes | None = None


@dataclass(frozen=True)
class Catalog:
    """A snapshot of all that is indexed."""

    version: str
    chains: Mapping[int, Chain]
    contracts: Mapping[str, Contract]
    derived: Mapping[str, Derived] = field(default_factory=dict)
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    _shaped: BoundedCache[Hashable, tuple[Any]] = field(default_factory=_shaped, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Make something of this version of the catalog once.

        Args:
            key: names things of the catalog alone, such as an event: never what a client wrote.
            make: makes it.
        """
        try:
            made: T = self._made[key]
        except KeyError:
            # Two threads may both make it: the results are equal, and a lock would cost every other call.
            made = self._made[key] = make()
        return made

    def for_shape(self, key: Hashable, make: Callable[[], T]) -> T:
        """Make something that depends on this version of the catalog and the shape of a request, once while it is used.

        Args:
            key: has all that decides about it.
            make: makes it.
        """
        made: T = self._shaped.once(key, lambda: (make(),))[0]
        return made

    def chain(self, name: str | None, among: Mapping[int, object] | None = None) -> Chain:
        """The chain that a request means.

        Args:
            name: the parameter ``chain``, a name or an id; None if it was not given.
            among: chains that are possible here; left out, all.

        Raises:
            ApiError: CHAIN_NOT_FOUND, or CHAIN_REQUIRED if there is more than one that it could be.
        """
        possible = [c for c in self.chains.values() if among is None or c.chain_id in among]
        if name is not None:
            for chain in possible:
                if name in (chain.name, str(chain.chain_id)):
                    return chain
            names = ", ".join(c.name for c in possible) or "none"
            raise ApiError("CHAIN_NOT_FOUND", f"no chain {name!r} here; there is {names}")
        # A chain that left the manifest is never what a request without a name means, unless it is all there is.
        active = [c for c in possible if c.active] or possible
        if len(active) == 1:
            return active[0]
        if not active:
            raise ApiError("CHAIN_NOT_FOUND", "no chain is indexed yet")
        raise ApiError(
            "CHAIN_REQUIRED", f"several chains are indexed here: add chain={' or '.join(c.name for c in active)}"
        )

    def event(self, contract: Contract, name: str) -> Event:
        """An event by its API name, or by its bare name where that means one event only.

        Raises:
            ApiError: EVENT_NOT_FOUND or AMBIGUOUS_EVENT.
        """
        if event := contract.events.get(name):
            return event
        overloads = [event.api_name for event in contract.events.values() if event.name == name]
        if len(overloads) == 1:
            return contract.events[overloads[0]]
        if overloads:
            raise ApiError(
                "AMBIGUOUS_EVENT", f"{contract.name} has several events {name}: use {' or '.join(overloads)}"
            )
        raise ApiError(
            "EVENT_NOT_FOUND", f"{contract.name} has no indexed event {name!r}" + _hint(name, contract.events)
        )

    def contract(self, name: str, database: Database, chain_name: str | None = None) -> ContractPath:
        """A contract by its name in the manifest, or by an address of it.

        An address among a factory's children is looked up in the database. Contracts of any address are found by name
        only.

        Args:
            name: of the contract, or its address.
            database: has the children.
            chain_name: the parameter ``chain``, which tells contracts apart that share an address on other chains.

        Raises:
            ApiError: CONTRACT_NOT_FOUND, AMBIGUOUS_CONTRACT, CHAIN_NOT_FOUND or INVALID_ADDRESS.
        """
        if contract := self.contracts.get(name):
            if chain_name is not None:
                self.chain(chain_name, contract.deployments)
            return ContractPath(contract)
        if not name.startswith(("0x", "0X")):
            raise ApiError("CONTRACT_NOT_FOUND", f"no contract {name!r} is indexed" + _hint(name, self.contracts))
        try:
            address = parse_address(name)
        except BadValueError as error:
            raise ApiError("INVALID_ADDRESS", f"{name} {error}") from None
        chains = list(self.chains) if chain_name is None else [self.chain(chain_name).chain_id]
        found = {
            (contract.name, chain_id)
            for contract in self.contracts.values()
            for chain_id, deployment in contract.deployments.items()
            if chain_id in chains and address in deployment.addresses
        }
        found |= {
            (row[0].decode(), int(row[1] or 0))
            for row in database.query(
                "SELECT c.name, b.chain_id FROM gapless.children b JOIN gapless.contracts c ON c.id = b.contract_id "
                "WHERE b.address = $1 AND b.chain_id = ANY ($2::bigint[])",
                [address, list(map(str, chains))],
            )
            if row[0]
        }
        names = sorted({contract for contract, _ in found})
        if len(names) > 1:
            on_chains = {chain_id for _, chain_id in found}
            apart = len(found) == len(on_chains) > 1
            hint = f", or add chain={' or '.join(self.chains[c].name for c in sorted(on_chains))}" if apart else ""
            use = f"use {' or '.join(names)}{hint}"
            raise ApiError("AMBIGUOUS_CONTRACT", f"several contracts are indexed at 0x{address.hex()}: {use}")
        if not names or names[0] not in self.contracts:
            raise ApiError("CONTRACT_NOT_FOUND", f"no contract is indexed at 0x{address.hex()}")
        return ContractPath(self.contracts[names[0]], address)


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
