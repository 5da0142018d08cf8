"""Reading the catalog, and reading it again when it has changed.

A cheap query (:data:`_VERSION`) says whether anything changed; only then is the whole read again. So a contract that
the indexer adds is served seconds later without a restart, and all that depends on the catalog (SQL texts, parameter
lists, the OpenAPI document) is made once per version: see :meth:`api.catalog.Catalog.once`.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any, Final

import orjson

from api.catalog import Catalog, Chain, Contract, Deployment, Derived, DerivedColumn, Event, Series
from api.database import Database
from api.errors import ApiError
from indexer.abi import token_standards
from indexer.abi.columns import Column

# Another database may have come to the same numbers, above all one that was made anew: what Redis, proxies and browsers
# keep under them must not be taken for its answer. So which one it is belongs to the version.
# Indexes come and go without the indexer's catalog changing: they may be built long after their table.
_VERSION: Final = """
SELECT md5(concat_ws('/',
    (SELECT system_identifier FROM pg_catalog.pg_control_system()),
    (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()),
    to_regnamespace('gapless')::oid,
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

# Each answers with one JSON array.
_CHAINS: Final = """
SELECT coalesce(json_agg(json_build_object('chain_id', chain_id, 'name', name, 'active', active)
                         ORDER BY active DESC, chain_id), '[]')
FROM gapless.chains
"""

_CONTRACTS: Final = """
SELECT coalesce(json_agg(json_build_object(
    'contract_id', c.id, 'name', c.name, 'schema_name', c.schema_name, 'active', c.active,
    'deployments', (
        SELECT coalesce(json_agg(json_build_object(
            'chain_id', d.chain_id, 'kind', d.kind, 'start_block', d.start_block, 'end_block', d.end_block,
            'active', d.active, 'factories', d.factories,
            'addresses', (SELECT coalesce(json_agg(encode(a, 'hex') ORDER BY a), '[]') FROM unnest(d.addresses) a)
        ) ORDER BY d.chain_id), '[]') FROM gapless.deployments d WHERE d.contract_id = c.id)
    ) ORDER BY c.name), '[]')
FROM gapless.contracts c
"""

# A column is served by an index (chain_id, column, block_number, log_index): rows of one value come in order.
# The ABI tells the token standard.
_EVENTS: Final = """
SELECT coalesce(json_agg(json_build_object(
    'event_id', e.id, 'contract_id', e.contract_id, 'name', e.name, 'api_name', e.api_name, 'signature', e.signature,
    'topic0', encode(e.topic0, 'hex'), 'anonymous', e.anonymous, 'table_name', e.table_name, 'columns', e.columns,
    'active', e.active,
    'token_abi', CASE WHEN e.signature = ANY ($1::text[]) THEN c.abi END,
    'ordered_by', (
        SELECT coalesce(json_agg(DISTINCT a.attname), '[]')
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class t ON t.oid = i.indrelid AND t.relname = e.table_name
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace AND n.nspname = c.schema_name
        JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[1]
        WHERE i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts >= 4
          AND (SELECT array_agg(k.attname::text ORDER BY o.ordinality)
               FROM unnest(i.indkey) WITH ORDINALITY o(attnum, ordinality)
               JOIN pg_catalog.pg_attribute k ON k.attrelid = t.oid AND k.attnum = o.attnum
               WHERE o.ordinality IN (1, 3, 4)) = ARRAY['chain_id', 'block_number', 'log_index']),
    'addresses', (
        SELECT coalesce(json_object_agg(p.chain_id, coalesce(p.addresses, '[]')), '{}')
        FROM (SELECT s.chain_id, json_agg(DISTINCT lower(a)) FILTER (WHERE a IS NOT NULL) AS addresses
              FROM gapless.sources s
              LEFT JOIN LATERAL jsonb_array_elements_text(s.place->'addresses') a ON true
              WHERE s.event_id = e.id
              GROUP BY s.chain_id HAVING bool_and(s.place->>'kind' = 'addresses')) p)
    ) ORDER BY e.contract_id, e.api_name), '[]')
FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
"""

_SERIES: Final = """
SELECT coalesce(json_agg(json_build_object(
    'series_id', id, 'name', name, 'contract_id', contract_id, 'calls', calls, 'every', every,
    'table_name', table_name, 'columns', columns, 'active', active) ORDER BY name), '[]')
FROM gapless.series
"""


_DERIVED: Final = """
SELECT coalesce(json_agg(json_build_object(
    'name', name, 'kind', kind, 'generation', generation, 'columns', columns, 'key', key,
    'indexes', indexes, 'active', active, 'remark', remark, 'comment', coalesce(definition->>'comment', ''),
    'stored', table_name IS NOT NULL, 'uses', coalesce(definition->'uses', '[]')) ORDER BY name), '[]')
FROM gapless.derived WHERE served
"""

# The columns are those of the view, which shows the newest build of all chains.
_PROGRAMS: Final = """
SELECT coalesce(json_agg(json_build_object(
    'name', p.name, 'kind', 'program', 'generation', p.id, 'columns', c.columns, 'key', p.key, 'indexes', '[]'::json,
    'active', p.live, 'remark', CASE WHEN NOT p.live THEN p.remark END, 'comment', p.comment,
    'stored', true, 'uses', '[]'::json) ORDER BY p.name), '[]')
FROM (
    SELECT DISTINCT ON (t ->> 'name') t ->> 'name' AS name, p.id, p.live, p.remark,
           coalesce(t ->> 'comment', '') AS comment,
           (SELECT json_agg(k) FROM (
                SELECT 'chain_id' AS k
                UNION ALL
                SELECT k ->> 'name' FROM jsonb_array_elements(t -> 'columns') k WHERE (k ->> 'key')::boolean
            ) keys) AS key
    FROM gapless.programs p, jsonb_array_elements(p.tables) t WHERE p.served ORDER BY t ->> 'name', p.id DESC
) p
CROSS JOIN LATERAL (
    SELECT json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                                      'comment', coalesce(col_description(a.attrelid, a.attnum), ''))
                    ORDER BY a.attnum) AS columns
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = to_regclass(format('derived.%I', p.name)) AND a.attnum > 0 AND NOT a.attisdropped
) c
WHERE c.columns IS NOT NULL
"""


def load(database: Database, version: str, block_seconds: Mapping[str, float]) -> Catalog:
    """Read the whole catalog.

    Args:
        database: where from.
        version: what :data:`_VERSION` said.
        block_seconds: time between blocks, by chain id.
    """

    def read(query: str, *values: object) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = orjson.loads(database.query(query, values)[0][0] or b"[]")
        return documents

    contracts = {document["contract_id"]: document for document in read(_CONTRACTS)}
    events: dict[int, dict[str, Event]] = {contract_id: {} for contract_id in contracts}
    series: dict[int, dict[str, Series]] = {contract_id: {} for contract_id in contracts}
    # What belongs to a contract that was added since the contracts were read comes with the next version.
    for document in read(_EVENTS, list(token_standards.SIGNATURES)):
        if contract := contracts.get(document["contract_id"]):
            events[document["contract_id"]][document["api_name"]] = _event(document, contract)
    for document in read(_SERIES):
        if contract := contracts.get(document["contract_id"]):
            series[document["contract_id"]][document["name"]] = _series(document, contract)
    return Catalog(
        version=version,
        derived={document["name"]: _derived(document) for query in (_PROGRAMS, _DERIVED) for document in read(query)},
        chains={
            document["chain_id"]: Chain(**document, block_seconds=block_seconds.get(str(document["chain_id"])))
            for document in read(_CHAINS)
        },
        contracts={
            document["name"]: Contract(
                contract_id=contract_id,
                name=document["name"],
                active=document["active"],
                deployments={d["chain_id"]: _deployment(d) for d in document["deployments"]},
                events=events[contract_id],
                series=series[contract_id],
            )
            for contract_id, document in contracts.items()
        },
    )


def _deployment(document: Mapping[str, Any]) -> Deployment:
    addresses = tuple(bytes.fromhex(address) for address in document["addresses"])
    return Deployment(**{**document, "addresses": addresses, "factories": tuple(document["factories"] or ())})


def _event(document: Mapping[str, Any], contract: Mapping[str, Any]) -> Event:
    columns = tuple(Column.from_json(column) for column in document["columns"])
    return Event(
        event_id=document["event_id"],
        contract=contract["name"],
        schema_name=contract["schema_name"],
        table_name=document["table_name"],
        name=document["name"],
        api_name=document["api_name"],
        signature=document["signature"],
        topic0=bytes.fromhex(document["topic0"]),
        anonymous=document["anonymous"],
        columns=columns,
        active=document["active"],
        ordered_by=frozenset(document["ordered_by"]),
        addresses={
            int(chain_id): frozenset(bytes.fromhex(address[2:]) for address in addresses)
            for chain_id, addresses in document["addresses"].items()
        },
        standard=token_standards.standard_of(
            document["signature"], columns, document["token_abi"] or (), anonymous=document["anonymous"]
        ),
    )


def _series(document: Mapping[str, Any], contract: Mapping[str, Any]) -> Series:
    return Series(
        series_id=document["series_id"],
        name=document["name"],
        contract=contract["name"],
        schema_name=contract["schema_name"],
        table_name=document["table_name"],
        calls=tuple(document["calls"]),
        every=document["every"],
        columns=tuple(Column.from_json(column) for column in document["columns"]),
        active=document["active"],
    )


def _derived(document: Mapping[str, Any]) -> Derived:
    columns = tuple(DerivedColumn(one["name"], one["type"], one["comment"]) for one in document["columns"])
    lists = {
        "columns": columns,
        "key": tuple(document["key"]),
        "indexes": tuple(map(tuple, document["indexes"])),
        "uses": tuple(document["uses"]),
    }
    return Derived(**{**document, **lists})


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
        row = self._database.query(_VERSION)[0]
        version = (row[0] or b"").decode()
        block_seconds: dict[str, float] = orjson.loads(row[1] or b"{}")
        catalog = self._catalog
        if catalog is None or catalog.version != version:
            self._catalog = load(self._database, version, block_seconds)
        else:
            chains = {i: replace(c, block_seconds=block_seconds.get(str(i))) for i, c in catalog.chains.items()}
            self._catalog = replace(catalog, chains=chains)
