"""Requests made of a grammar and then spoilt: bytes as a stranger may send them, always the same for a seed."""

from random import Random
from typing import Final

METHODS: Final = (
    b"GET",
    b"GET",
    b"GET",
    b"HEAD",
    b"POST",
    b"OPTIONS",
    b"DELETE",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"get",
    b"PRI",
    b"G\x00T",
    b"",
    b"A" * 5000,
)
PATHS: Final = (
    b"/",
    b"/health",
    b"/ready",
    b"/metrics",
    b"/v1",
    b"/v1/contracts",
    b"/v1/events",
    b"/docs",
    b"/docs/../x",
    b"/status",
    b"/" + b"a" * 20_000,
    b"/v1/contracts/usdc/events/Transfer",
    b"/v1/contracts/usdc/events/Transfer/stream",
    b"/v1/keys",
    b"/v1/%2e%2e/%00",
    b"*",
    b"",
    b"//",
    b"/%",
    b"/%ff",
    b"/v1/contracts/usdc/events/Transfer?limit=1&wait=1&min_block=1",
    b"/v1/contracts/usdc/events/Transfer?format=csv",
    b"/v1/events/stream?chain=9",
    b"/\xff",
    b"/#",
    b"/a b",
)
TARGETS: Final = (
    b"%s",
    b"%s",
    b"%s",
    b"http://x%s",
    b"http://[%s",
    b"http://[::1]:80%s",
    b"a://1%s",
    b"http://a@b%s",
    b"http://x:99999%s",
    b"x:80%s",
    b"://%s",
    b"//%s",
)
VERSIONS: Final = (
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.9",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"HTTP/",
    b"",
    b"HTTP/1.1 ",
    b"http/1.1",
    b"HTTP/1.\xb2",
)
NUMBERS: Final = (
    b"0",
    b"2",
    b"2",
    b"5",
    b"-1",
    b"+2",
    b"1_0",
    b"0x2",
    b"2, 2",
    b"9" * 5000,
    b"\xb2",
    b"",
    b"00002",
    b"99999999999",
)
FIELDS: Final = (
    b"Host: x",
    b"Host: x",
    b"Host: [",
    b"Host: x:y",
    b"Host:",
    b"Connection: close",
    b"Connection: close, TE",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer_Encoding: chunked",
    b"Accept: text/html",
    b"Accept: " + b"a/b;q=0.1," * 900,
    b"If-None-Match: " + b'"a",' * 2000,
    b"Authorization: Bearer \xff",
    b"Authorization: Bearer a.b.c",
    b"X-API-Key: gapless_x",
    b"Cookie: " + b"a=b; " * 2000,
    b"Range: bytes=0-,1-,2-",
    b"Origin: null",
    b"Last-Event-ID: 1-1.zz",
    b"X-Forwarded-For: " + b"1," * 3000,
    b"Content-Type: application/json",
    b"Content-Encoding: gzip",
    b"A" * 9000 + b": b",
    b"A: " + b" " * 9000 + b"\x01",
    b" folded",
    b"no colon",
    b": no name",
    b"a b: c",
    b"A: \r b",
    b"A: \n b",
    b"A: \x00",
    b"",
    b"A: b\nC: d",
    b"Accept-Encoding: gzip",
    b"Forwarded: for=" + b'"' * 3000,
    b"Date: x",
    b"If-Modified-Since: x",
    b"Via: " + b"1.1 a, " * 800,
)
ENDS: Final = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"")
BODIES: Final = (
    b"",
    b"",
    b"{}",
    b"{}",
    b"[" * 3000,
    b"2\r\n{}\r\n0\r\n\r\n",
    b'2;a="\\a\\a\r\n{}\r\n0\r\n\r\n',
    b"fffffffffffff\r\n",
    b"2\r\n{}X\r\n0\r\n\r\n",
    b"0\r\n" + b"A: b\r\n" * 300 + b"\r\n",
    b"\x00" * 5000,
    b"2\n{}\n0\n\n",
)


def raw_request(random: Random) -> bytes:
    """One request, or several one behind the other, nearly right or not at all."""
    data = b"".join(_one(random) for _ in range(random.choice((1, 1, 1, 2, 4))))
    for _ in range(random.choice((0, 0, 0, 1, 3))):
        data = _spoilt(random, data)
    return data


def _one(random: Random) -> bytes:
    target = random.choice(TARGETS) % random.choice(PATHS)
    line = b" ".join(
        (random.choice(METHODS[:7] if random.random() < 0.7 else METHODS), target, random.choice(VERSIONS))
    )
    fields = [b"Host: x"] if random.random() < 0.8 else []
    fields += random.choices(FIELDS, k=random.choice((0, 1, 1, 2, 5)))
    if random.random() < 0.3:
        fields.append(b"Content-Length: " + random.choice(NUMBERS))
    if random.random() < 0.02:
        fields += [b"A: b"] * 200
    random.shuffle(fields)
    end = b"\r\n" if random.random() < 0.8 else random.choice(ENDS)
    return end.join((line, *fields, b"", random.choice(BODIES)))


def _spoilt(random: Random, data: bytes) -> bytes:
    place = random.randrange(len(data) + 1)
    other = random.randrange(len(data) + 1)
    match random.randrange(5):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + random.randbytes(random.choice((1, 1, 8))) + data[place:]
        case 2:
            return data[:place] + random.randbytes(1) + data[place + 1 :]
        case 3:
            return data[:place] + data[other:]
        case _:
            return data[:place] + data[place : place + 30] * random.choice((2, 50)) + data[place + 30 :]
