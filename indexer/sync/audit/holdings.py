"""Balances: do they follow from the transfers in the tables, and do the tokens say the same?

The first question needs no node: all transfers are counted anew. The second is asked of the tokens themselves
(``balanceOf``, ``ownerOf``), of a sample, at the very block at which the balances are true. Where they differ and the
rows are proven, the token gives or takes without Transfer events (it rebases, say): it is marked, for good.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import Random

from sqlalchemy.engine import Connection, Engine

from indexer.chain.client import ChainClient
from indexer.chain.reads.contract_reads import CallResult
from indexer.chain.records.errors import FatalError, LaggingError, NoEndpointError, WrongBlockError
from indexer.store.catalog import ledgers
from indexer.store.catalog.ledgers import Ledger
from indexer.store.head import state as head_state
from indexer.store.integrity.findings import Finding
from indexer.store.tokens import balance_checks, balances
from indexer.store.tokens.balance_checks import Holding
from indexer.sync.audit.scope import AuditScope

DIFFERENCES_SHOWN = 3
SAMPLE = 1_000
"""Holdings of each contract that the tokens are asked about, where nothing else is said."""

FEW, EVERY = 20, 86_400.0
"""Holdings of each contract that the tokens are asked about unbidden, and every how many seconds."""

# Selectors of the standards' functions: ERC-20's, ERC-721's, ERC-1155's.
_BALANCE_OF = bytes.fromhex("70a08231")  # balanceOf(address)
_OWNER_OF = bytes.fromhex("6352211e")  # ownerOf(uint256)
_BALANCE_OF_ID = bytes.fromhex("00fdd58e")  # balanceOf(address,uint256)


@dataclass(frozen=True, slots=True)
class Mark:
    """A token that says otherwise than its transfers."""

    contract: str
    token: bytes
    detail: str


@dataclass(slots=True)
class HoldersCheck:
    """What became of the comparison with the tokens.

    Attributes:
        marked: tokens that say otherwise.
        compared: holdings that the tokens confirmed or denied.
        unasked: by contract: why no node could be asked.
    """

    marked: list[Mark] = field(default_factory=list)
    compared: int = 0
    unasked: dict[str, str] = field(default_factory=dict)


def counted(connection: Connection, scope: AuditScope) -> Iterator[Finding]:
    """Holdings that are not what the transfers in the tables sum up to."""
    for ledger in _audited(connection, scope):
        if not scope.within[0] <= ledger.start_block <= ledger.through_block <= scope.within[1]:
            continue  # sums have no parts
        count, differences = balance_checks.differences(connection, ledger, DIFFERENCES_SHOWN)
        if count:
            shown = "; ".join(
                f"0x{one.holder.hex()} has {one.kept} of {_token(one.token, one.token_id, ledger)}"
                f"{f' at the end of {one.day}' if one.day else ''}, and its transfers make {one.counted}"
                for one in differences
            )
            more = f"; and {count - len(differences)} more" if count > len(differences) else ""
            event = next(event for event in scope.events if event.event_id in ledger.event_ids)
            first, last = ledger.start_block, ledger.through_block
            yield Finding(
                "balance", scope.chain_id, event.label, event.event_id, None, first, last, count, shown + more
            )


def ask(
    engine: Engine, scope: AuditScope, client: ChainClient, *, most: int | None = None, random: Random | None = None
) -> HoldersCheck:
    """Compares a sample of the holdings with what the tokens answer, and marks the tokens that answer otherwise.

    Args:
        engine: the database.
        scope: what is audited.
        client: the chain's nodes.
        most: holdings of each contract.
        random: chooses them.

    Raises:
        ProviderError: no node answers.
    """
    done = HoldersCheck()
    random = random or Random()
    with engine.connect() as connection:
        audited = _audited(connection, scope)
    for ledger in audited:
        _ask(engine, client, ledger, done, most or SAMPLE, random)
    return done


def ask_due(engine: Engine, client: ChainClient, chain_id: int) -> HoldersCheck:
    """Compares a few holdings of each ledger that has come to its end and was not compared for a day.

    Args:
        engine: the database.
        client: the chain's nodes.
        chain_id: the chain.

    Raises:
        ProviderError: no node answers.
    """
    done = HoldersCheck()
    with engine.connect() as connection:
        due = [
            ledger
            for ledger in ledgers.load_uncompared(connection, chain_id, EVERY)
            if not balances.lags(connection, ledger)
        ]
    for ledger in due:
        _ask(engine, client, ledger, done, FEW, Random())
        with engine.begin() as connection:
            ledgers.note_compared(connection, ledger)
    return done


def _ask(engine: Engine, client: ChainClient, ledger: Ledger, done: HoldersCheck, most: int, random: Random) -> None:
    if ledger.through_block < max(ledger.start_block, 0):
        return
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        found = {one.ledger_id: one for one in ledgers.load(connection, ledger.chain_id)}
        if (now := found.get(ledger.ledger_id)) is None or now.through_block < max(now.start_block, 0):
            done.unasked[ledger.contract] = "its balances are being built anew"
            return
        sample = balance_checks.sample(connection, now, most, random.uniform(-1, 1))
        at = now.through_block
        stored = head_state.load_headers(connection, ledger.chain_id, (at, at)).get(at)
        connection.rollback()
    try:
        block = client.at_or_below(at)
        answers = [] if block is None else client.multicall([_question(now, one) for one in sample], block.number)
        header = client.at_or_below(at)
    except (LaggingError, FatalError, NoEndpointError, WrongBlockError) as error:
        done.unasked[ledger.contract] = f"no node has the state of block {at}: {error}"
        return
    if header is None or header != block or (stored is not None and header.hash != stored):
        done.unasked[ledger.contract] = f"block {at} was reorganised away meanwhile"
        return
    # What no node would run says nothing of the token.
    answered = [pair for pair in zip(sample, answers, strict=True) if not pair[1].refusal]
    if sample and not answered:
        done.unasked[ledger.contract] = f"no node would run the calls at block {at}: {answers[0].refusal}"
        return
    done.compared += len(answered)
    done.marked += _compare(engine, now, answered)


def _compare(engine: Engine, ledger: Ledger, answered: Sequence[tuple[Holding, CallResult]]) -> Iterator[Mark]:
    wrong = [
        (holding, said)
        for holding, answer in answered
        if not _agrees(ledger, holding, said := answer.data if answer.success else None)
    ]
    for token, group in groupby(sorted(wrong, key=lambda pair: pair[0].token), key=lambda pair: pair[0].token):
        differing = list(group)
        holding, said = differing[0]
        asked = sum(one.token == token for one, _ in answered)
        detail = (
            f"{len(differing)} of {asked} holders differ at block {ledger.through_block}: 0x{holding.holder.hex()} has "
            f"{holding.amount} of {_token(token, holding.token_id, ledger)} by its transfers, the token says "
            f"{_said(ledger, said)}. It changes balances without Transfer events, unless transfers are missing "
            "(which gapless audit --deep would tell)"
        )
        with engine.begin() as connection:
            balance_checks.note_problem(connection, ledger, token, detail, ledger.through_block)
        yield Mark(ledger.contract, token, detail)


def _question(ledger: Ledger, holding: Holding) -> tuple[bytes, bytes]:
    holder, number = bytes(12) + holding.holder, (holding.token_id % 2**256).to_bytes(32, "big")
    match ledger.kind:
        case "erc20":
            return holding.token, _BALANCE_OF + holder
        case "erc721":
            return holding.token, _OWNER_OF + number
        case "erc1155":
            return holding.token, _BALANCE_OF_ID + holder + number


def _agrees(ledger: Ledger, holding: Holding, said: bytes | None) -> bool:
    if said is None or len(said) < 32:
        return False
    if ledger.kind == "erc721":
        return holding.amount == 1 and said[12:32] == holding.holder
    return int.from_bytes(said[:32], "big") == holding.amount


def _said(ledger: Ledger, said: bytes | None) -> str:
    if said is None or len(said) < 32:
        return "nothing (the call failed)"
    return f"0x{said[12:32].hex()} owns it" if ledger.kind == "erc721" else str(int.from_bytes(said[:32], "big"))


def _token(token: bytes, token_id: int, ledger: Ledger) -> str:
    return f"0x{token.hex()}" if ledger.kind == "erc20" else f"0x{token.hex()} #{token_id}"


def _audited(connection: Connection, scope: AuditScope) -> list[Ledger]:
    contracts = {event.contract for event in scope.events}
    return [one for one in ledgers.load(connection, scope.chain_id) if one.live and one.contract in contracts]
