"""What a stranger's bytes can do to the ports: be answered or refused, soon, and the connection is closed."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.integration.api.ports import PORTS, Ports, all_ports, statuses


@pytest.fixture(scope="module")
def ports(copy_world: Callable[[], str]) -> Iterator[Ports]:
    with all_ports(copy_world()) as ports:
        yield ports


HOST = b"Host: x\r\n"
#: Bytes on which backtracking expressions and quadratic loops spend seconds or hours.
SLOW = {
    "digits of a URL's host": b"GET a://" + b"1" * 15_000 + b" x\r\n" + HOST + b"\r\n",
    "blanks of a value": b"GET / HTTP/1.1\r\n" + HOST + b"A:" + b" " * 31_000 + b"\x01\r\n\r\n",
    "words of a value": b"GET / HTTP/1.1\r\n" + HOST + b"A:" + b" a" * 15_000 + b"\x01\r\n\r\n",
    "tabs of a value": b"GET / HTTP/1.1\r\n" + HOST + b"A:" + b"\t " * 15_000 + b"\x7f\r\n\r\n",
    "a long name": b"GET / HTTP/1.1\r\n" + HOST + b"A" * 31_000 + b"\r\n\r\n",
    "folded lines": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" + b" c\r\n" * 7_000 + b"\r\n",
    "many fields": b"GET / HTTP/1.1\r\n" + HOST + b"A:\r\n" * 7_000 + b"\r\n",
    "empty lines": b"\r\n" * 16_000,
    "blanks of the first line": b"GET" + b" " * 16_000 + b"/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "escapes of a chunk's extension": b"POST /v1 HTTP/1.1\r\nConnection: close\r\n"
    + HOST
    + b"Transfer-Encoding: chunked"
    b'\r\n\r\n1;a="' + b"\\a" * 40 + b"\r\na\r\n0\r\n\r\n",
    "a chunk's size": b"POST /v1 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 30_000,
    "digits of a length": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 31_000 + b"\r\n\r\n",
    "codings": b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: " + b"a," * 15_000 + b"chunked\r\n\r\n",
    "an unfinished line": b"GET /" + b"a" * 32_000,
    "no line at all": b"\x00" * 32_000,
}


@pytest.mark.promise("S-13")
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("name", SLOW)
def test_the_worst_bytes_cost_next_to_nothing(ports, port, name):
    before = ports.cpu()
    answer = ports.exchange(port, SLOW[name])
    # Milliseconds; with a quadratic or exponential expression in the way it would be seconds, or no answer at all.
    assert ports.cpu() - before < 3
    assert 400 <= statuses(answer)[0] < 500 or statuses(answer) == [501]


#: What is no request by RFC 9112, or more than is taken, and how it is refused.
WRONG = {
    "no version": (b"GET /\r\n\r\n", 400),
    "a word": (b"nonsense\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    "HTTP/11": (b"GET / HTTP/11\r\n" + HOST + b"\r\n", 400),
    "a version in lower case": (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    "a method in lower case": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "an unknown method": (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "a method that is no token": (b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tab in the first line": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a bracket": (b"GET http://[ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a bracket more": (b"GET http://]/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no address in brackets": (b"GET http://[::g]/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a URL without host": (b"GET http:///v1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a URL with a name and password": (b"GET http://a:b@x/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a port that is none": (b"GET http://x:99999/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "another scheme": (b"GET gopher://x/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no path": (b"GET v1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a star": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a fragment": (b"GET /v1#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "bytes beyond ASCII": ("GET /é HTTP/1.1\r\n".encode() + HOST + b"\r\n", 400),
    "a long URL": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "a host with a path": (b"GET /health HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "line feeds alone": (b"GET /health HTTP/1.1\nHost: x\n\n", 400),
    "a line feed alone": (b"GET /health HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
    "a carriage return alone": (b"GET /health HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400),
    "a NUL": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400),
    "a line without a colon": (b"GET /health HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", 400),
    "a blank before the colon": (b"GET /health HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400),
    "a line that goes on": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a long length": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"1" * 5_000 + b"\r\n\r\n", 413),
    "a length of nothing": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400),
    "a length with a sign": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", 400),
    "a negative length": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "other digits": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\n", 400),
    "two lengths": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", 400),
    "a list of lengths": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na", 400),
    "a large body": (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413),
    "both lengths": (
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunks in HTTP/1.0": (b"POST /health HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "no coding": (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n", 400),
    "chunked twice": (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
    "chunked not last": (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "gzip": (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "nearly chunked": (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
}


@pytest.mark.promise("S-13")
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_request_is_refused_and_the_connection_closed(ports, port, name):
    request, status = WRONG[name]
    answer = ports.exchange(port, request)
    assert statuses(answer) == [status]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head.lower()
    assert json.loads(body)["error"]
    assert len(body) < 1000


#: What is a request by RFC 9112, if not the usual one.
RIGHT = {
    "a URL": b"GET http://x/health HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
    "a URL with an address": b"GET HTTP://[::1]:80/health HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
    "a host with a port": b"GET /health HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n",
    "an empty host": b"GET /health HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
    "HTTP/1.0": b"GET /health HTTP/1.0\r\n\r\n",
    "HTTP/1.7": b"GET /health HTTP/1.7\r\nHost: x\r\nConnection: close\r\n\r\n",
    "empty lines before": b"\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "close and more": b"GET /health HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n",
    "more and close": b"GET /health HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\nConnection: Close\r\n\r\n",
    "bytes beyond ASCII in a value": b"GET /health HTTP/1.1\r\nHost: x\r\nA: \xff\r\nConnection: close\r\n\r\n",
    "no blank before a value": b"GET /health HTTP/1.1\r\nHost:x\r\nConnection:close\r\n\r\n",
    "a length with zeros before": b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 00\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("port", ["api", "admin"])
@pytest.mark.parametrize("name", RIGHT)
def test_every_form_of_a_request_is_read(ports, port, name):
    assert statuses(ports.exchange(port, RIGHT[name])) == [200]


@pytest.mark.parametrize("version", ["1.1", "1.2", "1.9"])
def test_chunks_are_read_in_every_later_version(ports, version):
    body = b"1;a=b\r\n{\r\n1 ;c\r\n}\r\n0\r\nA: b\r\n\r\n"
    asked = f"POST /v1/keys HTTP/{version}\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n".encode() + body
    then = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    # Were the chunks not read as the body, they would be the next request.
    assert statuses(ports.exchange("api", asked + then)) == [401, 200]


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "begin", [b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", b"nonsense\r\n"]
)
def test_a_refusal_reaches_a_client_that_is_still_sending(ports, port, begin):
    # Closed with bytes unread, the connection would be reset, and the answer lost with it.
    answer = ports.exchange(port, begin + b"a" * 500_000)
    assert statuses(answer) in ([413], [400])
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
