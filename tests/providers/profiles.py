# ruff: noqa: E501 - the providers' own words
"""The providers to imitate: their limit, and the exact words, code and status with which they refuse.

Independent of ``indexer.chain.rpc.error_table`` on purpose: these are the facts, that is our reading of them.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from indexer.chain.records.log_filter import LogFilter
from tests.posts import HttpAnswer
from tests.providers.history import TOKEN, TRANSFER
from tests.providers.node import Fragments, Node, Refusal


@dataclass(frozen=True)
class Profile:
    """One provider.

    Attributes:
        name: whom it imitates.
        limit: what it limits.
        size: the limit: blocks (``to - from`` at most, one more when ``inclusive``), logs, or bytes.
        text: what it says; ``{size}``, ``{commas}``, ``{thousands}``, ``{asked}``, ``{first}``, ``{last}``, ``{from_hex}``, ``{to_hex}`` (a range that works).
        code: the JSON-RPC code.
        status: the HTTP status.
        data: text that stands in ``error.data`` in place of the message.
        vice: how it refuses beside a JSON-RPC error.
        addresses: how many addresses are asked for.
        topics: how many first topics are asked for.
        most_addresses: the most addresses in a question.
        most_topics: the most values at one position of the topics.
        needs_address: whether it refuses questions that name no address.
        lists: what it says to too long a list, or to a missing address: the words, the code, the HTTP status.
        thin: whether it has few logs, which do not bear the times of their blocks: as many headers are asked for.
        bucket: the calls that it takes at once, and those that it takes a second; each call of a batch counts.
        hasty: what it says when the bucket is empty: the words, the code, the HTTP status.
    """

    name: str
    limit: Literal["blocks", "logs", "bytes"]
    size: int
    text: str
    code: int = -32000
    status: int = 200
    inclusive: bool = False
    data: str | None = None
    vice: Literal["", "cut", "close", "html", "hang up", "same range", "backwards"] = ""
    addresses: int = 1
    topics: int = 1
    most_addresses: int | None = None
    most_topics: int | None = None
    needs_address: bool = False
    lists: tuple[str, int, int] = ("", -32602, 200)
    thin: bool = False
    bucket: tuple[int, float] | None = None
    hasty: tuple[str, int, int] = ("", 429, 429)

    @property
    def in_the_table(self) -> bool:
        """Whether the error table knows its words; without words, or with unknown ones, no number is promised."""
        return self.vice not in {"cut", "close", "html"} and not self.name.startswith("unknown")

    def smaller(self) -> "Profile":
        """The same for a tenth of the history; limits that the words do not name, and small ones, stay."""
        named = any(field in self.text for field in ("{size}", "{commas}", "{thousands}"))
        if self.limit == "blocks" and (self.size <= 5_000 or not named):
            return self
        return replace(self, size=self.size // 10)

    def fewest_requests(self, fragments: Fragments) -> int:
        """The least possible number of ``eth_getLogs`` for the whole history."""
        log_bytes = len(fragments.logs[0]) + 1
        least = fragments.history.fewest_requests(blocks=self.most_blocks(), logs=self.most_logs(log_bytes))
        # One question by topic alone replaces all lists: no other address has logs of the topic.
        lists = math.ceil(self.addresses / min(1_000, self.most_addresses or 1_000)) if self.needs_address else 1
        return least * lists * math.ceil(self.topics / (self.most_topics or self.topics))

    def filters(self) -> LogFilter:
        """What is asked for: the history's token and topic, among as many strangers as the lists are long."""
        return LogFilter(
            (*(f"0x{number:040x}" for number in range(0x1000, 0x1000 + self.addresses - 1)), TOKEN),
            ((*(f"0x{number:064x}" for number in range(self.topics - 1)), TRANSFER),),
        )

    def question(self, params: dict[str, Any]) -> None:
        """Refuses lists that are too long, and questions without an address."""
        addresses = params.get("address")
        asked = 1 if isinstance(addresses, str) else len(addresses or ())
        longest = max((len(values or ()) for values in params.get("topics", ())), default=0)
        if (
            (self.most_addresses is not None and asked > self.most_addresses)
            or (self.most_topics is not None and longest > self.most_topics)
            or (self.needs_address and addresses is None)
        ):
            text, code, status = self.lists
            raise Refusal(code, text, status=status)

    def before(self) -> Callable[[Node, list[dict[str, Any]]], None] | None:
        """Refuses HTTP requests that hold more calls than the bucket."""
        if self.bucket is None:
            return None
        most, rate = self.bucket
        level, at = float(most), time.monotonic()

        def take(node: Node, calls: list[dict[str, Any]]) -> None:
            nonlocal level, at
            with node.lock:
                now = time.monotonic()
                level, at = min(float(most), level + (now - at) * rate), now
                if len(calls) <= level:
                    level -= len(calls)
                    return
            text, code, status = self.hasty
            raise Refusal(code, text, status=status)

        return take

    def allowed_requests(self, fragments: Fragments) -> float:
        """How many a client may need: 1.3 times the least and 15 under a block limit, twice the least else.

        Ten more find out how long a list may be, where the limit shows only in the refusals.
        """
        least = self.fewest_requests(fragments)
        lists = 10 if self.most_addresses is not None else 0
        return lists + (1.3 * least + 15 if self.limit == "blocks" else 2.0 * least)

    def most_blocks(self) -> int | None:
        if self.limit != "blocks":
            return None
        return self.size if self.inclusive else self.size + 1

    def most_logs(self, log_bytes: int) -> int | None:
        return {"logs": self.size, "bytes": self.size // log_bytes}.get(self.limit)

    def __call__(self, node: Node, first: int, last: int) -> None:
        """Refuses a range that is too much."""
        blocks = self.most_blocks()
        if blocks is not None:
            if last - first + 1 <= blocks:
                return
            good = first + blocks - 1
        else:
            size = len(node.fragments.logs[0]) + 1
            most = self.most_logs(size)
            assert most is not None
            start, end = node.history.between(first, last)
            if end - start <= most:
                return
            good = max(first, node.history.positions[start + most] - 1)
        if self.vice == "cut":
            raise HttpAnswer(200, b'[{"jsonrpc":"2.0","id":1,"result":[{"address":"0x00', cut=True)
        if self.vice == "close":
            raise HttpAnswer(0)
        if self.vice == "html":
            raise HttpAnswer(504, b"<html><h1>504 Gateway Time-out</h1></html>", {"Content-Type": "text/html"})
        if self.vice == "same range":
            good = last
        fields = {
            "size": self.size,
            "commas": f"{self.size:,}",
            "thousands": f"{self.size // 1000}k",
            "asked": last - first,
            "first": first,
            "last": last,
            "from_hex": hex(good + 1 if self.vice == "backwards" else first),
            "to_hex": hex(good),
            "good": good,
        }
        text = self.text.format(**fields)
        data = self.data.format(**fields) if self.data else None
        raise Refusal(self.code, text, data, self.status)


def _blocks(name: str, size: int, text: str, **more: object) -> Profile:
    return Profile(name, "blocks", size, text, **more)  # type: ignore[arg-type]


def _logs(name: str, size: int, text: str, **more: object) -> Profile:
    return Profile(name, "logs", size, text, **more)  # type: ignore[arg-type]


PROFILES: tuple[Profile, ...] = (
    # -- a range that would work
    _logs("Alchemy", 10_000, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and "
          "no limit on the response size, or you can request any block range with a cap of 10K logs in the response. Based "
          "on your parameters and the response size limit, this block range should work: [{from_hex}, {to_hex}]",
          code=-32602, status=400),
    _logs("Alchemy, backwards", 10_000, "Log response size exceeded. this block range should work: [{from_hex}, {to_hex}]",
          code=-32602, vice="backwards"),
    _logs("Infura", 10_000, "query returned more than {size} results. Try with this block range [{from_hex}, {to_hex}].",
          code=-32005),
    _logs("Tenderly", 10_000, "query returned more than {size} results", code=-32005,
          data="Try with this block range [{from_hex}, {to_hex}]."),
    _logs("Sei", 10_000, "a maximum of {size} logs are allowed; retry with the range {first}-{good}"),
    _logs("a node that suggests what just failed", 10_000, "query exceeds max results {size}, retry with the range "
          "{first}-{good}", vice="same range"),
    # -- a limit of blocks that is named
    _blocks("Avalanche", 2048, "requested too many blocks from {first} to {last}, maximum is set to {size}", inclusive=True),
    _blocks("Cloudflare", 800, "Max range: {size}", code=-32047, inclusive=True),
    _blocks("thirdweb", 1000, "Maximum allowed number of requested blocks is {size}", code=-32005),
    _blocks("QuickNode", 10_000, "eth_getLogs is limited to a {commas} range", code=-32614, status=413),
    _blocks("1RPC", 10_000, "eth_getLogs is limited to a {commas} blocks range"),
    _blocks("BlockPI", 1024, "eth_getLogs is limited to {size} block range. Please check the parameter requirements"),
    _blocks("Blast, paid", 5000, "block range ({asked}) exceeds the range allowed for your plan ({asked} > {size})"),
    _blocks("Coinbase", 1000, "please limit the query to at most {size} blocks", code=-32602, inclusive=True),
    _blocks("PublicNode", 50_000, "exceed maximum block range: {size}", code=-32701),
    _blocks("reth", 10_000, "query exceeds max block range {size}", code=-32602),
    _blocks("Hyperliquid", 50, "query exceeds max block range {size}", code=-32602),
    _blocks("Swell", 1000, "block range greater than {size} max", code=-32602),
    _blocks("Somnia", 1000, "block range exceeds {size}", code=-32600),
    _blocks("Merkle", 10_000, "eth_getLogs range is too large, max is {thousands} blocks", code=-32000),
    _blocks("llama", 1000, "eth_getLogs range is too large, max is {thousands} blocks", code=-32000),
    _blocks("Harmony", 1024, "query must be smaller than size {size}"),
    _blocks("Moonriver", 1024, "block range is too wide (maximum {size})"),
    _blocks("Ankr", 3000, "block range is too wide", code=-32600),
    _blocks("Alchemy, free", 100, "Under the Free tier plan, you can make eth_getLogs requests with up to a {size} block range. Based "
            "on your parameters, this block range should work: [{from_hex}, {to_hex}]. Upgrade for expanded block range.",
            code=-32600, status=400, inclusive=True),
    _blocks("a range that would work, without a reason", 100, "this block range should work: [{from_hex}, {to_hex}]",
            inclusive=True),
    _blocks("Aurora", 2000, "up to a {size} block range is allowed"),
    _blocks("Ankr, another wording", 10_000, "maximum [from, to] blocks distance: {size}", code=-32062),
    _blocks("Tron", 5000, "exceed max block range: {size}", code=-32600, inclusive=True),
    _blocks("Morph", 5000, "block range is larger than max block range, block range = {asked}, max block range = {size}"),
    _blocks("Chainstack", 10_000, "Block range limit exceeded. See more details at https://docs.chainstack.example/limits"),
    _blocks("Chainstack, free", 100, "Block range limit exceeded.", inclusive=True),
    _blocks("a free tier", 500, "ranges over {size} blocks are not supported on freetier", code=35, inclusive=True),
    # -- only "too many blocks": the limit has to be found
    _blocks("threshold", 4321, "allowed block range threshold exceeded"),
    _blocks("threshold, short", 1234, "eth_getLogs: range threshold exceeded", code=-32602),
    _blocks("too large", 700, "block range too large", code=-32602),
    _blocks("is too large", 9000, "Block range is too large", code=-32000, status=400),
    # -- only "too much"
    _logs("exceeded max allowed", 10_000, "eth_getLogs and eth_newFilter are limited: exceeded max allowed"),
    _logs("proxyd", 10_000, "no backend is currently healthy to serve traffic", code=-32011, status=503),
    _logs("Goldsky", 10_000, "logs matched by query exceeds limit of {size}", code=-32005),
    _logs("no range given", 10_000, "query returned more than {size} results", code=-32005),
    _logs("reth, results", 10_000, "query exceeds max results", code=-32602),
    Profile("proxyd, size", "bytes", 5_000_000, "backend response too large", code=-32020),
    Profile("a size with its number", "bytes", 5_000_000, "response size should not greater than {size} bytes"),
    Profile("too big", "bytes", 5_000_000, "response is too big", code=-32008),
    Profile("size exceeded", "bytes", 5_000_000, "response size exceeded"),
    # -- no words at all
    _logs("a body cut short", 10_000, "", vice="cut"),
    _logs("a connection closed", 10_000, "", vice="close"),
    _logs("a gateway's time-out", 10_000, "", vice="html"),
    # -- a wide range is refused in the words of a rate
    _blocks("a wide range, -32005", 500, "limit exceeded", code=-32005),
    _blocks("a wide range, 429", 500, "Too many requests, reason: call rate limit", code=429, status=429),
    # -- a bucket that each call of a batch is taken from
    _blocks("a bucket, 429", 5000, "query exceeds max block range {size}", bucket=(25, 25.0), thin=True,
            hasty=("Too Many Requests", 429, 429)),
    _blocks("a bucket, -32005", 5000, "query exceeds max block range {size}", bucket=(25, 25.0), thin=True,
            hasty=("daily request count exceeded, request rate limited", -32005, 200)),
    # -- lists that are too long
    _blocks("addresses, known words", 1000, "query exceeds max block range {size}", addresses=400, most_addresses=100,
            lists=("exceed max addresses: 100", -32602, 200)),
    _blocks("addresses, unknown words", 1000, "query exceeds max block range {size}", addresses=400, most_addresses=150,
            lists=("le filtre est trop complexe", -31997, 200)),
    _blocks("addresses, forbidden", 1000, "query exceeds max block range {size}", addresses=400, most_addresses=100,
            lists=("", 0, 403)),
    _blocks("addresses, -32005", 1000, "query exceeds max block range {size}", addresses=400, most_addresses=100,
            lists=("limit exceeded", -32005, 200)),
    _blocks("topics, known words", 1000, "query exceeds max block range {size}", topics=400, most_topics=100,
            lists=("exceed max topics", -32602, 200)),
    _blocks("topics, unknown words", 1000, "query exceeds max block range {size}", topics=400, most_topics=250,
            lists=("zu viele Werte", -31997, 400)),
    # -- no logs of any address
    _blocks("an address, known words", 1000, "query exceeds max block range {size}", addresses=1_200, needs_address=True,
            lists=("Please specify an address in your request or, to remove restrictions, order a dedicated full node",
                   -32701, 403)),
    _blocks("an address, unknown words", 1000, "query exceeds max block range {size}", addresses=1_200, needs_address=True,
            lists=("kein Zugriff", -31996, 403)),
    # -- words that nobody knows
    _logs("unknown words", 10_000, "le nombre de journaux demandé est excessif", code=-31999),
    _blocks("unknown words for blocks", 5000, "zu viele Blöcke auf einmal", code=-31998),
)  # fmt: skip
