"""More ways of being wrong, of the kinds that public reports tell of: nulls, half batches, tags, old code, details."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.chaos.node import Answer, Call, Node, RpcError

Tell = Callable[[Random, Node, Call, Any], Any]

KNOWN_STATES = 20
"""Blocks below the head whose states a node knows that answers 0x for older code."""

RECEIPT_FIELDS = ("status", "effectiveGasPrice", "contractAddress")
TRANSACTION_FIELDS = ("nonce", "type", "gas")

# -- about a batch


def null_half(random: Random, answers: list[Answer]) -> list[Answer]:
    """Half of a batch's results are null, though they are not."""
    if len(answers) == 1:
        return answers
    half = set(random.sample(range(len(answers)), len(answers) // 2))
    return [{**one, "result": None} if at in half and "result" in one else one for at, one in enumerate(answers)]


def absent_half(random: Random, answers: list[Answer]) -> list[Answer]:
    """The second half of a batch is not there."""
    return answers[: -(-len(answers) // 2)]


def float_ids(random: Random, answers: list[Answer]) -> list[Answer]:
    """Ids come back as 1.0."""
    return [{**one, "id": float(one["id"])} if isinstance(one["id"], int) else one for one in answers]


BATCHES: Mapping[str, Callable[[Random, list[Answer]], list[Answer]]] = {
    "null half": null_half,
    "absent half": absent_half,
    "float ids": float_ids,
}

# -- about a block


def tag_error(random: Random, node: Node, call: Call, result: Any) -> Any:
    if call["params"][0] in ("finalized", "safe"):
        raise RpcError(-32603, random.choice(("internal error", "Internal error: tag lookup failed")))
    return result


def odd_bloom(random: Random, node: Node, call: Call, result: Any) -> Any:
    """No bloom, in one of the ways of saying so; only where nothing was logged, as a bloom of nothing means it too."""
    if result is None or int(result["logsBloom"], 16):
        return result
    rest = {name: value for name, value in result.items() if name != "logsBloom"}
    return random.choice(({**rest, "logsBloom": None}, {**rest, "logsBloom": "0x0"}, {**rest, "logsBloom": "0x"}, rest))


HEADER: Mapping[str, Tell] = {"tag error": tag_error, "odd bloom": odd_bloom}

# -- about logs


def null_places(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Logs do not say which transaction of the block they are of."""
    return [{**log, "transactionIndex": None} for log in result]


def null_for_none(random: Random, node: Node, call: Call, result: Any) -> Any:
    return None if result == [] else result


LOGS: Mapping[str, Tell] = {"null places": null_places, "null for none": null_for_none}

# -- about what surrounds logs


def missing_details(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Of some transactions and receipts the node knows nothing."""
    if call["method"] == "eth_getBlockReceipts" and result is not None:
        return [one for one in result if random.random() < 0.5]
    return None


def null_fields(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Some fields are null, or not there."""

    def spoil(facts: Any, names: tuple[str, ...]) -> Any:
        some = set(random.sample(names, random.randint(1, len(names))))
        if random.random() < 0.5:
            return {name: None if name in some else value for name, value in facts.items()}
        return {name: value for name, value in facts.items() if name not in some}

    if isinstance(result, list):
        return [spoil(one, RECEIPT_FIELDS) for one in result]
    if isinstance(result, dict) and "status" in result:
        return spoil(result, RECEIPT_FIELDS)
    if isinstance(result, dict):
        return spoil(result, TRANSACTION_FIELDS)
    return result


DETAILS: Mapping[str, Tell] = {"missing details": missing_details, "null fields": null_fields}

# -- about code


def no_old_code(random: Random, node: Node, call: Call, result: Any) -> Any:
    """A node without old states says that there was no code, and not that it does not know."""
    at = call["params"][1]
    if not at.startswith("0x") or int(at, 16) > node.blocks[-1].number - KNOWN_STATES:
        return result
    return "0x"


CODE: Mapping[str, Tell] = {"no old code": no_old_code}

NAMES = (*BATCHES, *HEADER, *LOGS, *DETAILS, *CODE)
HARMLESS = frozenset({"float ids", "odd bloom", "null places", "null for none"})
