"""An imitation of an OpenID Connect issuer: a web server on loopback with a discovery document and keys."""

import json
import threading
import time
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

AUDIENCE = "https://gapless.example"


@cache
def _rsa(_: int) -> rsa.RSAPrivateKey:
    """A pair takes a quarter of a second to make: issuers have them in common."""
    return rsa.generate_private_key(65537, 2048)


def _pair(algorithm: str, number: int) -> Any:
    match algorithm:
        case "RS256":
            return _rsa(number)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


class FakeIssuer:
    """Answers until it is closed; ``down`` makes it answer with 500, ``trickles`` one byte after the other, for ever.

    ``odd`` are further keys of its set, which stand before its own, and after them.
    """

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Any]] = {}
        self._added = 0
        self.asked: list[str] = []
        self.down = False
        self.trickles: str | None = None
        self.odd: list[Any] = []
        self.closed = threading.Event()
        self.claims: dict[str, Any] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                body = json.dumps(issuer._answer(self.path)).encode()
                if issuer.trickles is not None:
                    self._trickle(issuer.trickles, body)
                    return
                self.send_response(500 if issuer.down else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _trickle(self, part: str, body: bytes) -> None:
                head = b"HTTP/1.0 200 OK\r\nA: " if part == "head" else b"HTTP/1.0 200 OK\r\n\r\n"
                piece = b"x" if part == "head" else b" "
                with suppress(OSError):
                    self.wfile.write(head)
                    while not issuer.closed.wait(0.05):
                        self.wfile.write(piece)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/realm"
        self.name = self.url
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, path: str) -> Any:
        if path == "/realm/.well-known/openid-configuration":
            return {"issuer": self.name, "jwks_uri": f"{self.url}/keys"}
        # Odd keys take no other along: an unknown kind, no key at all, one that PyJWT raises no error of its own for.
        odd = [{"kty": "what"}, 7, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "alg": "none", "kid": "none"}]
        return {"keys": [*odd, *self.odd, *(self._public(kid) for kid in self.keys), *self.odd]}

    def _public(self, kid: str) -> dict[str, Any]:
        algorithm, private = self.keys[kid]
        public = json.loads(get_default_algorithms()[algorithm].to_jwk(private.public_key()))
        return {**public, "kid": kid, "alg": algorithm, "use": "sig"}

    def add(self, kid: str, algorithm: str = "ES256") -> None:
        self.keys[kid] = (algorithm, _pair(algorithm, self._added))
        self._added += 1

    def public_pem(self, kid: str) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        pem: bytes = self.keys[kid][1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem

    def token(self, kid: str, head: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token that is right, but for what is changed (None: left out) in its header and its claims."""
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "someone", "iat": now, "exp": now + 60, "scope": "read"}
        said = {name: value for name, value in {**said, **changes}.items() if value is not None}
        algorithm, private = self.keys[kid]
        return jwt.encode(said, private, algorithm=algorithm, headers={"kid": kid, **(head or {})})

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
