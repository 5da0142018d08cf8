"""The state of a request: how far its chain and its collection are indexed, in the same snapshot as its rows.

From it come the answer's ``meta``, its ETag and how long it may be kept, and the refusals that depend on what is
indexed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

from api.database import Database
from api.errors import ApiError
from api.sql import status
from indexer.intervals import RangeSet

#: Part of every ETag: to be changed when the same data is rendered differently.
FORMAT_VERSION: Final = "2"
#: Most ranges that ``missing`` lists.
MOST_MISSING: Final = 100

_RANGE: Final = re.compile(r"\[(\d+),(\d+)\)")


def refuse_stalled(database: Database) -> None:
    """Refuses to be ready while the head of a chain stands still.

    Raises:
        ApiError: NOT_READY; DATABASE_UNAVAILABLE and the like.
    """
    if still := orjson.loads(database.query(status.STALLED)[0][0] or b"[]"):
        raise ApiError("NOT_READY", f"no new block is indexed of {', '.join(still)}", retry_after=5)


def refuse_full(database: Database) -> None:
    """Refuses to be ready while no block is indexed since Postgres' disk is full.

    Raises:
        ApiError: NOT_READY; DATABASE_UNAVAILABLE and the like.
    """
    if is_full(database):
        raise ApiError("NOT_READY", "no new block is indexed: the database's disk is full", retry_after=5)


def is_full(database: Database) -> bool:
    """Whether blocks find no room on Postgres' disk."""
    return database.query(status.DISK_FULL)[0][0] == b"t"


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What one snapshot of the database says about balances.

    Attributes:
        ledgers: contract, kind, at_block, stale and remark of the ledger of a token; of those that an address may be
            in, only those that are stale or have not come as far as the request.
        through: the block up to which all that are to count on have counted; None: there is nothing yet.
        furthest: the block up to which the one that has come furthest has counted; None: there is no ledger.
        uncounted: tokens of the request that none of them counts.
        of_token: whether it is about one token.
        problem: why the balances of that token do not follow from its transfers, as far as known.
        noted: changes when an audit finds something.
    """

    ledgers: tuple[dict[str, Any], ...]
    through: int | None
    furthest: int | None
    uncounted: tuple[str, ...]
    of_token: bool
    problem: str | None
    noted: tuple[Any, ...]

    @classmethod
    def read(cls, body: dict[str, Any]) -> "LedgerState | None":
        """Read what :mod:`api.sql.balances` adds to a state."""
        if "ledgers" not in body:
            return None
        return cls(
            ledgers=tuple(body["ledgers"]),
            through=body["through"],
            furthest=body["furthest"],
            uncounted=tuple(body.get("uncounted") or ()),
            of_token="problem" in body,
            problem=body.get("problem"),
            noted=tuple(body["noted"]),
        )

    def meta(self, last: int | None) -> dict[str, Any]:
        """What it adds to the member ``meta`` of an answer; ``last`` is the last block that is asked for."""
        meta: dict[str, Any] = {
            "at_block": None if self.through is None or last is None else min(self.through, last),
            "ledgers": list(self.ledgers),
        }
        return meta | ({"exact": self.problem is None, "problem": self.problem} if self.of_token else {})


@dataclass(frozen=True, slots=True)
class State:
    """What one snapshot of the database says about a request.

    Attributes:
        head: newest block that the nodes reported.
        indexed: newest block that is indexed, by the follower or, without one, by backfill.
        safe, finalized: newest block that is so.
        lag: seconds between the indexed block and the chain's newest, as far as known.
        first, last: the blocks that are asked for; ``last`` is None while nothing is indexed, and -1 where only blocks
            are asked for that are final while none is known to be.
        ends: the block at which the request itself says that it ends, wherever that is; None: it says nothing, or a
            time that the chain has not reached.
        span: how many blocks a query without an index looks through.
        missing: the blocks of ``first`` to ``last`` that are wanted but not indexed; None if no source feeds the
            collection.
        versions: what changes with every added row, and what changes when finalized rows change.
        cursor: what was found about an outdated cursor, or None.
        held: of balances: which ledgers tell.
        filtered: the events of which the manifest wants but a part, where the collection is one of many events.
        tip_hash: the beginning of the hash of the newest block that the follower has.
        days: of days: the first and the last that the answer can tell of, which blocks of other contracts change.
    """

    head: int | None
    indexed: int | None
    safe: int | None
    finalized: int | None
    lag: int | None
    first: int
    last: int | None
    span: int | None
    missing: RangeSet | None
    versions: tuple[int, int]
    cursor: dict[str, int | None] | None
    tip_hash: str | None
    filtered: tuple[str, ...] = ()
    held: LedgerState | None = None
    ends: int | None = None
    days: str | None = None

    @classmethod
    def read(cls, text: bytes) -> "State":
        """Read what :func:`api.sql.scope.state` makes."""
        body: dict[str, Any] = orjson.loads(text)
        return cls(
            head=body["head"],
            indexed=body["indexed"],
            safe=body["safe"],
            finalized=body["finalized"],
            lag=body["lag"],
            first=body["first"],
            last=body["last"],
            span=body["span"],
            missing=ranges(body["missing"]) if body["sources"] else None,
            versions=(int(body["version"] or 0), int(body["rewrite"] or 0)),
            cursor=body.get("cursor"),
            tip_hash=body["tip_hash"],
            filtered=tuple(body.get("filtered") or ()),
            held=LedgerState.read(body),
            ends=body["ends"],
            days=body.get("days"),
        )

    @property
    def complete(self) -> bool:
        """Whether every wanted block of the request is indexed; none is where it is not known yet what is final."""
        return self.missing == () and self.last is not None and self.last >= 0

    def settled(self, explicit_end: bool) -> bool:
        """Whether the answer can only change by a rewrite: all its blocks are finalized and indexed.

        Args:
            explicit_end: whether the request itself says at which block it ends.
        """
        if not explicit_end or self.ends is None or self.last is None or self.finalized is None:
            return False
        # Not its last block alone: with ``finality=finalized`` that is final wherever the request ends, and moves on.
        return self.complete and self.last <= self.finalized and self.ends <= self.finalized

    def headers(self) -> dict[str, str]:
        """What ``meta`` says, as the headers of an export.

        ``X-Complete`` and ``X-Indexed-Block``; for balances ``X-At-Block`` and, for those of one token, ``X-Exact``.
        """
        headers = {
            "X-Complete": "true" if self.complete else "false",
            "X-Indexed-Block": "" if self.indexed is None else str(self.indexed),
        }
        if self.held:
            at_block = self.held.meta(self.last)["at_block"]
            headers["X-At-Block"] = "" if at_block is None else str(at_block)
            if self.held.of_token:
                headers["X-Exact"] = "false" if self.held.problem else "true"
        return headers

    def etag(self, explicit_end: bool, *salt: object) -> str:
        """The entity tag of the answer: equal as long as the answer is.

        A settled answer depends on the table's rewrite version only, any other on the tip too. Weak, because ``meta``
        of a settled answer still names the head at which it was made.

        Args:
            explicit_end: as in :meth:`settled`.
            salt: whatever else the answer depends on, such as the catalog's version and the format.
        """
        settled = self.settled(explicit_end)
        parts = (
            (self.first, self.last, self.versions[1])
            if settled
            else (
                self.first,
                self.last,
                self.versions,
                self.head,
                self.indexed,
                self.tip_hash,
                self.safe,
                self.finalized,
                self.missing,
                self._silence(),
            )
        )
        digest = blake2b(repr((FORMAT_VERSION, settled, parts, self.held, self.days, salt)).encode(), digest_size=12)
        return f'W/"{digest.hexdigest()}"'

    def _silence(self) -> int:
        """How far behind it is, roughly: 0 within a minute, then one more each time that it has doubled.

        An indexer that stands still changes nothing but ``lag_seconds``. A request with a tag has to be told of it,
        but not every second: else no answer was ever a 304.
        """
        return ((self.lag or 0) // 60).bit_length()

    def meta(self, chain_id: int) -> dict[str, Any]:
        """The member ``meta`` of an answer."""
        missing = self._missing_or_all()
        meta: dict[str, Any] = {
            "chain_id": chain_id,
            "indexed_block": self.indexed,
            "head_block": self.head,
            "finalized_block": self.finalized,
            "lag_seconds": self.lag,
            "complete": self.complete,
            "missing": missing[:MOST_MISSING],
        }
        if len(missing) > MOST_MISSING:
            meta["missing_ranges"] = len(missing)
        if self.filtered:
            meta["filtered"] = list(self.filtered)
        if self.held:
            meta |= self.held.meta(self.last)
        return meta

    def _missing_or_all(self) -> Sequence[tuple[int, int]]:
        if self.missing is not None:
            return self.missing
        return ((self.first, self.last),) if self.last is not None and self.first <= self.last else ()

    def require_cursor(self) -> None:
        """Refuse a cursor whose block is not there any more.

        Raises:
            ApiError: REORGED with the last common block, or INVALID_CURSOR if the block was never there.
        """
        if self.cursor is None:
            return
        common = self.cursor["common_block"]
        if common is None:
            raise ApiError("INVALID_CURSOR", "the cursor names a block that was never indexed here")
        raise ApiError(
            "REORGED",
            f"the cursor's block was reorganised away: what came after block {common} has changed, read it again",
            extra={"common_block": common},
        )

    def has_come_to(self, block: int | None) -> bool:
        """Whether a block is indexed; where balances are asked for, whether it is counted too. None always is."""
        newest = self.held.through if self.held else self.indexed
        return block is None or (newest is not None and block <= newest)

    def require_block(self, block: int | None, parameter: str | None = None) -> None:
        """Refuse to answer as of a block that is not indexed.

        Args:
            block: the block.
            parameter: which names it; None: the path does.

        Raises:
            ApiError: BLOCK_NOT_INDEXED.
        """
        if not self.has_come_to(block):
            newest = "nothing is indexed yet" if self.indexed is None else f"the newest indexed block is {self.indexed}"
            if self.held:
                newest = f"balances are counted up to block {self.held.through}"
            asked = f"block {block}" if parameter is None else f"{parameter}={block}"
            raise ApiError("BLOCK_NOT_INDEXED", f"{asked} is not indexed yet: {newest}", retry_after=1)

    def require_window(self, window: int, reason: str) -> None:
        """Refuse a query without an index that looks through too many blocks.

        Args:
            window: most blocks allowed.
            reason: which filter has no index.

        Raises:
            ApiError: QUERY_TOO_EXPENSIVE.
        """
        if self.span is not None and self.span > window:
            raise ApiError(
                "QUERY_TOO_EXPENSIVE",
                f"{reason}: ask for at most {window} blocks at once (from_block, to_block); these are {self.span}",
            )


def ranges(text: str | None) -> RangeSet:
    """Inclusive ranges out of the text of a bounded int8multirange."""
    return tuple((int(first), int(end) - 1) for first, end in _RANGE.findall(text or ""))
