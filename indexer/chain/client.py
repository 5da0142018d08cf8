"""All endpoints of one chain as one: a question gets a checked answer, or an error that says what to do.

Each question goes to the endpoint that is best for it, is retried within bounds, and fails over. All parts of one
answer come from one endpoint.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from indexer.block_records import TransactionDetails
from indexer.chain.logs import branch as branches
from indexer.chain.logs import earliest_log, known_blocks
from indexer.chain.logs.address_slices import HeadQuestions
from indexer.chain.logs.earliest_log import EarliestLog
from indexer.chain.logs.scan import Scan
from indexer.chain.reads import contract_reads, multicall, null_blocks, transactions
from indexer.chain.reads.contract_reads import CallResult
from indexer.chain.reads.multicall import Multicall3State
from indexer.chain.reads.null_blocks import NullRun
from indexer.chain.records.errors import (
    CreditsError,
    FatalError,
    LaggingError,
    NoEndpointError,
    ProviderError,
    RangeError,
    TransientError,
)
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter, kind_of, several
from indexer.chain.records.messages import Call, Header, parse, parse_header, parse_proven_header
from indexer.chain.rpc import hedging
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.hedging import HeadTimeouts
from indexer.chain.rpc.requester import Requester

_GET_BLOCK = "eth_getBlockByNumber"
# How often a null block at or below the known head is asked for again before it is believed.
_NULL_ATTEMPTS = 4
# How often a block tag is asked for: there are other ways to what it tells.
_TAG_ATTEMPTS = 3
# How often the logs of blocks are asked for whose headers are known: there is another way.
_ATTEMPTS_AT_KNOWN = 2
# How often blocks, transactions and receipts are asked for, together at first, then one by one.
_ATTEMPTS_AT_DETAILS = (3, 2)
# JSON-RPC codes with which nodes say that they do not know a block tag.
_UNKNOWN_TAG_CODES = frozenset({-32602, -32600, -32601, -32000, -32001, -32004, -39001})


@dataclass(eq=False, repr=False)
class ChainClient(Requester):
    """What one chain says. Thread-safe; made as an :class:`Requester` is."""

    _multicall: Multicall3State = field(init=False, default_factory=Multicall3State)
    _no_receipts: set[str] = field(init=False, default_factory=set)  # hosts without eth_getBlockReceipts
    _promptness: HeadTimeouts = field(init=False, default_factory=HeadTimeouts)
    _head_questions: HeadQuestions = field(init=False, default_factory=HeadQuestions)

    # -- blocks

    def head(self) -> Header:
        """The newest block. One cheap question to the endpoint in use; the others are asked now and then.

        Raises:
            ProviderError: no endpoint answers.
        """

        def question(endpoint: Endpoint, context: RequestContext) -> tuple[Endpoint, Header]:
            header = parse_proven_header(endpoint.ask_one(Call(_GET_BLOCK, ("latest", False)), context))
            if header is None:
                raise LaggingError("it has no newest block", host=endpoint.host)
            with endpoint.lock:
                endpoint.health.said_head(header.number)
            return endpoint, header

        endpoint, header = hedging.ask(self, self._promptness, question, _GET_BLOCK)
        self.pool.survey_due(endpoint)
        if self.pool.lags(endpoint):
            _, other = hedging.ask(self, self._promptness, question, _GET_BLOCK)
            header = max(header, other, key=lambda each: each.number)
        self._promptness.saw(header.number, header.time)
        return header

    def tagged(self, tag: str) -> Header | None:
        """The block that a tag (``safe``, ``finalized``) names now, or None where no endpoint knows the tag.

        Raises:
            ProviderError: no endpoint answers.
        """

        def question(endpoint: Endpoint, context: RequestContext) -> Header | None:
            try:
                return parse_header(endpoint.ask_one(Call(_GET_BLOCK, (tag, False)), context))
            except (TransientError, LaggingError, FatalError) as error:
                if error.code in _UNKNOWN_TAG_CODES:
                    return None
                raise

        return hedging.ask(self, self._promptness, question, _GET_BLOCK, attempts=_TAG_ATTEMPTS)

    def header(self, number: int) -> Header | None:
        """The header of a block by number, or None where the chain is not that long, or has no block of the number.

        A null for a block at or below the known head is asked again, here and elsewhere, before it is believed.

        Raises:
            ProviderError: no endpoint answers.
        """
        return self.headers([number]).get(number)

    def headers(self, numbers: Iterable[int]) -> dict[int, Header]:
        """The headers of several blocks, in batches to one endpoint.

        Blocks beyond the head are missing, and so are numbers that are proven to have no block.

        Raises:
            ProviderError: no endpoint answers.
        """
        # Of numbers above the newest block that is known, it does not matter why they are missing.
        return self._headers(numbers, prove_until=self.pool.best_head or 0)[0]

    def at_or_below(self, number: int) -> Header | None:
        """The newest block at or below a number, or None where the chain is not that long.

        Raises:
            ProviderError: no endpoint answers.
        """
        found, runs = self._headers([number])
        return found[number] if found else next((run.below for run in runs), None)

    def null_run(self, number: int) -> NullRun | None:
        """The run of numbers without a block that holds a number; None where it is not proven to be one.

        Raises:
            ProviderError: no endpoint answers.
        """
        return next(iter(self._headers([number])[1]), None)

    def _headers(
        self, numbers: Iterable[int], *, prove_until: int | None = None
    ) -> tuple[dict[int, Header], list[NullRun]]:
        wanted = sorted(set(numbers))
        if not wanted:
            return {}, []
        last: list[tuple[dict[int, Header], list[NullRun]]] = [({}, [])]
        head = self.pool.best_head

        def question(endpoint: Endpoint, context: RequestContext) -> tuple[dict[int, Header], list[NullRun]]:
            found, runs = last[0] = null_blocks.headers(endpoint, wanted, context, until=prove_until)
            for number in wanted:
                if number in found or head is None or number > head or any(run.holds(number) for run in runs):
                    continue
                raise LaggingError(f"it lacks block {number:,}, and the head is {head:,}", host=endpoint.host)
            return found, runs

        try:
            return hedging.ask(self, self._promptness, question, _GET_BLOCK, block=wanted[-1], attempts=_NULL_ATTEMPTS)
        except LaggingError:
            # Asked often enough: the chain has become shorter.
            return last[0]

    def block(self, number_or_hash: int | bytes, full: bool = False) -> dict[str, Any] | None:
        """A block as the node's own JSON, or None where it has none.

        Args:
            number_or_hash: the block's number, or its 32-byte hash.
            full: with whole transactions in place of their hashes.

        Raises:
            ProviderError: no endpoint answers.
        """
        if isinstance(number_or_hash, bytes):
            found = self._json(Call("eth_getBlockByHash", ("0x" + number_or_hash.hex(), full)), None)
        else:
            found = self._json(Call(_GET_BLOCK, (hex(number_or_hash), full)), number_or_hash)
        return None if found is None else dict(found)

    def receipts(self, number: int) -> list[dict[str, Any]]:
        """All receipts of a block as the node's own JSON (``eth_getBlockReceipts``).

        Raises:
            ProviderError: no endpoint answers; LaggingError where none has the block.
        """

        def question(endpoint: Endpoint) -> list[dict[str, Any]]:
            raw = endpoint.ask_one(Call("eth_getBlockReceipts", (hex(number),)), context)
            found = parse(
                raw, lambda text: msgspec.json.decode(text, type=list[dict[str, Any]] | None), "list of receipts"
            )
            if found is None:
                raise LaggingError(f"it has no receipts of block {number:,}", host=endpoint.host)
            return found

        context = RequestContext()
        return self.run(question, "eth_getBlockReceipts", block=number, context=context)

    def transaction_details(self, wanted: Sequence[transactions.DetailsRequest]) -> TransactionDetails:
        """The blocks, transactions and receipts that surround logs, from the fewest questions.

        What no node gives is named in ``missing``; all the rest is there. It waits for credits as history does, until
        :meth:`abort`.

        Raises:
            ProviderError: no endpoint answers at all.
        """
        reader = transactions.Reader(wanted)
        context = RequestContext(history=True)
        newest = max((one.number for one in wanted), default=0)

        def question(endpoint: Endpoint) -> None:
            try:
                reader.read(endpoint, context, whole_receipts=endpoint.host not in self._no_receipts)
            except FatalError as error:
                if endpoint.host in self._no_receipts or not transactions.is_missing_method(error):
                    raise
                self._no_receipts.add(endpoint.host)
                reader.read(endpoint, context, whole_receipts=False)

        failure: ProviderError | None = None
        for attempts in _ATTEMPTS_AT_DETAILS:
            if reader.is_done:
                break
            try:
                self.run(question, "eth_getTransactionReceipt", block=newest, context=context, attempts=attempts)
            except CreditsError:
                raise  # that says nothing of what is lacking
            except ProviderError as error:
                failure = error
                reader.split()
        if failure is not None and not reader.is_done:
            self.head()  # no endpoint answers at all: that says nothing of what is lacking
            reader.give_up(failure)
        return reader.found

    # -- logs

    def scan(
        self,
        ranges: Iterable[tuple[int, int]],
        filters: LogFilter | Sequence[LogFilter],
        *,
        in_flight: int = 4,
        stop: threading.Event | None = None,
    ) -> Iterator[LogChunk]:
        """Reads all matching logs of some block ranges that can no longer be reorganised.

        The width of the requests adapts; some requests are under way while the caller works on a chunk. Closing the
        iterator stops them.

        Args:
            ranges: inclusive ranges, not overlapping, in any order.
            filters: what to ask for: one filter, or several that travel together. A log that several match comes once.
            in_flight: the most requests under way at once.
            stop: ends the iteration early when set.

        Yields:
            Complete, checked chunks in ascending order, which together cover the ranges.

        Raises:
            ProviderError: a part could not be read within the bounds of retrying; what was yielded before stays good.
        """
        return iter(Scan(self, ranges, several(filters), in_flight=in_flight, stop=stop))

    def branch(
        self,
        first: int,
        last: int,
        filters: LogFilter | Sequence[LogFilter],
        *,
        parent_hash: bytes | None = None,
        blooms: bool = True,
        known: Sequence[Header] = (),
    ) -> branches.Branch:
        """Reads blocks that may still be reorganised: all headers and logs of a range, from one endpoint, consistent.

        A long list of addresses is asked for by topic alone where that moves fewer bytes: the answer may then hold logs
        of other addresses, too.

        Args:
            first: the first block.
            last: the last block.
            filters: what to ask for: one filter, several that travel together, or none for the headers alone.
            parent_hash: the hash that block ``first - 1`` must have, or None.
            blooms: whether the chain's blooms can be trusted: what a bloom holds and no log shows is asked for once
                more, by the block's hash; else each block without logs is.
            known: the headers of all of these blocks, each the parent of the next, the first a child of
                ``parent_hash``: only their logs are asked for, and only twice; any failure is the caller's.

        Raises:
            BranchMovedError: the chain moved meanwhile, or does not join ``parent_hash``: look again.
            ProviderError: no endpoint answers.
        """
        named = several(filters)
        wanted = self._head_questions.ask(named, self.at_most()[0], last - first + 1)
        mixed = set(wanted).difference(named)

        def read(endpoint: Endpoint, context: RequestContext, in_parts: bool = False) -> branches.Branch:
            return branches.read(
                endpoint, first, last, wanted, parent_hash, blooms, context, mixed=mixed, in_parts=in_parts
            )

        kind = kind_of(wanted)
        if known:

            def read_known(endpoint: Endpoint, context: RequestContext) -> branches.Branch:
                return known_blocks.read(endpoint, known, wanted, blooms, context, mixed=mixed)

            return hedging.ask(self, self._promptness, read_known, kind, block=last, attempts=_ATTEMPTS_AT_KNOWN)
        try:
            found = hedging.ask(self, self._promptness, read, kind, block=last)
        except RangeError:
            # In words that no table knows: the logs are asked for in fewer blocks, or by fewer addresses.
            found = hedging.ask(self, self._promptness, partial(read, in_parts=True), kind, block=last)
        except NoEndpointError:
            if kind == kind_of(named):
                raise
            self._head_questions.refused(named)
            return self.branch(first, last, named, parent_hash=parent_hash, blooms=blooms)
        self._head_questions.learn(wanted, found.logs, last - first + 1)
        return found

    def earliest_log(self, address: bytes, last: int, topics: Sequence[bytes] = ()) -> EarliestLog:
        """The first log of an address at or before a block, by one wide question, or narrower ones."""
        return earliest_log.find(self, address, last, topics)

    # -- calls

    def eth_call(self, to: bytes | str, data: bytes, block: int | str = "latest", *, gas: int | None = None) -> bytes:
        """Calls a contract without a transaction.

        Args:
            to: the contract, 20 bytes or hex.
            data: the call data.
            block: a block number or tag.
            gas: the gas to give it, or None for the node's own limit.

        Raises:
            CallReverted: the call was executed and reverted.
            ProviderError: no endpoint answers.
        """
        return contract_reads.call(self, to, data, block, gas=gas)

    def code(self, address: bytes | str, block: int | str = "latest") -> bytes:
        """The code at an address, empty where there is none; at a number without a block, that of the block before it.

        Raises:
            ProviderError: no endpoint answers.
        """
        return contract_reads.code(self, address, block)

    def multicall(self, calls: Sequence[tuple[bytes, bytes]], block: int, *, light: bool = False) -> list[CallResult]:
        """Many contract reads at one block, through Multicall3 where it stands, else call by call.

        Args:
            calls: pairs of address (20 bytes) and call data.
            block: the block number.
            light: whether no call needs more than 100,000 gas (a token's name, not a whole portfolio): one that fails
                without a word is then believed to revert, and not asked again alone.

        Returns:
            One result for each call, in order; a call that reverted has ``success`` False and the revert data, one that
            no node would run what the node said.

        Raises:
            WrongBlockError: the nodes ran the calls in another block.
            ProviderError: no endpoint answers.
        """
        return multicall.read(self, self._multicall, calls, block, light=light)

    def raw(self, method: str, params: Sequence[Any], *, block: int | None = None) -> Any:
        """Any other question, retried and failed over like the rest. Returns the result as decoded JSON.

        Raises:
            ProviderError: no endpoint answers.
        """
        return self._json(Call(method, params), block)

    def _json(self, call: Call, block: int | None) -> Any:
        context = RequestContext()
        return self.run(
            lambda endpoint: parse(endpoint.ask_one(call, context), msgspec.json.decode, "JSON"),
            call.method,
            block=block,
            context=context,
        )
