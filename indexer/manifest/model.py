"""The manifest as the program uses it: checked, complete, frozen.

Every reference is resolved here: a contract has its parsed ABI, an event is an :class:`~indexer.abi.model.Event` and no
name, an address is 20 bytes, an environment variable is its value. Only ``start_block = "auto"`` is found out later
(:func:`settled`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from indexer.abi.model import Abi, Event, Function
from indexer.redact import SecretText, SecretUrl

StartBlock = int | Literal["auto"]
"""The first wanted block; "auto": where the contract was deployed, found by the indexer (for a factory's children:
where the factory was deployed)."""

Include = Literal["block", "transaction", "receipt"]


@dataclass(frozen=True)
class CreditPrice:
    """What a million of a provider's credits cost: an amount, and the currency's name as the user writes it."""

    amount: Decimal
    currency: str


@dataclass(frozen=True)
class RpcEndpoint:
    """One JSON-RPC endpoint of a chain.

    Attributes:
        url: the URL with its key; its text and representation are redacted.
        priority: endpoints of the lowest number are used first.
        requests_per_second: a ceiling never to be exceeded, or None.
        archive: whether it serves state and logs of any age; None: found out.
        headers: HTTP headers to send besides, by name; their values are redacted.
        credits_per_day: what may be spent there in a day (UTC), in the provider's credits; None: as much as is wanted.
        credits: the credits of a call by method, with ``default`` for all others; empty: the provider's list, as far
            as it is known.
        price: what a million credits cost, or None.
    """

    url: SecretUrl
    priority: int = 0
    requests_per_second: float | None = None
    archive: bool | None = None
    headers: tuple[tuple[str, SecretText], ...] = ()
    credits_per_day: int | None = None
    credits: tuple[tuple[str, int], ...] = ()
    price: CreditPrice | None = None

    @property
    def pushes(self) -> bool:
        """Whether it pushes new heads over a WebSocket, and is asked nothing else."""
        return self.url.reveal().lower().startswith(("ws:", "wss:"))


@dataclass(frozen=True)
class HistoryEndpoint:
    """Where finalized history is read from besides nodes: the data set of an SQD portal.

    Attributes:
        url: of the data set, with its key where it has one; its text and representation are redacted.
        verify: how many blocks of what it gives are compared with the chain's own nodes.
        requests_per_second: a ceiling never to be exceeded, or None.
        headers: HTTP headers to send besides, by name; their values are redacted.
    """

    url: SecretUrl
    verify: Literal["all", "sample", "none"] = "sample"
    requests_per_second: float | None = None
    headers: tuple[tuple[str, SecretText], ...] = ()


@dataclass(frozen=True)
class Finality:
    """When a block of a chain can no longer be reorganised.

    Attributes:
        kind: ``tag``: the node's block tag ``finalized``; ``blocks``: so many below the head; ``seconds``: so much
            older than the head.
        amount: blocks or seconds; 0 for a tag.
        at_least: with a tag, blocks below the head that are never final; None: found out (``sync.head.finality``).
    """

    kind: Literal["tag", "blocks", "seconds"] = "tag"
    amount: int = 0
    at_least: int | None = None


@dataclass(frozen=True)
class Chain:
    """One EVM network.

    Attributes:
        poll_interval: seconds between two looks at the head, or None: as the chain's own pace asks.
        log_index: whether ``logIndex`` counts through the whole block, or anew in each transaction.
        check_history: how much of history is compared with the blooms of headers.
        null_blocks: whether it is known to leave block numbers out; else that is found out.
        dev: whether it is one for development, which makes blocks for transactions only: it may stand still.
        history: what finalized history is read from before the nodes, the first first.
    """

    name: str
    chain_id: int
    endpoints: tuple[RpcEndpoint, ...]
    poll_interval: float | None = None
    finality: Finality = Finality()
    bloom_checks: bool = True
    check_history: Literal["bloom", "sample", "none"] = "sample"
    log_index: Literal["per_block", "per_transaction"] = "per_block"
    null_blocks: bool = False
    dev: bool = False
    history: tuple[HistoryEndpoint, ...] = ()


@dataclass(frozen=True)
class Factory:
    """A rule that finds a contract's addresses: an argument of an event of another contract.

    Attributes:
        contract: the other contract's name.
        event: its event.
        argument: the address argument as written in the manifest: ``pair``, or ``key.currency0`` in a tuple.
        path: the same as positions: of the argument in the event, then of each component in its tuple.
    """

    contract: str
    event: Event
    argument: str
    path: tuple[int, ...]


@dataclass(frozen=True)
class TopicFilter:
    """One alternative of an event's filter; a log passes if it fits all arguments named.

    Attributes:
        arguments: argument name -> the values allowed, ready for JSON (hex lower-case, big integers as written).
        topics: for each indexed argument of the event in order, the 32-byte topics allowed, or None: any.
    """

    arguments: Mapping[str, tuple[str | int | bool, ...]]
    topics: tuple[tuple[bytes, ...] | None, ...]


@dataclass(frozen=True)
class Deployment:
    """Where a contract lives on one chain.

    Attributes:
        chain: the chain's name in the manifest.
        kind: ``addresses``, ``factory`` or ``any``.
        addresses: 20 bytes each, in order, for ``addresses``; else empty.
        factories: the rules, for ``factory``; else empty.
        start_block: the first wanted block.
        end_block: the last wanted block (inclusive), or None: for ever.
        filters: event's api name -> alternatives; an event that is not named is unfiltered.
    """

    chain: str
    chain_id: int
    kind: Literal["addresses", "factory", "any"]
    addresses: tuple[bytes, ...]
    factories: tuple[Factory, ...]
    start_block: StartBlock
    end_block: int | None
    filters: Mapping[str, tuple[TopicFilter, ...]]


@dataclass(frozen=True)
class Contract:
    """A name, an ABI, and where it lives.

    Attributes:
        schema_name: the Postgres schema of its tables.
        abi_path: the file that the ABI came from.
        events: the selected events, in the order of the ABI.
        deployments: one a chain, in the order of the manifest's chains.
        indexes: event's api name -> arguments (ABI names) that get an index besides the indexed ones.
        include: what to keep besides the logs.
        tx_hash_index: whether its rows are found by their transaction.
        token_arguments: event's api name -> arguments (ABI names) whose addresses are tokens.
    """

    name: str
    schema_name: str
    abi_path: Path
    abi: Abi
    events: tuple[Event, ...]
    deployments: tuple[Deployment, ...]
    indexes: Mapping[str, tuple[str, ...]]
    include: frozenset[Include]
    tx_hash_index: bool = True
    token_arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def deployment(self, chain: str) -> Deployment | None:
        """Return where it lives on a chain (by name), or None."""
        return next((deployment for deployment in self.deployments if deployment.chain == chain), None)


@dataclass(frozen=True)
class Schedule:
    """When a snapshot is taken.

    Attributes:
        kind: ``blocks``: at every block number divisible by ``amount``; ``seconds``: by the clock; ``cron``: UTC.
        amount: blocks or seconds; 0 for cron.
        cron: the five fields, for cron.
        text: as written in the manifest.
    """

    kind: Literal["blocks", "seconds", "cron"]
    amount: int
    cron: str | None
    text: str


@dataclass(frozen=True)
class SnapshotCall:
    """One view function that a snapshot reads.

    Attributes:
        function: the function of the contract's ABI.
        args: one value for each input, ready for eth-abi (addresses and bytes as ``bytes``, integers as ``int``); a
            string ``"$name"`` is a column of the snapshot's query.
        name: what its output columns are called after, or None: the function's name.
    """

    function: Function
    args: tuple[object, ...] = ()
    name: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """A series of reads taken on a schedule, each at one block.

    Attributes:
        name: also the name of its table, in the contract's schema.
        contract: the contract's name.
        chains: the chains' names.
        start_block: take the past from this block on as well (needs an archive node), or None: from now on.
        for_each: a SELECT; the calls are made once for each of its rows, with its columns as arguments.
    """

    name: str
    contract: str
    chains: tuple[str, ...]
    calls: tuple[SnapshotCall, ...]
    every: Schedule
    start_block: int | None = None
    for_each: str | None = None


@dataclass(frozen=True)
class DerivedTable:
    """A table that follows from events by a rule in SQL.

    Attributes:
        name: also the name of its view in the schema ``derived``.
        kind: what its rows are: one for each row of its input, one for each key, or those of a SELECT.
        definition: the rule, with everything that it refers to, as plain JSON.
        contracts: the contracts whose events it reads.
        comment: for people, of the whole; ``comments``: of its columns.
    """

    name: str
    kind: Literal["rows", "aggregate", "view"]
    definition: Mapping[str, Any]
    contracts: frozenset[str] = frozenset()
    comment: str = ""
    comments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ManifestProgram:
    """Python code that keeps tables of its own by handling events.

    Attributes:
        path: its file.
        events: those that it handles, as ``contract.Event``.
        tables: the names of its tables, in the schema ``derived``.
        chains: the names of the chains whose events it handles.
        working_set: rows in memory at most, about.
        code_hash: of its code as it was read.
    """

    name: str
    path: Path
    events: tuple[str, ...]
    tables: tuple[str, ...]
    chains: tuple[str, ...]
    working_set: int
    code_hash: str


@dataclass(frozen=True)
class Manifest:
    """All that is to be indexed.

    Attributes:
        path: the file it came from.
        chains: by name, in the order of the file; so are contracts, snapshots and programs.
        tokens: (contract name, chain name) whose addresses are read as tokens.
        balances: (contract name, chain name) whose balances are kept.
        daily_balances: those among them whose balances at the ends of days are kept.
        token_arguments: (contract name, chain name) of whose events arguments are read as tokens.
        derived: what follows from events, by name.
    """

    path: Path
    chains: Mapping[str, Chain]
    contracts: Mapping[str, Contract]
    snapshots: Mapping[str, Snapshot]
    tokens: frozenset[tuple[str, str]]
    balances: frozenset[tuple[str, str]]
    daily_balances: frozenset[tuple[str, str]] = frozenset()
    token_arguments: frozenset[tuple[str, str]] = frozenset()
    derived: Mapping[str, DerivedTable] = field(default_factory=dict)
    programs: Mapping[str, ManifestProgram] = field(default_factory=dict)

    def contracts_on(self, chain: str) -> tuple[Contract, ...]:
        """Return the contracts that live on a chain (by name)."""
        return tuple(contract for contract in self.contracts.values() if contract.deployment(chain))

    def token_arguments_on(self, chain: str) -> frozenset[tuple[str, str, str]]:
        """Return the arguments that name tokens on a chain (by name): contract, event's signature, argument."""
        return frozenset(
            (name, event.signature, argument)
            for name, one in sorted(self.token_arguments)
            if one == chain
            for event in self.contracts[name].events
            for argument in self.contracts[name].token_arguments.get(self.contracts[name].abi.api_name(event), ())
        )


def settled(manifest: Manifest, start_blocks: Mapping[tuple[str, str], int]) -> Manifest:
    """The manifest with numbers for ``"auto"``; a deployment whose number is missing is left out, with what needs it.

    Args:
        manifest: checked.
        start_blocks: by (contract, chain).
    """
    out = {
        (contract.name, one.chain)
        for contract in manifest.contracts.values()
        for one in contract.deployments
        if one.start_block == "auto" and (contract.name, one.chain) not in start_blocks
    }
    while more := _children_of(manifest, out):
        out |= more

    def placed(contract: Contract, one: Deployment) -> Deployment:
        return replace(one, start_block=start_blocks[contract.name, one.chain]) if one.start_block == "auto" else one

    contracts = {
        name: replace(contract, deployments=kept)
        for name, contract in manifest.contracts.items()
        if (kept := tuple(placed(contract, one) for one in contract.deployments if (name, one.chain) not in out))
        or not contract.deployments
    }
    snapshots = {
        name: replace(snapshot, chains=chains)
        for name, snapshot in manifest.snapshots.items()
        if (chains := tuple(chain for chain in snapshot.chains if (snapshot.contract, chain) not in out))
    }
    return replace(
        manifest,
        contracts=contracts,
        snapshots=snapshots,
        tokens=manifest.tokens - out,
        balances=manifest.balances - out,
        daily_balances=manifest.daily_balances - out,
        token_arguments=manifest.token_arguments - out,
        derived={name: one for name, one in manifest.derived.items() if one.contracts <= contracts.keys()},
    )


def _children_of(manifest: Manifest, out: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Contracts whose factories are out, and that are not out themselves."""
    return {
        (contract.name, one.chain)
        for contract in manifest.contracts.values()
        for one in contract.deployments
        if any((factory.contract, one.chain) in out for factory in one.factories)
    } - out
