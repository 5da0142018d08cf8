"""A stranger's bytes become a head and a body, however they are cut into pieces."""

import random

import pytest

from indexer.request_body import MAX_CHUNK_LINE_BYTES, BodyReader
from indexer.request_head import (
    MAX_EMPTY_LINES,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_LINE_BYTES,
    REASONS,
    HeadReader,
    RefusedRequestError,
    RequestHead,
)

SIMPLE = b"GET /v1/events?limit=1 HTTP/1.1\r\nHost: x\r\n\r\n"


def read(data: bytes, *sizes: int) -> tuple[RequestHead, bytes]:
    """The head, and what came behind it; in pieces of these sizes, the last of which goes on."""
    reader, place, turn = HeadReader(), 0, 0
    while place < len(data):
        size = sizes[min(turn, len(sizes) - 1)] if sizes else len(data)
        head = reader.feed(data[place : place + size])
        place, turn = place + size, turn + 1
        if head:
            return head, reader.rest + data[place:]
    raise AssertionError("there was no end")


def refused(data: bytes) -> int:
    with pytest.raises(RefusedRequestError) as caught:
        read(data)
    assert caught.value.status in REASONS
    return caught.value.status


def with_fields(*fields: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\nHost: x\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def test_a_head_is_taken_apart():
    head, rest = read(b"\r\n" + SIMPLE.replace(b"\r\n\r\n", b"\r\nA:\t b c \r\na: d\r\n\r\n") + b"{}")
    assert (head.method, head.target, head.path, head.query) == ("GET", "/v1/events?limit=1", "/v1/events", "limit=1")
    assert head.fields == (("host", "x"), ("a", "b c"), ("a", "d"))
    assert head.field("a") == "b c, d"
    assert head.field("b") is None
    assert (head.version, head.content_length, head.is_chunked, head.closes) == ("1.1", 0, False, False)
    assert head.raw.startswith(b"GET ")
    assert head.raw.endswith(b"\r\n\r\n")
    assert rest == b"{}"


def test_pieces_make_no_difference():
    made = random.Random(4)
    data = with_fields(b"A: b", b"Content-Length: 2", b"Connection: close") + b"{}GET"
    whole = read(data)
    assert whole[1] == b"{}GET"
    assert read(data, 1) == whole
    for _ in range(200):
        assert read(data, *[made.randint(1, 9) for _ in data]) == whole


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"http://a.example", "/", "", "a.example"),
        (b"HTTPS://a:80?b=/c", "/", "b=/c", "a:80"),
        (b"http://[2001:db8::1]:8080/v1?x", "/v1", "x", "[2001:db8::1]:8080"),
        (b"/?", "/", "", "x"),
        (b"//a?b?c", "//a", "b?c", "x"),
    ],
)
def test_targets(target, path, query, host):
    head, _ = read(SIMPLE.replace(b"/v1/events?limit=1", target))
    assert (head.path, head.query, head.field("host")) == (path, query, host)


def test_a_star_is_for_options():
    assert read(SIMPLE.replace(b"GET /v1/events?limit=1", b"OPTIONS *"))[0].path == "*"
    assert refused(SIMPLE.replace(b"/v1/events?limit=1", b"*")) == 400


@pytest.mark.parametrize(("version", "field", "closes"), [
    (b"1.1", b"A: b", False), (b"1.1", b"Connection: close", True), (b"1.1", b"Connection: TE , Close", True),
    (b"1.1", b"Connection: closed", False), (b"1.1", b"Connection: keep-alive", False), (b"1.0", b"A: b", True),
    (b"1.0", b"Connection: Keep-Alive", False), (b"1.0", b"Connection: keep-alive, close", True),
    (b"1.9", b"A: b", False),
])  # fmt: skip
def test_which_request_ends_its_connection(version, field, closes):
    assert read(with_fields(field, version=version))[0].closes is closes


def test_only_the_clients_of_1_1_are_told_to_continue():
    asked = b"Expect: 100-Continue"
    assert read(with_fields(asked, version=b"1.1"))[0].awaits_continue
    assert not read(with_fields(asked, version=b"1.0"))[0].awaits_continue
    assert not read(with_fields(b"Expect: other"))[0].awaits_continue


def test_bounds():
    line = b"GET /" + b"a" * MAX_LINE_BYTES
    assert refused(line) == refused(line + b" HTTP/1.1\r\n") == 414
    assert refused(with_fields(*[b"A: b"] * MAX_FIELDS)) == 431  # Host is one more
    assert read(with_fields(*[b"A: b"] * (MAX_FIELDS - 1)))
    assert refused(with_fields(b"A: " + b"b" * MAX_HEAD_BYTES)) == 431
    assert refused(SIMPLE[:-2] + b"A: " + b"b" * MAX_HEAD_BYTES) == 431
    assert read(with_fields(b"A: " + b"b" * (MAX_HEAD_BYTES - 200)))
    assert read(b"\r\n" * MAX_EMPTY_LINES + SIMPLE)
    assert refused(b"\r\n" * (MAX_EMPTY_LINES + 1)) == 400


@pytest.mark.parametrize("byte", [*range(9), *range(11, 32), 127])
def test_control_characters_are_refused_before_the_line_is_whole(byte):
    if byte == 13:
        return
    for begin in (b"", b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nA: b"):
        assert refused(begin + bytes([byte])) == 400


@pytest.mark.parametrize("place", range(len(SIMPLE)))
def test_no_byte_may_be_a_carriage_return_or_line_feed_alone(place):
    for byte in (b"\r", b"\n"):
        changed = SIMPLE[:place] + byte + SIMPLE[place + 1 :]
        if changed == SIMPLE:
            continue
        with pytest.raises((RefusedRequestError, AssertionError)):
            read(changed)


@pytest.mark.parametrize(("fields", "status"), [
    ([b"Content-Length: 1", b"Content-Length: 1"], 400), ([b"Content-Length: 1,1"], 400),
    ([b"Content-Length: 0x1"], 400), ([b"Content-Length: 1_0"], 400), ([b"Content-Length: 1 1"], 400),
    ([b"Content-Length: " + b"0" * 19], 413), ([b"Transfer-Encoding: chunked", b"Content-Length: 1"], 400),
    ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400), ([b"Transfer-Encoding: ,"], 400),
    ([b"Transfer-Encoding: chunked;a=b"], 501), ([b"Transfer-Encoding: identity"], 501),
    ([b"Transfer-Encoding: gzip"], 501), ([b"Transfer-Encoding: chunked, identity"], 400),
])  # fmt: skip
def test_lengths_that_could_be_read_in_two_ways(fields, status):
    assert refused(with_fields(*fields)) == status


@pytest.mark.parametrize("host", [b"a b", b"a/b", b"a@b", b"[::1", b"[::1]a", b"[::g]", b"a:b", b"a:65536", b"a:1:2",
                                  b"[v1.a]", b"[fe80::1%25eth0]", b"a" * 256, b"\xe9"])  # fmt: skip
def test_hosts_that_are_none(host):
    assert refused(SIMPLE.replace(b"Host: x", b"Host: " + host)) == 400


CHUNKED = read(with_fields(b"Transfer-Encoding: chunked"))[0]


def body_of(head: RequestHead, data: bytes, size: int, most: int = 1000) -> tuple[bytes, bytes]:
    """The body, and what came behind it, in pieces of this size."""
    reader = BodyReader(head, most)
    place = 0
    while not reader.is_whole:
        assert place < len(data), "there was no end"
        piece = data[place : place + size]
        place += reader.feed(piece)
    return bytes(reader.content), data[place:]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_bodies(size):
    assert body_of(read(with_fields(b"Content-Length: 3"))[0], b"abcGET", size) == (b"abc", b"GET")
    data = b'3\r\nabc\r\n00A;a="\\"\r\n0123456789\r\n0\r\nA: b\r\n\r\n'
    assert body_of(CHUNKED, data + b"GET", size) == (b"abc0123456789", b"GET")
    assert BodyReader(read(SIMPLE)[0], 0).is_whole


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(("data", "status"), [
    (b"x\r\n", 400), (b"\r\n", 400), (b"-1\r\n", 400), (b"0x1\r\n", 400), (b"1 \r\n", 400), (b"1\na\n0\n\n", 400),
    (b"1\r\nab\r\n", 400), (b"1\r\na\n", 400), (b"1;\x00\r\n", 400), (b"0" * 300, 400), (b"0\r\nno field\r\n\r\n", 400),
    (b"1" * 17 + b"\r\n", 400), (b"0\r\n" + b"A: b\r\n" * 2000, 400), (b"F" * 16 + b"\r\n" + b"a" * 1001, 413),
    (b"1\r\na\r\n" * 200, 413), (b"1;" + b"a" * MAX_CHUNK_LINE_BYTES + b"\r\n", 400),
])  # fmt: skip
def test_chunks_that_are_none(data, status, size):
    with pytest.raises(RefusedRequestError) as caught:
        body_of(CHUNKED, data, size, most=100_000 if status == 400 else 1000)
    assert caught.value.status == status


def test_a_body_that_is_announced_too_long_is_refused_at_once():
    with pytest.raises(RefusedRequestError) as caught:
        BodyReader(read(with_fields(b"Content-Length: 1001"))[0], 1000)
    assert caught.value.status == 413


class Counted(bytearray):
    """Counts the bytes that are searched."""

    searched = 0

    def find(self, wanted, begin=0):  # type: ignore[override]
        end = super().find(wanted, begin)
        self.searched += (len(self) if end < 0 else end + 1) - begin
        return end


@pytest.mark.promise("S-13")
@pytest.mark.parametrize("size", [1, 100])
def test_each_byte_is_searched_once_however_it_comes(size):
    data = with_fields(b"A: " + b"b" * 10_000, *[b"C: d"] * 90)
    reader = HeadReader()
    reader._received = counted = Counted()
    for place in range(0, len(data), size):
        reader.feed(data[place : place + size])
    assert counted.searched <= len(data)
