"""What the chain itself says that everybody has, and what the tables say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from indexer.demo.world import FUNGIBLE, World, batch
from tests.integration.sync.rig import Rig

Holdings = dict[tuple[bytes, int, bytes], int]
"""By token, token id and holder."""

KEPT = ("gold", "silver", "copper", "odd", "maker", "silent", "nft", "items")


def kept(one: Rig, contract: str | None = None) -> Holdings:
    """The holdings that are served."""
    rows = one.query(
        "SELECT token, token_id, holder, amount FROM gapless.balances WHERE contract = coalesce(%s, contract)", contract
    )
    return {(bytes(token), int(number), bytes(holder)): int(amount) for token, number, holder, amount in rows}


def through(one: Rig) -> dict[str, int]:
    """By contract: the block at which its served balances are true."""
    return dict(
        one.query(
            "SELECT c.name, l.through_block FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id "
            "WHERE l.served"
        )
    )


def on_chain(world: World, block: int | str = "latest", names: tuple[str, ...] = KEPT) -> Holdings:
    """What ``balanceOf`` and ``ownerOf`` answer for everybody who ever took part in a transfer."""
    found: Holdings = {}
    for name in names:
        token = bytes.fromhex(world.addresses[name][2:])
        questions = [(number, holder) for number, holder in _everybody(world, name) if any(holder)]
        if name == "nft":
            found |= _owners(world, token, sorted({number for number, _ in questions}), block)
            continue
        answers = _ask(world, name, [_question(name, number, holder) for number, holder in questions], block)
        for (number, holder), amount in zip(questions, answers, strict=True):
            if amount:
                found[token, number, holder] = amount
    return found


def _question(name: str, number: int, holder: bytes) -> tuple[Any, ...]:
    return ("balanceOf", holder) if name in FUNGIBLE else ("balanceOf", holder, number)


def _everybody(world: World, name: str) -> list[tuple[int, bytes]]:
    """Token ids and addresses out of web3's reading of the logs."""
    events = world.contract(name).events
    pairs: Counter[tuple[int, str]] = Counter()
    if name in FUNGIBLE:
        for log in events.Transfer().get_logs(from_block=0):
            values = list(dict(log["args"]).values())
            pairs.update([(0, values[0]), (0, values[1])])
    elif name == "nft":
        for log in events.Transfer().get_logs(from_block=0):
            giver, receiver, number = dict(log["args"]).values()
            pairs.update([(number, giver), (number, receiver)])
    else:
        for log in events.TransferSingle().get_logs(from_block=0):
            _, giver, receiver, number, _ = dict(log["args"]).values()
            pairs.update([(number, giver), (number, receiver)])
        for log in events.TransferBatch().get_logs(from_block=0):
            _, giver, receiver, numbers, _ = dict(log["args"]).values()
            pairs.update([(number, who) for number in numbers for who in (giver, receiver)])
    return sorted((number, bytes.fromhex(who[2:])) for number, who in pairs)


def _owners(world: World, token: bytes, numbers: list[int], block: int | str) -> Holdings:
    from web3.exceptions import ContractLogicError

    nft = world.contract("nft").functions
    found: Holdings = {}
    for number in numbers:
        try:
            owner = nft.ownerOf(number).call(block_identifier=block)  # type: ignore[arg-type]
        except ContractLogicError:  # burned
            continue
        found[token, number, bytes.fromhex(owner[2:])] = 1
    return found


def _ask(world: World, name: str, questions: list[tuple[Any, ...]], block: int | str) -> list[int]:
    at = hex(block) if isinstance(block, int) else block
    calls = [
        (
            "eth_call",
            [{"to": world.addresses[name], "data": "0x" + world.artifacts[name].encode(*question).hex()}, at],
        )
        for question in questions
    ]
    answers: list[int] = []
    for start in range(0, len(calls), 500):
        answers += [int(answer, 16) for answer in batch(world.w3, calls[start : start + 500])]
    return answers
