"""Positions in a chain's order of events, and the tokens that name them.

Events of a chain have one order: (block, log index). A row's id writes it as ``17009997-12``; where one log holds
several items (an ERC-1155 batch) the item follows: ``17009997-12-3``. A cursor is an id that may also carry the
beginning of the block's hash, ``17009997-12.9f2c41d07be3``: above ``finalized`` that is how a reorganisation between
two pages is noticed. Cursors need no server state and never expire.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

#: Bytes of a block hash that a cursor carries: enough that two branches of one height never share them by chance.
HASH_BYTES: Final = 6

#: The largest item that a position can have.
MAX_ITEM: Final = 2**31 - 1

#: The log of a position behind all logs of its block: none has this index.
END_OF_BLOCK: Final = 2**63 - 1

_MAX_BIGINT: Final = 2**63 - 1
_NUMBER: Final = r"(0|[1-9][0-9]{0,18})"
_ID: Final = re.compile(rf"{_NUMBER}-{_NUMBER}(?:-{_NUMBER})?")
_CURSOR: Final = re.compile(rf"{_NUMBER}-{_NUMBER}(?:-{_NUMBER})?(?:\.([0-9a-f]{{{2 * HASH_BYTES}}}))?")


class CursorError(ValueError):
    """A text that is no position."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a chain's order of events.

    Attributes:
        block: number of the block.
        log: index of the log in its block.
        item: which item of the log, or None where a log is one row.
        branch: the first :data:`HASH_BYTES` of the block's hash, or None where the block cannot change any more.
    """

    block: int
    log: int
    item: int | None = None
    branch: bytes | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id or a cursor.

        Raises:
            CursorError: if it is neither.
        """
        return cls._match(_CURSOR, text, "a row's id such as 17009997-12, or page.next or page.prev as they were given")

    @classmethod
    def parse_id(cls, text: str) -> Self:
        """Read a row's id.

        Raises:
            CursorError: if it is none.
        """
        return cls._match(_ID, text, "a row's id, such as 17009997-12: its block and log index")

    @classmethod
    def _match(cls, pattern: re.Pattern[str], text: str, allowed: str) -> Self:
        match = pattern.fullmatch(text)
        if not match:
            raise CursorError(f"must be {allowed}")
        block, log = int(match[1]), int(match[2])
        item = int(match[3]) if match[3] else None
        if block > _MAX_BIGINT or log > _MAX_BIGINT or (item or 0) > MAX_ITEM:
            raise CursorError("is beyond every block or log that there can be")
        branch = match[4] if pattern is _CURSOR else None
        return cls(block, log, item, bytes.fromhex(branch) if branch else None)

    @property
    def id(self) -> str:
        """The position as a row's id, without the branch."""
        return f"{self.block}-{self.log}" + (f"-{self.item}" if self.item is not None else "")

    def __str__(self) -> str:
        return self.id + (f".{self.branch.hex()}" if self.branch else "")
