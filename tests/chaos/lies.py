"""The ways in which nodes and what stands before them are wrong, each as one small function.

Only what a client can find out is here. That a node leaves out one of several logs of an address with one topic above
``finalized``, or any below it, no answer betrays for certain: that is what ``check_history`` and the audit are for.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests import multicall3
from tests.chaos import odd_answers
from tests.chaos.chain import between, branch_of
from tests.chaos.node import Answer, Call, Node, RpcError, matches
from tests.chaos.odd_answers import Tell
from tests.multicall3 import ADDRESS as MULTICALL3
from tests.posts import HttpAnswer

# What providers say of a range of more than {n} blocks (``to - from <= n``; one less where a row is "inclusive").
RANGE_LIMITS: tuple[tuple[str, int, bool], ...] = (
    ("requested too many blocks from {first} to {last}, maximum is set to {n}", -32000, True),
    ("Max range: {n}", -32047, True),
    ("Maximum allowed number of requested blocks is {n}", -32005, False),
    ("eth_getLogs is limited to a {n} range", -32614, False),
    ("eth_getLogs is limited to {n} block range", -32000, False),
    ("block range exceeds the range allowed for your plan ({asked} > {n})", -32000, False),
    ("please limit the query to at most {n} blocks", -32602, True),
    ("exceed maximum block range: {n}", -32701, False),
    ("query exceeds max block range {n}", -32602, False),
    ("block range greater than {n} max", -32602, False),
    ("block range exceeds {n}", -32600, False),
    ("query must be smaller than size {n}", -32000, False),
    ("block range is too wide (maximum {n})", -32000, False),
    ("up to a {n} block range is allowed", -32000, False),
    ("maximum [from, to] blocks distance: {n}", -32062, False),
    ("exceed max block range: {n}", -32600, True),
    ("block range is larger than max block range, block range = {asked}, max block range = {n}", -32000, False),
    ("ranges over {n} blocks are not supported on freetier", 35, True),
    ("Log response size exceeded. this block range should work: [{from_hex}, {to_hex}]", -32602, False),
    ("query returned more than 10 results. Try with this block range [{from_hex}, {to_hex}].", -32005, False),
    ("retry with the range {first}-{good}", -32000, False),
    ("Log response size exceeded. this block range should work: [{to_hex}, {from_hex}]", -32602, False),
    ("allowed block range threshold exceeded", -32000, False),
    ("no backend is currently healthy to serve traffic", -32011, False),
    ("block range too large", -32602, False),
    ("backend response too large", -32020, False),
    ("query exceeds max results", -32602, False),
    ("query returned more than 10 results", -32005, False),
    ("response is too big", -32008, False),
    ("zu viele Blöcke auf einmal", -31998, False),
)

# What they say of wide ranges in the words of a rate, while they answer narrow ones.
HASTE_TEXTS = (("limit exceeded", -32005), ("Too Many Requests", 429), ("request rate exceeded", -32016))
# Of lists longer than {n}: in known words, in those of a range or a rate, and in unheard-of ones.
LIST_TEXTS = (
    ("exceed maximum number of addresses or topics: {n}", -32602),
    ("too many addresses: maximum is {n}", -32000),
    ("block range too large", -32602),
    ("limit exceeded", -32005),
    ("zu lange Listen", -31998),
)
ADDRESS_TEXTS = (("Please specify an address in your request", -32701), ("an address filter is required", -32602))
RATE_TEXTS = ("rate limit exceeded", "Too Many Requests", "daily request count exceeded", "request was throttled")
LAG_TEXTS = (
    ("One of the blocks specified in filter (fromBlock, toBlock or blockHash) cannot be found", -32000),
    ("invalid block range params", -32000),
    ("block is out of range", -32000),
    ("BlockOutOfRangeError: block height is 5 but requested was 9", -32602),
    ("header not found", -32000),
    ("unknown block", -32000),
    ("Unable to complete request at this time.", -32001),
)
TRANSIENT_TEXTS = (
    ("internal error", -32603),
    ("Internal server error. Forwarder error: 1000", -32000),
    ("quite unheard of", -31000),
)
PRUNED_TEXTS = (
    ("History has been pruned for this block", -32001),
    ("pruned history unavailable", 4444),
)
HTML = b"<html><body><h1>Bad gateway</h1></body></html>"


@dataclass
class Lies:
    """Tells some of the lies some of the time.

    Attributes:
        random: decides which and when.
        rates: by the name of a lie, how often it is told, 0 to 1.
        told: how often each was.
        active: False: says the truth, but for the limits.
        most_blocks: the limit of ``eth_getLogs``, worded as ``wording`` (an index of RANGE_LIMITS); None: none.
        most_calls: the most calls in a batch; None: no limit.
        pruned: the logs of blocks below this are gone, as long as ``active``.
        in_haste: the limit of blocks is worded as a rate: an index of HASTE_TEXTS; None: as ``wording`` says.
        most_listed: the most addresses, and values at one position of the topics, in a question; None: no limit.
        list_wording: how that is worded, an index of LIST_TEXTS.
        needs_address: questions without an address are refused, as long as ``active``.
        no_batches: whether HTTP 403 is the answer to every batch.
        bucket: so many calls a second are answered, each item of a batch counted; None: any number.
        clock: tells the bucket's seconds.
    """

    random: Random
    rates: Mapping[str, float]
    told: Counter[str] = field(default_factory=Counter)
    active: bool = True
    most_blocks: int | None = None
    wording: int = 0
    most_calls: int | None = None
    pruned: int = 0
    in_haste: int | None = None
    most_listed: int | None = None
    list_wording: int = 0
    needs_address: bool = False
    no_batches: bool = False
    bucket: int | None = None
    clock: Callable[[], float] = time.monotonic
    _recent: deque[float] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wants(self, name: str) -> bool:
        """Whether to tell a lie now."""
        with self._lock:
            if not self.active or self.random.random() >= self.rates.get(name, 0.0):
                return False
            self.told[name] += 1
            return True

    def request(self, node: Node, calls: Sequence[Call], is_batch: bool) -> None:
        if is_batch and self.no_batches:
            self.told["no batches"] += 1
            raise HttpAnswer(403, b"forbidden")
        if is_batch and self.most_calls is not None and len(calls) > self.most_calls:
            self.told["batch limit"] += 1
            raise RpcError(-32600, f"batch size exceeds the limit of {self.most_calls}")
        if self.bucket is not None:
            self._spend(self.bucket, len(calls))
        for name, lie in BEFORE.items():
            if self.wants(name):
                lie(self.random)

    def _spend(self, bucket: int, calls: int) -> None:
        with self._lock:
            now = self.clock()
            while self._recent and self._recent[0] <= now - 1.0:
                self._recent.popleft()
            if len(self._recent) + calls <= bucket:
                self._recent.extend([now] * calls)
                return
            self.told["bucket"] += 1
        raise RpcError(-32005, f"rate limit exceeded: {bucket} requests per second")

    def result(self, node: Node, call: Call, result: Any) -> Any:
        is_logs = call["method"] == "eth_getLogs" and "fromBlock" in call["params"][0]
        if is_logs:
            self._limit_lists(call["params"][0])
        if is_logs and self.most_blocks is not None:
            self._limit(call["params"][0], self.most_blocks)
        if is_logs and self.active and int(call["params"][0]["fromBlock"], 16) < self.pruned:
            self.told["pruned"] += 1
            raise RpcError(*reversed(self.random.choice(PRUNED_TEXTS)))
        if self.wants("item error"):
            raise RpcError(*reversed(self.random.choice(TRANSIENT_TEXTS)))
        if self.wants("item rate"):
            raise RpcError(429, self.random.choice(RATE_TEXTS))
        if is_logs and self.wants("lag worded"):
            raise RpcError(*reversed(self.random.choice(LAG_TEXTS)))
        for name, tell in (LOGS if is_logs else BY_METHOD.get(call["method"], {})).items():
            if self.wants(name):
                result = tell(self.random, node, call, result)
        return result

    def _limit_lists(self, asked: dict[str, Any]) -> None:
        addresses = asked.get("address")
        if self.needs_address and self.active and not addresses:
            self.told["no address"] += 1
            raise RpcError(*reversed(self.random.choice(ADDRESS_TEXTS)))
        lists = [one for one in (addresses, *asked.get("topics", ())) if isinstance(one, list)]
        if self.most_listed is None or max(map(len, lists), default=0) <= self.most_listed:
            return
        self.told[f"list limit {self.list_wording}"] += 1
        text, code = LIST_TEXTS[self.list_wording]
        raise RpcError(code, text.format(n=self.most_listed))

    def _limit(self, asked: dict[str, Any], most: int) -> None:
        text, code, inclusive = RANGE_LIMITS[self.wording]
        first, last = int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
        if last - first + inclusive <= most or first == last:
            return
        if self.in_haste is not None:
            self.told[f"range in haste {self.in_haste}"] += 1
            raise RpcError(*reversed(HASTE_TEXTS[self.in_haste]))
        self.told[f"range limit {self.wording}"] += 1
        good = first + most - inclusive
        named = {"n": most, "asked": last - first, "first": first, "last": last, "good": good}
        raise RpcError(code, text.format(**named, from_hex=hex(first), to_hex=hex(good)))

    def response(self, node: Node, calls: Sequence[Call], answers: list[Answer]) -> list[Answer]:
        for name, lie in ANSWERS.items():
            if self.wants(name):
                answers = lie(self.random, answers)
        return answers

    def body(self, node: Node, body: bytes) -> bytes:
        if self.wants("body cut"):
            raise HttpAnswer(200, body[: self.random.randrange(len(body))], cut=True)
        if self.wants("body broken"):
            return body[: self.random.randrange(len(body))]
        return body


# -- in place of any answer


def _http_error(random: Random) -> None:
    raise HttpAnswer(random.choice((500, 502, 504, 520)), HTML)


def _http_rate(random: Random) -> None:
    after: dict[str, str] = random.choice(({}, {"Retry-After": "1"}, {"Retry-After": "0"}))
    raise HttpAnswer(random.choice((429, 503)), b"slow down", after or {"Retry-After": "1"})


def _html(_: Random) -> None:
    raise HttpAnswer(200, HTML, {"Content-Type": "text/html"})


def _hang_up(_: Random) -> None:
    raise HttpAnswer(0)


def _one_error(random: Random) -> None:
    raise RpcError(*reversed(random.choice((*TRANSIENT_TEXTS, (random.choice(RATE_TEXTS), -32005)))))


BEFORE: Mapping[str, Callable[[Random], None]] = {
    "http error": _http_error,
    "http rate": _http_rate,
    "html": _html,
    "hang up": _hang_up,
    "one error": _one_error,
}


# -- about a batch, or the only answer


def _wrong_id(random: Random, answers: list[Answer]) -> list[Answer]:
    lied = copy.copy(answers)
    position = random.randrange(len(lied))
    lied[position] = {**lied[position], "id": (lied[position]["id"] or 0) + random.choice((1, -1, 4096))}
    return lied


def _short(random: Random, answers: list[Answer]) -> list[Answer]:
    if len(answers) == 1:
        return answers
    return random.sample(answers, random.randrange(1, len(answers)))


def _shuffled(random: Random, answers: list[Answer]) -> list[Answer]:
    return random.sample(answers, len(answers))


def _empty(random: Random, answers: list[Answer]) -> list[Answer]:
    lied = copy.copy(answers)
    position = random.randrange(len(lied))
    lied[position] = {"jsonrpc": "2.0", "id": lied[position]["id"]}
    return lied


def _twin_id(random: Random, answers: list[Answer]) -> list[Answer]:
    """Two answers bear one id, and one of them is about another question."""
    if len(answers) == 1:
        return answers
    lied = copy.copy(answers)
    one, other = random.sample(range(len(lied)), 2)
    lied[one] = {**lied[one], "id": lied[other]["id"]}
    return lied


def _absent(random: Random, answers: list[Answer]) -> list[Answer]:
    """Three in ten are left out."""
    return answers if len(answers) == 1 else [answer for answer in answers if random.random() > 0.3]


ANSWERS: Mapping[str, Callable[[Random, list[Answer]], list[Answer]]] = {
    "wrong id": _wrong_id,
    "short batch": _short,
    "twin id": _twin_id,
    "absent answers": _absent,
    "shuffled batch": _shuffled,
    "no result": _empty,
    **odd_answers.BATCHES,
}


# -- about a block


def _null(random: Random, node: Node, call: Call, result: Any) -> Any:
    return None


def _stale_header(random: Random, node: Node, call: Call, result: Any) -> Any:
    """A block of the same height on a branch that was left, or one behind: a cache before the node."""
    if result is None or not call["params"][0].startswith("0x"):
        return result
    number = int(result["number"], 16)
    for head in reversed(node.chain.abandoned):
        if head.number >= number > node.chain.finalized:
            return head.ancestor(number).header_json
    return result


def _other_header(random: Random, node: Node, call: Call, result: Any) -> Any:
    if result is None or not call["params"][0].startswith("0x"):
        return result
    return random.choice(node.blocks).header_json


def _head_behind(random: Random, node: Node, call: Call, result: Any) -> Any:
    if call["params"][0] != "latest":
        return result
    return node.blocks[max(0, len(node.blocks) - 1 - random.randrange(1, 20))].header_json


def _finalized_behind(random: Random, node: Node, call: Call, result: Any) -> Any:
    if call["params"][0] != "finalized" or result is None:
        return result
    newest = random.randint(0, int(result["number"], 16))
    return node.blocks[-1].ancestor(newest).header_json


HEADER: Mapping[str, Tell] = {
    "null block": _null,
    "stale header": _stale_header,
    "other header": _other_header,
    "head behind": _head_behind,
    "finalized behind": _finalized_behind,
    **odd_answers.HEADER,
}


# -- about logs


def _doubled(random: Random, node: Node, call: Call, result: Any) -> Any:
    return [*result, *random.sample(result, random.randint(0, len(result)))]


def _unsorted(random: Random, node: Node, call: Call, result: Any) -> Any:
    return random.sample(result, len(result))


def _removed(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Logs of the branch that was left, marked as removed."""
    gone = [log for head in node.chain.abandoned[-1:] for log in head.logs_json]
    return [*({**log, "removed": True} for log in gone), *result]


def _marked(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Some logs of the chain itself, marked as removed."""
    return [{**log, "removed": random.random() < 0.3} for log in result]


def _pending(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Logs without a block, beside themselves or in their own place."""
    some = random.sample(range(len(result)), min(2, len(result)))
    without = [{**result[at], "blockNumber": None, "blockHash": None, "logIndex": None} for at in some]
    kept = result if random.random() < 0.5 else [log for at, log in enumerate(result) if at not in some]
    return [*kept, *without]


def _upper(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Hex in other cases than usual."""
    return [
        {
            **log,
            "address": "0x" + log["address"][2:].upper(),
            "topics": ["0x" + topic[2:].upper() for topic in log["topics"]],
            "data": "0x" + log["data"][2:].upper(),
            "blockHash": "0x" + log["blockHash"][2:].upper(),
        }
        for log in result
    ]


def _timed(random: Random, node: Node, call: Call, result: Any) -> Any:
    factor = random.choice((1, 1000))
    blocks = node.chain.by_hash
    return [{**log, "blockTimestamp": hex(blocks[bytes.fromhex(log["blockHash"][2:])].time * factor)} for log in result]


def _mistimed(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Times that are a day off, in the logs of all blocks or of one."""
    blocks = node.chain.by_hash
    some = {log["blockHash"] for log in result}
    off = some if random.random() < 0.5 else set(random.sample(sorted(some), min(1, len(some))))
    return [
        {
            **log,
            "blockTimestamp": hex(
                blocks[bytes.fromhex(log["blockHash"][2:])].time - 86_400 * (log["blockHash"] in off)
            ),
        }
        for log in result
    ]


def _others(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Logs of other addresses: a filter that was ignored."""
    first, last = _range_of(call)
    return [log for block in between(node.blocks, first, last) for log in block.logs_json]


def _outside(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Logs of blocks that were not asked for."""
    first, last = _range_of(call)
    wider = {**call["params"][0], "fromBlock": hex(max(0, first - 3)), "toBlock": hex(last + 3)}
    return node._logs(wider)


def _stale(random: Random, node: Node, call: Call, result: Any) -> Any:
    """The logs of a branch that was left: the index of logs is behind the headers."""
    first, last = _range_of(call)
    heads = [head for head in node.chain.abandoned if head.number >= last]
    if not heads:
        return result
    head = heads[-1]
    blocks = between(branch_of(head), first, last)
    if any(block.number <= node.chain.finalized and not node.chain.is_canonical(block) for block in blocks):
        return result  # what is final is the same for every node
    return [log for block in blocks for log in block.logs_json if matches(log, call["params"][0])]


def _missing(random: Random, node: Node, call: Call, result: Any) -> Any:
    """All logs of some blocks are missing, as from an index that is incomplete; the bloom betrays it."""
    numbers = sorted({int(log["blockNumber"], 16) for log in result} - set(range(node.chain.finalized + 1)))
    gone = set(random.sample(numbers, random.randint(0, len(numbers))))
    return [log for log in result if int(log["blockNumber"], 16) not in gone]


def _lost(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Of some blocks the logs of one address with one topic are missing, others are there; the bloom betrays it.

    Where any address is asked for, those of one topic: another log with it would account for what the bloom holds.
    """
    any_address = call["params"][0].get("address") is None

    def place(log: Any) -> tuple[str, ...]:
        return (log["blockNumber"], "" if any_address else log["address"], *log["topics"][:1])

    open_places = sorted(one for one in set(map(place, result)) if int(one[0], 16) > node.chain.finalized)
    gone = set(random.sample(open_places, random.randint(0, len(open_places))))
    return [log for log in result if place(log) not in gone]


LOGS: Mapping[str, Tell] = {
    "stale logs": _stale,
    "missing logs": _missing,
    "lost logs": _lost,
    "doubled logs": _doubled,
    "unsorted logs": _unsorted,
    "upper case": _upper,
    "timestamps": _timed,
    "removed logs": _removed,
    "marked removed": _marked,
    "wrong times": _mistimed,
    "pending logs": _pending,
    "foreign logs": _others,
    "logs outside": _outside,
    **odd_answers.LOGS,
}

# -- about calls


def _newest(random: Random, node: Node, call: Call, result: Any) -> Any:
    """The block that an aggregate names is ignored; of a single call nothing in its own answer says where it ran."""
    aggregate = call["params"][0].get("to") == multicall3.ADDRESS
    return node._call(call["params"][0], "latest") if aggregate else result


def _gave_up(random: Random, node: Node, call: Call, result: Any) -> Any:
    raise RpcError(-32000, random.choice(CALL_LIMITS))


def _no_multicall3(random: Random, node: Node, call: Call, result: Any) -> Any:
    """Something else stands at Multicall3's address."""
    return random.choice(("0x", "0x1234", "0x" + "ff" * 96)) if call["params"][0].get("to") == MULTICALL3 else result


CALL_LIMITS = ("execution aborted (timeout = 5s)", "out of gas", "gas required exceeds allowance (50000000)")
CALLS: Mapping[str, Tell] = {
    "newest block": _newest,
    "call given up": _gave_up,
    "no multicall3": _no_multicall3,
}
BY_METHOD: Mapping[str, Mapping[str, Tell]] = {
    "eth_getBlockByNumber": HEADER,
    "eth_call": CALLS,
    "eth_getCode": odd_answers.CODE,
    "eth_getLogs": {"null for none": odd_answers.null_for_none},  # of a block by its hash
    "eth_getTransactionByHash": odd_answers.DETAILS,
    "eth_getTransactionReceipt": odd_answers.DETAILS,
    "eth_getBlockReceipts": odd_answers.DETAILS,
}

# How often each is told when it is told at all. Those at the end are harmless, and may be told always.
EVERY = (*BEFORE, *ANSWERS, *HEADER, *LOGS, *CALLS, "item error", "item rate", "lag worded", "body cut", "body broken")
NAMES = tuple(name for name in EVERY if name not in odd_answers.NAMES)
HARMLESS = (
    frozenset({"shuffled batch", "doubled logs", "unsorted logs", "removed logs", "upper case", "timestamps"})
    | odd_answers.HARMLESS
)


# What would do harm at once if it were believed.
GRAVE = ("stale logs", "missing logs", "lost logs", "stale header", "logs outside", "newest block")


def choose(random: Random, told: Counter[str] | None = None) -> Lies:
    """A selection of lies for one endpoint."""
    some = random.sample(NAMES, random.randint(0, 8))
    rates = {
        name: random.choice((0.2, 1.0)) if name in HARMLESS else random.choice((0.01, 0.04, 0.12)) for name in some
    }
    rates |= {name: random.choice((0.1, 0.5)) for name in GRAVE if random.random() < 0.4}
    found = Lies(
        random,
        rates,
        told=Counter() if told is None else told,
        most_blocks=random.choice((None, None, None, 1, 4, 10, 10, 40, 40)),
        wording=random.randrange(len(RANGE_LIMITS)),
        most_calls=random.choice((None, None, 1, 4, 10)),
        pruned=random.choice((0, 0, 0, 0, 5, 20)),
    )
    # Apart from the others, so that these do not change what else happens under a seed.
    limits = Random(f"limits of {found.rates} {found.most_blocks} {found.wording} {found.most_calls}")
    found.in_haste = limits.choice((None, None, None, *range(len(HASTE_TEXTS))))
    found.most_listed = limits.choice((None, None, None, 1, 2, 3))
    found.list_wording = limits.randrange(len(LIST_TEXTS))
    found.needs_address = limits.random() < 0.15
    found.bucket = limits.choice((None, None, None, None, 10, 25))
    later = Random(f"odd answers of {found.rates} {found.bucket}")
    found.no_batches = later.random() < 0.15
    odd = [name for name in odd_answers.NAMES if later.random() < 0.3]
    found.rates = {**found.rates, **{name: later.choice(_rates(name)) for name in odd}}
    return found


def _rates(name: str) -> tuple[float, ...]:
    if name in ("no old code", "tag error"):
        return (0.2, 1.0)
    return (0.2, 1.0) if name in HARMLESS else (0.01, 0.04, 0.12)


def _range_of(call: Call) -> tuple[int, int]:
    asked = call["params"][0]
    return int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
