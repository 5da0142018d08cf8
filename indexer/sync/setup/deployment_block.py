"""``start_block = "auto"``: in which block a contract was deployed, by bisecting ``eth_getCode``.

An archive node is asked once for each address, in some 25 questions; what it said is kept in the catalog for good. Only
finalized blocks are kept: a deployment above them is asked for again.

A node without old states may answer that there was no code, rather than that it does not know. So logs of the address
are looked for below the block that was found: the contract is as old as its first log, and if the nodes refuse to look
that far, the catalog keeps how far they looked (``checked_from``).
"""

import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Engine

from indexer.chain.logs.earliest_log import EarliestLog
from indexer.chain.records.errors import FatalError, NoEndpointError, ProviderError
from indexer.chain.records.messages import Header
from indexer.errors import GaplessError
from indexer.manifest.model import Chain, Contract, Deployment, Manifest
from indexer.store.schema import tables

log = logging.getLogger(__name__)


class CodeReader(Protocol):
    """What is asked of a chain (``chain.client.ChainClient``)."""

    def head(self) -> Header:
        """The newest block."""

    def tagged(self, tag: str) -> Header | None:
        """The block that a tag names."""

    def code(self, address: bytes, block: int | str = "latest") -> bytes:
        """The code at an address."""

    def earliest_log(self, address: bytes, last: int) -> EarliestLog:
        """The first log of an address at or before a block."""


class DeploymentUnknownError(GaplessError):
    """It could not be found out where a contract was deployed; a person must say."""


def start_blocks(
    engine: Engine | None,
    manifest: Manifest,
    connect: Callable[[Chain], AbstractContextManager[CodeReader]],
    unreachable: dict[str, ProviderError] | None = None,
) -> dict[tuple[str, str], int]:
    """By (contract, chain): the first wanted block of all that say ``"auto"``.

    Args:
        engine: the database; what is found is kept there, in transactions of its own. None: there is none yet.
        manifest: checked.
        connect: opens a client for a chain; called only where something is to be found out.
        unreachable: takes the chains of which no node could be asked, and why; what was to be found out there is
            missing in the answer. None: that is an error.

    Raises:
        DeploymentUnknownError: there is no code at an address, no node knows the old states, or none answers.
    """
    found: dict[tuple[str, str], int] = {}
    for chain in manifest.chains.values():
        wanted = {
            contract.name: deployment
            for contract in manifest.contracts.values()
            if (deployment := contract.deployment(chain.name)) is not None and deployment.start_block == "auto"
        }
        addresses = {address: name for name, one in wanted.items() for address in one.addresses}
        kept = load(engine, chain.chain_id) if engine else {}
        known = {address: number for address, (number, _) in kept.items()}
        doubtful = {a: n for a, n in addresses.items() if a in kept and kept[a][1] is None}
        if engine and doubtful:
            known |= _compared(engine, chain, known, doubtful, connect)
        if missing := {address: name for address, name in addresses.items() if address not in known}:
            try:
                with connect(chain) as node:
                    known |= _find_all(engine, node, chain, missing)
            except ProviderError as error:
                if unreachable is None:
                    raise DeploymentUnknownError(
                        f'{", ".join(sorted(set(missing.values())))} on {chain.name}: start_block = "auto" is asked '
                        f"of a node, and none answers: {error}",
                        hint=error.hint or "check the chain's rpc URLs, or write the number of the first wanted block",
                    ) from error
                unreachable[chain.name] = error
        for name, deployment in wanted.items():
            # A factory's children may begin where another factory's do.
            with contextlib.suppress(KeyError):
                found[name, chain.name] = _first(manifest.contracts[name], deployment, known, manifest, found)
    return found


def _first(
    contract: Contract,
    deployment: Deployment,
    known: dict[bytes, int],
    manifest: Manifest,
    found: dict[tuple[str, str], int],
) -> int:
    """The earliest of its addresses; of a factory's children, the earliest of its factories."""
    if deployment.addresses:
        return min(known[address] for address in deployment.addresses)
    starts: list[int] = []
    for factory in deployment.factories:
        other = manifest.contracts[factory.contract]
        its = other.deployment(deployment.chain)
        if its is None:
            continue
        is_auto = its.start_block == "auto"
        starts.append(_first(other, its, known, manifest, found) if is_auto else int(its.start_block))
    if not starts:
        raise DeploymentUnknownError(
            f'{contract.name} on {deployment.chain}: start_block = "auto" needs an address or a factory',
            hint="write the number of the first wanted block",
        )
    return min(starts)


def load(engine: Engine, chain_id: int) -> dict[bytes, tuple[int, int | None]]:
    """By address: the block of the deployment, and from which block on logs before it were looked for.

    None: they were not looked for; 0: it is sure.
    """
    blocks = tables.deployment_blocks
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(blocks.c.address, blocks.c.block_number, blocks.c.checked_from).where(
                blocks.c.chain_id == chain_id
            )
        )
        return {bytes(address): (number, since) for address, number, since in rows}


def _find_all(engine: Engine | None, node: CodeReader, chain: Chain, missing: dict[bytes, str]) -> dict[bytes, int]:
    newest = node.head().number
    tag = node.tagged("finalized") if chain.finality.kind == "tag" else None
    finalized = tag.number if tag is not None else max(0, newest - max(chain.finality.amount, 1000))
    found: dict[bytes, int] = {}
    for address, name in missing.items():
        where = f"{name} on {chain.name}"
        by_code = first_with_code(node, address, finalized, where)
        number, since = as_old_as_its_logs(node, address, by_code, where)
        found[address] = number
        log.info("%s: 0x%s was deployed in block %d", where, address.hex(), number)
        if engine and number <= finalized:
            _keep(engine, chain.chain_id, address, number, since)
    return found


def _keep(engine: Engine, chain_id: int, address: bytes, number: int, since: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            insert(tables.deployment_blocks)
            .values(chain_id=chain_id, address=address, block_number=number, checked_from=since)
            .on_conflict_do_update(
                index_elements=["chain_id", "address"], set_={"block_number": number, "checked_from": since}
            )
        )


def _compared(
    engine: Engine,
    chain: Chain,
    known: dict[bytes, int],
    doubtful: dict[bytes, str],
    connect: Callable[[Chain], AbstractContextManager[CodeReader]],
) -> dict[bytes, int]:
    """Compare what an earlier version found with the logs before it; where no node answers, it stays as it is."""
    found: dict[bytes, int] = {}
    try:
        with connect(chain) as node:
            for address, name in doubtful.items():
                number, since = as_old_as_its_logs(node, address, known[address], f"{name} on {chain.name}")
                _keep(engine, chain.chain_id, address, number, since)
                found[address] = number
    except (ProviderError, DeploymentUnknownError) as error:
        log.warning("%s: where contracts were deployed could not be compared with their logs: %s", chain.name, error)
    return found


def as_old_as_its_logs(node: CodeReader, address: bytes, by_code: int, where: str) -> tuple[int, int]:
    """Compare a deployment with the logs before it: a contract that spoke was there.

    Args:
        node: the chain.
        address: 20 bytes.
        by_code: the first block with code, as nodes said.
        where: contract and chain, for messages.

    Returns:
        The first block that matters, and the first from which on logs were looked for (0: all were).

    Raises:
        DeploymentUnknownError: there are logs where there was no code, and older ones cannot be looked for.
        ProviderError: no node answers.
    """
    if by_code == 0:
        return 0, 0
    earliest = node.earliest_log(address, by_code - 1)
    if earliest.block is None:
        if earliest.since > 0:
            log.warning(
                "%s: 0x%s has code since block %d, as the nodes say, and they do not tell whether it spoke before "
                "block %d; if it is older, write its start_block as a number",
                *(where, address.hex(), by_code, earliest.since),
            )
        return by_code, earliest.since
    if earliest.since == 0:
        log.warning(
            "%s: a node says that 0x%s has no code before block %d, and it spoke in block %d: it does not know old "
            "states, and begins where it first spoke",
            *(where, address.hex(), by_code, earliest.block),
        )
        return earliest.block, 0
    raise DeploymentUnknownError(
        f'{where}: start_block = "auto" cannot be found out: a node says that 0x{address.hex()} has no code before '
        f"block {by_code:,}, and it spoke in block {earliest.block:,}",
        hint="add an archive endpoint to the chain, or write the block of the deployment as a number "
        "(a block explorer shows it)",
    )


def first_with_code(node: CodeReader, address: bytes, finalized: int, where: str) -> int:
    """The first block at whose end there is code at an address.

    Args:
        node: must know the state of old blocks.
        address: 20 bytes. Code that was there, went away (``SELFDESTRUCT``) and came back is found in one of its lives.
        finalized: the newest block that can no longer be reorganised.
        where: contract and chain, for messages.

    Returns:
        The block; one above ``finalized`` (the very next) where it was deployed after that.

    Raises:
        DeploymentUnknownError: there is no code, or no node has the old states.
        ProviderError: no node answers.
    """
    if not node.code(address, "latest"):
        raise DeploymentUnknownError(
            f"{where}: there is no code at 0x{address.hex()}",
            hint="is this the right address, and the right chain? A contract that was destroyed needs its start_block "
            "as a number",
        )
    low, high = 0, finalized + 1  # at high there is code, or it is not asked; below low there is none
    while low < high:
        middle = (low + high) // 2
        try:
            has_code = bool(node.code(address, middle))
        except (FatalError, NoEndpointError) as error:
            raise DeploymentUnknownError(
                f'{where}: start_block = "auto" needs an archive node, and none of the endpoints knows the state of '
                f"block {middle:,}: {error}",
                hint="add an archive endpoint to the chain, or write the block of the deployment as a number "
                "(a block explorer shows it)",
            ) from error
        low, high = (low, middle) if has_code else (middle + 1, high)
    return low
