"""A stranger's bytes become the head of a request, checked by RFC 9112. Pure, and linear in the bytes.

Every port reads with this before any other parser sees a byte: a parser with one slow expression lets one client stop
the process. Each byte is looked at a fixed number of times, however the bytes are cut into pieces. What is checked
here has one meaning only, so that whatever parses the head behind this reader finds the same request in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

#: Bytes of a whole head.
MAX_HEAD_BYTES: Final = 32 * 1024
#: Bytes of the request line.
MAX_LINE_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 100
#: Lines without anything before a request, which some clients send behind a body.
MAX_EMPTY_LINES: Final = 4
#: Digits of a Content-Length; more digits are a length that no limit allows.
MAX_LENGTH_DIGITS: Final = 18

_ALPHANUMERIC: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN: Final = b"!#$%&'*+-.^_`|~" + _ALPHANUMERIC
#: Of a host's name: unreserved, sub-delims and percent-encoded.
_HOST: Final = b"-._~!$&'()*+,;=%" + _ALPHANUMERIC
_VISIBLE: Final = bytes(range(0x21, 0x7F))
#: Bytes that a field's value may hold.
FIELD_VALUE: Final = b"\t " + _VISIBLE + bytes(range(0x80, 0x100))
#: Bytes that may stand anywhere in a head.
_HEAD: Final = b"\r\n" + FIELD_VALUE
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"))

#: Every status of a refusal, and its reason.
REASONS: Final[Mapping[int, str]] = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}


class RefusedRequestError(Exception):
    """A request that is answered with an error and the end of its connection.

    Attributes:
        status: one of :data:`REASONS`.
        message: for a person; holds nothing that the client wrote.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A head that is whole and checked.

    Attributes:
        raw: its bytes as they came, without empty lines before them.
        method: one that is known here, in capitals.
        target: as it was sent.
        path: of the target, percent-encoded as sent; begins with ``/``, or is ``*``.
        query: of the target, without its question mark.
        version: ``1.0`` or ``1.1``.
        fields: (name in lower case, value) in their order, as latin-1.
        content_length: bytes of the body, 0 for none; of no meaning where ``is_chunked``.
        is_chunked: whether the body comes in chunks.
        closes: whether the connection ends with this request's answer.
        awaits_continue: whether the client sends its body only after it was told to.
    """

    raw: bytes
    method: str
    target: str
    path: str
    query: str
    version: str
    fields: tuple[tuple[str, str], ...]
    content_length: int
    is_chunked: bool
    closes: bool
    awaits_continue: bool

    def field(self, name: str) -> str | None:
        """All values of a field, joined with commas, or None.

        Args:
            name: in lower case.
        """
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None


class HeadReader:
    """Collects one head and checks each line of it as soon as it is there.

    Attributes:
        fields: (name in lower case, value) of the lines that were read so far.
        rest: once the head is whole: what came behind it.
    """

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.rest = b""
        self._received = bytearray()
        self._begin = 0  # of the head: empty lines may stand before it
        self._line = 0  # where the line begins that is not whole yet
        self._searched = 0
        self._request_line: _RequestLine | None = None

    @property
    def has_begun(self) -> bool:
        """Whether anything has come but empty lines."""
        return len(self._received) > self._begin

    @property
    def method(self) -> str:
        """The method, or nothing while it is not known."""
        return self._request_line.method if self._request_line else ""

    def feed(self, data: bytes) -> RequestHead | None:
        """Take bytes; returns the head when it is whole. Not to be called after that, nor after an error.

        Raises:
            RefusedRequestError: the bytes are no request, whatever may follow them.
        """
        received = self._received
        received += data
        while (end := received.find(b"\n", self._searched)) >= 0:
            line = bytes(received[self._line : end + 1])
            self._line = self._searched = end + 1
            if end >= MAX_HEAD_BYTES:
                raise self._too_long()
            if self._ends_with(line):
                self.rest = bytes(received[self._line :])
                return self._head()
        self._searched = len(received)
        if len(received) - self._begin > (MAX_HEAD_BYTES if self._request_line else MAX_LINE_BYTES):
            raise self._too_long()
        if bytes(received[max(self._line, len(received) - len(data)) :]).translate(None, _HEAD):
            raise RefusedRequestError(400, "the request holds a control character")
        return None

    def _too_long(self) -> RefusedRequestError:
        if self._request_line is None:
            return RefusedRequestError(414, f"the request line is longer than {MAX_LINE_BYTES} bytes")
        return RefusedRequestError(431, f"the request's head is longer than {MAX_HEAD_BYTES} bytes")

    def _ends_with(self, line: bytes) -> bool:
        """Read a line; returns whether it is the empty one that ends the head."""
        if line[-2:] != b"\r\n":
            raise RefusedRequestError(400, "a line does not end with carriage return and line feed")
        line = line[:-2]
        if self._request_line is None:
            if line:
                self._request_line = _request_line(line)
            else:
                self._begin = self._line
                if self._begin > 2 * MAX_EMPTY_LINES:
                    raise RefusedRequestError(400, "there are empty lines where a request should be")
            return False
        if not line:
            return True
        if len(self.fields) == MAX_FIELDS:
            raise RefusedRequestError(431, f"there are more than {MAX_FIELDS} header fields")
        self.fields.append(read_field(line))
        return False

    def _head(self) -> RequestHead:
        line = self._request_line
        assert line is not None
        fields = self.fields
        named = {name for name, _ in fields}
        hosts = [value for name, value in fields if name == "host"]
        if len(hosts) > 1 or (not hosts and line.version == "1.1"):
            raise RefusedRequestError(400, "exactly one Host is needed")
        for host in hosts:
            _check_authority(host.encode("latin-1"))
        if line.authority is not None:
            # The target's own host counts; the field is what a client had to send beside it.
            fields = [(name, value) for name, value in fields if name != "host"] + [("host", line.authority)]
        connection = _list_of(fields, "connection") if "connection" in named else ()
        is_chunked = "transfer-encoding" in named and _is_chunked(fields, line.version)
        expects = _list_of(fields, "expect") if "expect" in named else ()
        return RequestHead(
            raw=bytes(self._received[self._begin : self._line]),
            method=line.method,
            target=line.target,
            path=line.path,
            query=line.query,
            version=line.version,
            fields=tuple(fields),
            content_length=_content_length(fields) if "content-length" in named else 0,
            is_chunked=is_chunked,
            closes="close" in connection or (line.version == "1.0" and "keep-alive" not in connection),
            awaits_continue=line.version == "1.1" and "100-continue" in expects,
        )


@dataclass(frozen=True, slots=True)
class _RequestLine:
    method: str
    target: str
    path: str
    query: str
    authority: str | None
    version: str


def _request_line(line: bytes) -> _RequestLine:
    if len(line) > MAX_LINE_BYTES:
        raise RefusedRequestError(414, f"the request line is longer than {MAX_LINE_BYTES} bytes")
    parts = line.split(b" ", 3)
    if len(parts) != 3:
        raise RefusedRequestError(400, "the first line is not a method, a target and a version with one blank between")
    method, target, version = parts
    if not method or method.translate(None, _TOKEN):
        raise RefusedRequestError(400, "the method is no token")
    if (
        len(version) != 8
        or version[:5] != b"HTTP/"
        or not (version[5:6] + version[7:]).isdigit()
        or version[6:7] != b"."
    ):
        raise RefusedRequestError(400, "the first line does not end with a version of HTTP")
    if version[5:6] != b"1":
        raise RefusedRequestError(505, "HTTP/1.1 and HTTP/1.0 are spoken here")
    if method not in _METHODS:
        raise RefusedRequestError(501, "this method is not known here")
    if target.translate(None, _VISIBLE) or b"#" in target:
        raise RefusedRequestError(400, "the target holds a character that must be percent-encoded")
    authority, path = _split_target(method, target)
    path, _, query = path.partition(b"?")
    return _RequestLine(
        method=method.decode(),
        target=target.decode(),
        path=(path or b"/").decode(),
        query=query.decode(),
        authority=None if authority is None else authority.decode(),
        # Later minor versions are read as the last one that is known (RFC 9110, 2.5).
        version="1.0" if version[7:] == b"0" else "1.1",
    )


def _split_target(method: bytes, target: bytes) -> tuple[bytes | None, bytes]:
    """The authority of an absolute target, and the path with the query."""
    if target[:1] == b"/":
        return None, target
    if target == b"*" and method == b"OPTIONS":
        return None, target
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise RefusedRequestError(400, "the target is neither a path nor a URL with http:// or https://")
    ends = [place for place in (rest.find(b"/"), rest.find(b"?")) if place >= 0]
    end = min(ends, default=len(rest))
    authority = rest[:end]
    if not authority:
        raise RefusedRequestError(400, "the target has no host")
    _check_authority(authority)
    return authority, rest[end:]


def _check_authority(authority: bytes) -> None:
    """Refuse what is no host with or without a port; nothing at all is allowed (a field Host without a value)."""
    if authority[:1] == b"[":
        host, mark, rest = authority[1:].partition(b"]")
        good = mark == b"]" and (not rest or rest[:1] == b":") and _is_ipv6(host)
        port = rest[1:]
    else:
        host, _, port = authority.partition(b":")
        good = len(host) <= 255 and not host.translate(None, _HOST)
    if not good or (port and not (len(port) <= 5 and port.isdigit() and int(port) < 65536)):
        raise RefusedRequestError(400, "the host is no name or address with or without a port")


def _is_ipv6(host: bytes) -> bool:
    if len(host) > 45 or b"%" in host:
        return False
    try:
        IPv6Address(host.decode())
    except ValueError:
        return False
    return True


def read_field(line: bytes) -> tuple[str, str]:
    """Read a header field's line, without its end, as (name in lower case, value).

    Raises:
        RefusedRequestError: it is none.
    """
    if line[:1] in (b" ", b"\t"):
        raise RefusedRequestError(400, "a header field goes on in a further line")
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, _TOKEN):
        raise RefusedRequestError(400, "a header field has no name, or a blank in it")
    value = value.strip(b" \t")
    if value.translate(None, FIELD_VALUE):
        raise RefusedRequestError(400, "the value of a header field holds a control character")
    return name.lower().decode(), value.decode("latin-1")


def _list_of(fields: list[tuple[str, str]], name: str) -> list[str]:
    """The members of a field that is a comma list, in lower case."""
    return [member.strip(" \t").lower() for key, value in fields if key == name for member in value.split(",")]


def _content_length(fields: list[tuple[str, str]]) -> int:
    values = [value for name, value in fields if name == "content-length"]
    if len(values) > 1 or not values[0].isascii() or not values[0].isdigit():
        raise RefusedRequestError(400, "Content-Length must be one number")
    if len(values[0]) > MAX_LENGTH_DIGITS:
        raise RefusedRequestError(413, "the request's body is too large")
    return int(values[0])


def _is_chunked(fields: list[tuple[str, str]], version: str) -> bool:
    if version == "1.0":
        raise RefusedRequestError(400, "HTTP/1.0 knows no Transfer-Encoding")
    if any(name == "content-length" for name, _ in fields):
        raise RefusedRequestError(400, "Content-Length and Transfer-Encoding exclude each other")
    codings = _list_of(fields, "transfer-encoding")
    if codings == ["chunked"]:
        return True
    if not all(codings) or codings.count("chunked") > 1 or "chunked" in codings[:-1]:
        raise RefusedRequestError(400, "Transfer-Encoding must end with chunked, once")
    raise RefusedRequestError(501, "no Transfer-Encoding but chunked is known here")
