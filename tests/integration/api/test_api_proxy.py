"""The proxy's configuration as it is shipped, before a running API. Needs nginx (Debian: apt-get install nginx)."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.integration.api.test_api_server import running

CONFIG = Path(__file__).resolve().parents[3] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx") or (Path("/usr/sbin/nginx").exists() and "/usr/sbin/nginx") or None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def proxied(api_port: int, directory: Path) -> Iterator[tuple[int, int]]:
    """nginx before an API; yields its ports for HTTP and HTTPS."""
    assert NGINX is not None
    plain, tls = free_port(), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", directory / "key.pem", "-out", directory / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    text = CONFIG.read_text()
    for was, now in (
        ("user nginx;", "daemon off;"),
        ("/tmp/", f"{directory}/"),
        ("/etc/nginx/tls", str(directory)),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{tls} ssl;"),
        ("server api:8000;", f"server 127.0.0.1:{api_port};"),
    ):
        assert was in text
        text = text.replace(was, now)
    (directory / "nginx.conf").write_text(text)
    process = subprocess.Popen([NGINX, "-c", directory / "nginx.conf", "-p", directory], stderr=subprocess.DEVNULL)
    try:
        deadline = monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", tls), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                assert monotonic() < deadline
                sleep(0.05)
        yield plain, tls
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_the_shipped_proxy_serves_by_tls_and_tells_whose_request_it_is(world_url, tmp_path):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    settings = {"TRUSTED_PROXIES": "127.0.0.1", "RATE_LIMIT_ADDRESS": "2", "LOG_FORMAT": "json"}
    with running(world_url, **settings) as server, proxied(server.port, tmp_path) as (plain, tls):
        moved = http.client.HTTPConnection("127.0.0.1", plain, timeout=20)
        moved.request("GET", "/v1")
        assert moved.getresponse().status == 301

        def ask(path: str, **headers: str) -> http.client.HTTPResponse:
            connection = http.client.HTTPSConnection("127.0.0.1", tls, timeout=20, context=context)
            connection.request("GET", path, headers=headers)
            return connection.getresponse()

        answer = ask("/health")
        assert (answer.status, json.loads(answer.read())) == (200, {"status": "ok"})
        # What a client says of itself counts for nothing: all of these are one client: the one that the proxy names.
        statuses = [ask("/v1", **{"X-Forwarded-For": f"203.0.113.{n}"}).status for n in range(3)]
        assert statuses == [200, 200, 429]
        assert ask("/health").status == 200
