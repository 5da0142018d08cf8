"""The static tables: schema ``gapless``, kept by Alembic (``migrations/``).

Event tables and snapshot series are not here: they are made from ABIs (:mod:`indexer.store.schema.layout`), one
Postgres schema a contract, and described in the ``events`` and ``series`` tables below, which are *the catalog*.

Every ``*_id`` of a chain is the EIP-155 chain id. Addresses are 20 bytes, hashes 32. Numbers of blocks are ``bigint``.
Multiranges of blocks are ``int8multirange``: Postgres keeps them normalised, half open (``[first, last + 1)``).

* ``chain``: the metadata; chains and blocks. ``catalog``: what is indexed. ``tokens``: tokens, ledgers, holdings.
* ``derived``: derived tables. ``programs``: programs, and what disturbs them.
* ``service``: what audits keep, and what comes in through the API.
"""

from indexer.store.schema.tables.catalog import (
    catalog,
    children,
    contracts,
    deployment_blocks,
    deployments,
    events,
    series,
    series_points,
    sources,
    unfinalized_rows,
)
from indexer.store.schema.tables.chain import (
    SCHEMA,
    block_details,
    blocks,
    call_permits,
    chains,
    credit_days,
    endpoints,
    history_sources,
    leases,
    metadata,
    missing_details,
    orphans,
    reorgs,
    samples,
    transactions,
)
from indexer.store.schema.tables.derived import derived, derived_progress
from indexer.store.schema.tables.programs import program_disturbances, program_standstills, programs
from indexer.store.schema.tables.service import (
    api_keys,
    cache_secret,
    digests,
    failed_ranges,
    findings,
    foreign_shapes,
    jobs,
    token_secrets,
    undecoded_logs,
    webhook_deliveries,
    webhooks,
)
from indexer.store.schema.tables.tokens import (
    balance_problems,
    earlier_transfers,
    holdings,
    holdings_daily,
    ledgers,
    own_labels,
    tokens,
)

__all__ = [
    "SCHEMA",
    "api_keys",
    "balance_problems",
    "block_details",
    "blocks",
    "cache_secret",
    "call_permits",
    "catalog",
    "chains",
    "children",
    "contracts",
    "credit_days",
    "deployment_blocks",
    "deployments",
    "derived",
    "derived_progress",
    "digests",
    "earlier_transfers",
    "endpoints",
    "events",
    "failed_ranges",
    "findings",
    "foreign_shapes",
    "history_sources",
    "holdings",
    "holdings_daily",
    "jobs",
    "leases",
    "ledgers",
    "metadata",
    "missing_details",
    "orphans",
    "own_labels",
    "program_disturbances",
    "program_standstills",
    "programs",
    "reorgs",
    "samples",
    "series",
    "series_points",
    "sources",
    "token_secrets",
    "tokens",
    "transactions",
    "undecoded_logs",
    "unfinalized_rows",
    "webhook_deliveries",
    "webhooks",
]
