"""What is indexed, as the API sees it: an immutable snapshot of the catalog, renewed when the database's changes.

A cheap query (:data:`_VERSION`) says whether anything changed; only then is the whole read again. So a contract that
the indexer adds is served seconds later without a restart, and all that depends on the catalog (SQL texts, parameter
lists, the OpenAPI document) is made once per version: see :meth:`Catalog.once`.
"""

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from time import monotonic
from typing import Any, Final, TypeVar

import orjson

from api.database import Database
from api.errors import ApiError
from api.values import BadValueError, parse_address
from indexer.abi.columns import Column

T = TypeVar("T")

#: Things made from one version of the catalog; beyond that they are made anew (a client may ask in many shapes).
_MOST_MADE: Final = 5000

# Indexes come and go without the indexer's catalog changing: they may be built long after their table.
_VERSION: Final = """
SELECT md5(concat_ws('/',
    (SELECT version FROM gapless.catalog),
    (SELECT string_agg(i.indexrelid::text, ',' ORDER BY i.indexrelid)
     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
     JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
     JOIN gapless.contracts c ON c.schema_name = n.nspname
     WHERE i.indisvalid))),
    (SELECT json_object_agg(c.chain_id, round(extract(epoch FROM new.time - old.time) / (new.number - old.number), 3))
     FROM gapless.chains c,
     LATERAL (SELECT number, time FROM gapless.blocks b WHERE b.chain_id = c.chain_id
              ORDER BY number DESC LIMIT 1) new,
     LATERAL (SELECT number, time FROM gapless.blocks b WHERE b.chain_id = c.chain_id AND number <= new.number - 100
              ORDER BY number DESC LIMIT 1) old)
"""

_CHAINS: Final = "SELECT chain_id, name, active FROM gapless.chains ORDER BY active DESC, chain_id"

_CONTRACTS: Final = """
SELECT c.id, c.name, c.schema_name, c.active,
       coalesce(json_agg(json_build_object(
           'chain_id', d.chain_id, 'kind', d.kind, 'start_block', d.start_block, 'end_block', d.end_block,
           'active', d.active, 'factories', d.factories,
           'addresses', (SELECT coalesce(json_agg(encode(a, 'hex') ORDER BY a), '[]') FROM unnest(d.addresses) a)
       ) ORDER BY d.chain_id) FILTER (WHERE d.chain_id IS NOT NULL), '[]')
FROM gapless.contracts c LEFT JOIN gapless.deployments d ON d.contract_id = c.id
GROUP BY c.id ORDER BY c.name
"""

# A column is served by an index (chain_id, column, block_number, log_index): rows of one value come in order.
_EVENTS: Final = """
SELECT e.id, e.contract_id, e.name, e.api_name, e.signature, e.topic0, e.anonymous, e.table_name, e.columns, e.active,
       (SELECT coalesce(json_agg(DISTINCT a.attname), '[]')
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class t ON t.oid = i.indrelid AND t.relname = e.table_name
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace AND n.nspname = c.schema_name
        JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[1]
        WHERE i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts >= 4
          AND (SELECT array_agg(k.attname::text ORDER BY o.ordinality)
               FROM unnest(i.indkey) WITH ORDINALITY o(attnum, ordinality)
               JOIN pg_catalog.pg_attribute k ON k.attrelid = t.oid AND k.attnum = o.attnum
               WHERE o.ordinality IN (1, 3, 4)) = ARRAY['chain_id', 'block_number', 'log_index']),
       (SELECT coalesce(json_object_agg(p.chain_id, p.addresses), '{}')
        FROM (SELECT s.chain_id, json_agg(DISTINCT lower(a)) FILTER (WHERE a IS NOT NULL) AS addresses
              FROM gapless.sources s
              LEFT JOIN LATERAL jsonb_array_elements_text(s.place->'addresses') a ON true
              WHERE s.event_id = e.id
              GROUP BY s.chain_id HAVING bool_and(s.place->>'kind' = 'addresses')) p)
FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
ORDER BY e.contract_id, e.api_name
"""

_SERIES: Final = """
SELECT id, name, contract_id, calls, every, table_name, columns, active FROM gapless.series ORDER BY name
"""


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
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Make something that depends on nothing but the key and this version of the catalog, once."""
        try:
            made: T = self._made[key]
        except KeyError:
            # Two threads may both make it: the results are equal, and a lock would cost every other call.
            if len(self._made) >= _MOST_MADE:
                self._made.clear()
            made = self._made[key] = make()
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

    def contract(self, name: str, database: Database) -> ContractPath:
        """A contract by its name in the manifest, or by an address of it.

        An address among a factory's children is looked up in the database. Contracts of any address are found by name
        only.

        Raises:
            ApiError: CONTRACT_NOT_FOUND, AMBIGUOUS_CONTRACT, or INVALID_ADDRESS.
        """
        if contract := self.contracts.get(name):
            return ContractPath(contract)
        if not name.startswith(("0x", "0X")):
            raise ApiError("CONTRACT_NOT_FOUND", f"no contract {name!r} is indexed" + _hint(name, self.contracts))
        try:
            address = parse_address(name)
        except BadValueError as error:
            raise ApiError("INVALID_ADDRESS", f"{name} {error}") from None
        found = {
            contract.name
            for contract in self.contracts.values()
            if any(address in deployment.addresses for deployment in contract.deployments.values())
        }
        found |= {
            row[0].decode()
            for row in database.query(
                "SELECT c.name FROM gapless.children b JOIN gapless.contracts c ON c.id = b.contract_id "
                "WHERE b.address = $1 AND b.chain_id = ANY ($2::bigint[])",
                [address, list(map(str, self.chains))],
            )
            if row[0]
        }
        if len(found) > 1:
            names = " or ".join(sorted(found))
            raise ApiError("AMBIGUOUS_CONTRACT", f"several contracts are indexed at 0x{address.hex()}: use {names}")
        if not found or (only := found.pop()) not in self.contracts:
            raise ApiError("CONTRACT_NOT_FOUND", f"no contract is indexed at 0x{address.hex()}")
        return ContractPath(self.contracts[only], address)


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def load(database: Database, version: str, block_seconds: Mapping[str, float]) -> Catalog:
    """Read the whole catalog."""
    chains = {}
    for chain_id, name, active in database.query(_CHAINS):
        seconds = block_seconds.get(_text(chain_id))
        chains[int(chain_id or 0)] = Chain(int(chain_id or 0), _text(name), active == b"t", seconds)
    contracts = [tuple(row) for row in database.query(_CONTRACTS)]
    names = {int(row[0] or 0): (_text(row[1]), _text(row[2])) for row in contracts}
    events: dict[int, dict[str, Event]] = {contract_id: {} for contract_id in names}
    for row in database.query(_EVENTS):
        contract_id = int(row[1] or 0)
        # A contract added between two of these queries is read with the next version.
        if contract_id in names:
            events[contract_id][_text(row[3])] = _event(row, *names[contract_id])
    series: dict[int, dict[str, Series]] = {contract_id: {} for contract_id in names}
    for row in database.query(_SERIES):
        contract_id = int(row[2] or 0)
        if contract_id in names:
            series[contract_id][_text(row[1])] = _series(row, *names[contract_id])
    return Catalog(
        version,
        chains,
        {
            _text(row[1]): Contract(
                contract_id=int(row[0] or 0),
                name=_text(row[1]),
                active=row[3] == b"t",
                deployments={d["chain_id"]: _deployment(d) for d in orjson.loads(row[4] or b"[]")},
                events=events[int(row[0] or 0)],
                series=series[int(row[0] or 0)],
            )
            for row in contracts
        },
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


def _deployment(document: Mapping[str, Any]) -> Deployment:
    return Deployment(
        chain_id=document["chain_id"],
        kind=document["kind"],
        addresses=tuple(bytes.fromhex(address) for address in document["addresses"]),
        factories=tuple(document["factories"] or ()),
        start_block=document["start_block"],
        end_block=document["end_block"],
        active=document["active"],
    )


def _event(row: tuple[bytes | None, ...], contract: str, schema_name: str) -> Event:
    return Event(
        event_id=int(row[0] or 0),
        contract=contract,
        schema_name=schema_name,
        table_name=_text(row[7]),
        name=_text(row[2]),
        api_name=_text(row[3]),
        signature=_text(row[4]),
        topic0=bytes.fromhex(_text(row[5])[2:]),
        anonymous=row[6] == b"t",
        columns=tuple(Column.from_json(column) for column in orjson.loads(row[8] or b"[]")),
        active=row[9] == b"t",
        ordered_by=frozenset(orjson.loads(row[10] or b"[]")),
        addresses={
            int(chain_id): frozenset(bytes.fromhex(address[2:]) for address in addresses or ())
            for chain_id, addresses in orjson.loads(row[11] or b"{}").items()
        },
    )


def _series(row: tuple[bytes | None, ...], contract: str, schema_name: str) -> Series:
    return Series(
        series_id=int(row[0] or 0),
        name=_text(row[1]),
        contract=contract,
        schema_name=schema_name,
        table_name=_text(row[5]),
        calls=tuple(orjson.loads(row[3] or b"[]")),
        every=_text(row[4]),
        columns=tuple(Column.from_json(column) for column in orjson.loads(row[6] or b"[]")),
        active=row[7] == b"t",
    )


class CatalogWatch:
    """Keeps a snapshot of the catalog and renews it.

    No thread of its own: a request that comes more than ``interval`` seconds after the last check makes the next one,
    while the others go on with what there is.
    """

    def __init__(self, database: Database, *, interval: float = 2.0, clock: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._checked = float("-inf")

    def current(self) -> Catalog:
        """The catalog, at most ``interval`` seconds old.

        Raises:
            ApiError: DATABASE_UNAVAILABLE if it was never read and cannot be now.
        """
        catalog = self._catalog
        if catalog is not None and self._clock() - self._checked < self._interval:
            return catalog
        # Who finds another at it takes the old one, if there is one.
        if self._lock.acquire(blocking=catalog is None):
            try:
                if self._catalog is None or self._clock() - self._checked >= self._interval:
                    self._renew()
            except ApiError:
                if self._catalog is None:
                    raise
            finally:
                self._lock.release()
        assert self._catalog is not None
        return self._catalog

    def renewed(self) -> Catalog:
        """The catalog as it is now: for when something was not found, or a table that should be there is gone."""
        with self._lock:
            self._renew()
        assert self._catalog is not None
        return self._catalog

    def _renew(self) -> None:
        self._checked = self._clock()
        version, seconds = (_text(value) for value in self._database.query(_VERSION)[0])
        block_seconds: dict[str, float] = orjson.loads(seconds) if seconds else {}
        catalog = self._catalog
        if catalog is None or catalog.version != version:
            self._catalog = load(self._database, version, block_seconds)
        else:
            chains = {i: replace(c, block_seconds=block_seconds.get(str(i))) for i, c in catalog.chains.items()}
            self._catalog = replace(catalog, chains=chains)
