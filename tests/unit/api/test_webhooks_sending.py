"""Where messages may go, and that they go nowhere else: names, addresses, redirects, slow and broken receivers."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.webhooks.sender import Sender
from api.webhooks.targets import TargetError, addresses, is_allowed, networks, parse

LOOPBACK = networks("127.0.0.0/8")


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://example.org", "example.org", 443, "/", "example.org"),
        ("https://Example.ORG:8443/a/b?key=1&x", "example.org", 8443, "/a/b?key=1&x", "example.org:8443"),
        ("https://example.org./a", "example.org", 443, "/a", "example.org"),
        ("https://[2606:4700::1]:444/a%20b", "2606:4700::1", 444, "/a%20b", "[2606:4700::1]:444"),
        ("https://1.1.1.1//x", "1.1.1.1", 443, "//x", "1.1.1.1"),
    ],
)
def test_a_url_is_taken_apart_once(url, host, port, path, authority):
    target = parse(url)
    assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)


def test_what_is_shown_has_no_query():
    assert parse("https://example.org/a?token=secret").shown == "https://example.org/a?…"
    assert parse("http://example.org/a", allow_http=True).shown == "http://example.org/a"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "//example.org/",
        "example.org",
        "https://",
        "https:///a",
        "https://user@example.org/",
        "https://user:secret@example.org/",
        "https://example.org@127.0.0.1/",
        "https://example.org\\@127.0.0.1/",
        "https://example.org/#secret",
        "https://example.org/#",
        "https://exa mple.org/",
        "https://example.org/\r\nX: y",
        "https://example.org/\t",
        "https://éxample.org/",
        "https://exam%70le.org/",
        "https://[fe80::1%25eth0]/",
        "https://[::1",
        "https://[v1.x]/",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:http/",
        "https://" + "a" * 254 + "/",
        "https://example.org/" + "a" * 2000,
    ],
)
def test_other_urls_are_refused_and_not_repeated(url):
    with pytest.raises(TargetError) as caught:
        parse(url)
    assert "secret" not in str(caught.value)


PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1", "64:ff9b::101:101"]
PUBLIC += ["2002:101:101::1", "172.32.0.1", "100.128.0.1", "198.20.0.1", "223.255.255.255", "11.0.0.0"]
REFUSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.1.2.3 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
64:ff9b:1::a00:1 100::1 2001::1 2001:0:7f00:1:: 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:a00:1:: 3fff::1
5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1
"""


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    assert is_allowed(ip_address(address))


@pytest.mark.promise("S-03")
@pytest.mark.parametrize("address", REFUSED.split())
def test_no_other_address_is(address):
    assert not is_allowed(ip_address(address))
    assert is_allowed(ip_address(address), networks("true"))


def test_networks_can_be_allowed_and_no_more_than_they():
    allowed = networks("10.1.0.0/16, fd00::/8")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1", "1.1.1.1"):
        assert is_allowed(ip_address(address), allowed), address
    for address in ("10.2.0.1", "127.0.0.1", "fc00::1", "::ffff:10.2.0.1"):
        assert not is_allowed(ip_address(address), allowed), address
    assert networks("false") == networks("") == ()
    with pytest.raises(ValueError, match="host bits"):
        networks("10.0.0.1/8")


@pytest.mark.promise("S-03")
def test_one_refused_address_refuses_the_name():
    target = parse("https://rebind.example/")
    assert addresses(target, (), lambda *_: ["1.1.1.1", "1.1.1.1"]) == (ip_address("1.1.1.1"),)
    for answer in (["1.1.1.1", "127.0.0.1"], ["::1", "1.1.1.1"], [], ["nonsense"], ["fe80::1%eth0"]):
        with pytest.raises(TargetError) as caught:
            addresses(target, (), lambda *_, answer=answer: answer)
        assert "127" not in str(caught.value), "what a private name resolves to is not told"


def test_a_name_that_cannot_be_resolved_is_an_outcome():
    def away(*_: object) -> list[str]:
        raise socket.gaierror("no such name")

    assert (
        sender(away).send(parse("https://nowhere.example/"), b"", {}).error == "not sent: its host cannot be resolved"
    )


@pytest.mark.promise("S-03")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "017700000001", "localhost", "[::1]"]
)
def test_loopback_in_any_spelling_is_not_asked(host):
    with receiver(lambda _: None) as (port, seen):
        outcome = Sender((), timeout=2, agent="x", wall=now).send(
            parse(f"http://{host}:{port}/", allow_http=True), b"{}", {}
        )
        assert outcome.status is None
        assert outcome.error is not None
        assert outcome.error.startswith("not sent")
        assert seen == []


def now() -> datetime:
    return datetime.now(UTC)


def sender(resolve: Any = lambda *_: ["127.0.0.1"], timeout: float = 5, **more: Any) -> Sender:
    return Sender(LOOPBACK, timeout=timeout, agent="Gapless-Webhooks/test", wall=now, resolve=resolve, **more)


def whole(peer: socket.socket) -> bytes:
    """A request with its body."""
    text = b""
    while not (end := re.search(rb"Content-Length: (\d+)\r\n(?:.+\r\n)*\r\n", text)) or (
        len(text) - end.end() < int(end[1])
    ):
        more = peer.recv(65536)
        if not more:
            break
        text += more
    return text


@contextmanager
def receiver(answer: Callable[[socket.socket], object], tls: ssl.SSLContext | None = None) -> Iterator[Any]:
    """Listens on loopback: gives its port and what it was sent; ``answer`` writes to each connection."""
    seen: list[bytes] = []
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError, ssl.SSLError):
                    connection, _ = listener.accept()
                    with connection if tls is None else tls.wrap_socket(connection, server_side=True) as peer:
                        peer.settimeout(5)
                        seen.append(whole(peer))
                        answer(peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], seen
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def says(text: str) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(text.replace("\n", "\r\n").encode())


def at(port: int, path: str = "/hook?key=1") -> Any:
    return parse(f"http://hooks.example:{port}{path}", allow_http=True)


def test_a_message_is_posted_as_it_should_be():
    with receiver(says("HTTP/1.1 204 No Content\n\n")) as (port, seen):
        outcome = sender().send(at(port), b'{"a":1}', {"webhook-id": "msg_1"})
        assert (outcome.status, outcome.error) == (204, None)
        head, _, body = seen[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /hook?key=1 HTTP/1.1"
        assert body == b'{"a":1}'
        assert {f"Host: hooks.example:{port}".encode(), b"webhook-id: msg_1", b"Content-Length: 7"} <= set(lines)
        assert {b"Content-Type: application/json", b"User-Agent: Gapless-Webhooks/test"} <= set(lines)


@pytest.mark.promise("S-03")
def test_the_name_is_resolved_once():
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    with receiver(says("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")) as (port, seen):
        assert sender(lambda *_: next(answers)).send(at(port), b"", {}).status == 200
        assert len(seen) == 1
    assert next(answers) == ["10.0.0.1"]


@pytest.mark.promise("S-03")
def test_redirects_are_not_followed():
    with (
        receiver(says("HTTP/1.1 200 OK\n\n")) as (inner, reached),
        receiver(says(f"HTTP/1.1 307 Away\nLocation: http://127.0.0.1:{inner}/\nContent-Length: 0\n\n")) as (port, _),
    ):
        outcome = sender().send(at(port), b"", {})
        assert (outcome.status, outcome.error) == (307, None)
        assert reached == []


def test_the_first_bytes_of_the_answer_are_kept():
    with receiver(says("HTTP/1.1 500 No\nContent-Length: 90000\n\n" + "é\x00\x1b" + "x" * 80_000)) as (port, _):
        outcome = sender().send(at(port), b"", {})
        assert outcome.status == 500
        assert outcome.answer.startswith("é\ufffd\ufffdxxx")
        assert len(outcome.answer) < 600


def test_retry_after_is_read():
    with receiver(says("HTTP/1.1 503 Later\nRetry-After: 77\nContent-Length: 0\n\n")) as (port, _):
        assert sender().send(at(port), b"", {}).retry_after == 77


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense\n\n",
        "HTTP/1.1 abc\n\n",
        "HTTP/1.1 200 OK\n" + "X: y\n" * 500 + "\n",
        "HTTP/1.1 200 " + "x" * 70000,
    ],
)
def test_what_is_no_answer_is_an_outcome(text):
    with receiver(says(text)) as (port, _):
        outcome = sender().send(at(port), b"", {})
        assert outcome.status is None
        assert outcome.error is not None
        assert "connection failed" in outcome.error


def test_a_refused_connection_is_an_outcome():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert sender().send(at(port), b"", {}).error == "the connection was refused"


def test_the_next_address_is_tried():
    with receiver(says("HTTP/1.1 200 OK\nContent-Length: 0\n\n")) as (port, _):
        assert sender(lambda *_: ["127.0.0.2", "127.0.0.1"]).send(at(port), b"", {}).status == 200


def slowly(text: bytes, ended: threading.Event) -> Callable[[socket.socket], None]:
    def answer(peer: socket.socket) -> None:
        for byte in text:
            if ended.wait(0.05):
                return
            peer.sendall(bytes([byte]))

    return answer


@pytest.mark.parametrize(
    "text", [b"", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, b"HTTP/1.1 100 Continue\r\n\r\n" * 999]
)
def test_a_receiver_cannot_take_longer_than_it_may(text):
    """One that says nothing, and one that says a byte now and then."""
    ended = threading.Event()
    answer = slowly(text, ended) if text else lambda _: ended.wait(10)
    with receiver(answer) as (port, _):
        started = monotonic()
        outcome = sender(timeout=0.5).send(at(port), b"", {})
        ended.set()
        assert outcome.error == "no answer within 0.5 seconds"
        assert monotonic() - started < 5


def test_a_slow_body_does_not_undo_an_acknowledgement():
    ended = threading.Event()

    def answer(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        ended.wait(10)

    with receiver(answer) as (port, _):
        assert sender(timeout=0.5).send(at(port), b"", {}).status == 200
        ended.set()


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hooks.example, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "identity.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def test_certificates_are_checked_against_the_name_not_the_address(identity):
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(identity)
    trusting = ssl.create_default_context(cafile=str(identity))
    named: list[str | None] = []
    serving.sni_callback = lambda _, name, __: named.append(name)
    with ExitStack() as stack:
        port, _ = stack.enter_context(receiver(says("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), serving))
        url = f"https://hooks.example:{port}/"
        assert sender(tls=trusting).send(parse(url), b"", {}).status == 200
        assert named == ["hooks.example"]
        other = sender(tls=trusting).send(parse(f"https://other.example:{port}/"), b"", {})
        assert other.error is not None
        assert "certificate" in other.error
        unknown = sender().send(parse(url), b"", {})
        assert unknown.error is not None
        assert "certificate" in unknown.error


def test_a_tls_handshake_cannot_take_longer_than_it_may():
    ended = threading.Event()
    with receiver(lambda _: ended.wait(10)) as (port, _):
        outcome = sender(timeout=0.5).send(parse(f"https://hooks.example:{port}/"), b"", {})
        ended.set()
        assert outcome.error == "no answer within 0.5 seconds"
