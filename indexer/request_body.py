"""The body of a request, after its head: by length or in chunks. Pure, bounded, and linear in the bytes."""

from typing import Final

from indexer.request_head import FIELD_VALUE, RefusedRequestError, RequestHead, read_field

#: Bytes of the line that begins a chunk, and of all lines behind the last chunk.
MAX_CHUNK_LINE_BYTES: Final = 256
MAX_TRAILER_BYTES: Final = 8 * 1024
_HEX: Final = b"0123456789abcdefABCDEF"


class BodyReader:
    """Collects the body that a head announced.

    Args:
        head: of the request.
        most: bytes that may come, the lines between chunks included.

    Attributes:
        content: what has come of the body.
        is_whole: whether all has come.

    Raises:
        RefusedRequestError: the announced length is beyond ``most``.
    """

    def __init__(self, head: RequestHead, most: int) -> None:
        self.content = bytearray()
        self._most = most
        self._is_chunked = head.is_chunked
        self._received = 0
        self._line = bytearray()
        self._trailer = 0
        # Bytes until something else comes; of chunks None while a line is expected.
        self._left: int | None = None if head.is_chunked else head.content_length
        self._ended_chunk = False
        self._ended_last_chunk = False
        self.is_whole = not head.is_chunked and not head.content_length
        if not head.is_chunked and head.content_length > most:
            raise self._too_large()

    def feed(self, data: bytes) -> int:
        """Take bytes; returns how many belong to this body.

        Raises:
            RefusedRequestError: the chunks are malformed, or too long.
        """
        place = 0
        while place < len(data) and not self.is_whole:
            if self._left is None:
                place = self._read_line(data, place)
            else:
                piece = data[place : place + self._left]
                self.content += piece
                place += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._end_piece()
            if self._received + place > self._most:
                raise self._too_large()
        self._received += place
        return place

    def _too_large(self) -> RefusedRequestError:
        return RefusedRequestError(413, f"the request's body is longer than {self._most} bytes")

    def _end_piece(self) -> None:
        if self._is_chunked:
            self._left = None
            self._ended_chunk = True
        else:
            self.is_whole = True

    def _read_line(self, data: bytes, place: int) -> int:
        end = data.find(b"\n", place)
        most = MAX_TRAILER_BYTES if self._ended_last_chunk else MAX_CHUNK_LINE_BYTES
        stop = len(data) if end < 0 else end + 1
        if len(self._line) + stop - place > most:
            raise RefusedRequestError(400, "a line between chunks is too long")
        self._line += data[place:stop]
        if end >= 0:
            line = bytes(self._line)
            self._line.clear()
            if line[-2:] != b"\r\n":
                raise RefusedRequestError(400, "a line between chunks does not end with carriage return and line feed")
            self._take_line(line[:-2])
        return stop

    def _take_line(self, line: bytes) -> None:
        if self._ended_chunk:
            if line:
                raise RefusedRequestError(400, "a chunk is longer than it says")
            self._ended_chunk = False
        elif self._ended_last_chunk:
            self._trailer += len(line) + 2
            if self._trailer > MAX_TRAILER_BYTES:
                raise RefusedRequestError(400, "too much comes behind the last chunk")
            if line:
                read_field(line)
            else:
                self.is_whole = True
        else:
            size, semicolon, extension = line.partition(b";")
            size = size.rstrip(b" \t") if semicolon else size
            if not size or len(size) > 16 or size.translate(None, _HEX) or extension.translate(None, FIELD_VALUE):
                raise RefusedRequestError(400, "a chunk does not begin with its size")
            self._left = int(size, 16) or None
            self._ended_last_chunk = self._left is None
