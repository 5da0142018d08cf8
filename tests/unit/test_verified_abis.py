"""Verified ABIs, from a local imitation of Sourcify and Etherscan."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from indexer.errors import GaplessError
from indexer.sync.verified import (
    BEACON_SLOT,
    IMPLEMENTATION_SLOT,
    NotVerifiedError,
    SourceError,
    VerifiedAbis,
    proxies,
    with_events_of,
)

TOKEN, PROXY, BEACON, UNKNOWN = (bytes([number]) * 20 for number in (1, 2, 3, 4))
EVENT = {"type": "event", "name": "Moved", "inputs": [{"name": "who", "type": "address", "indexed": True}]}
UPGRADED = {"type": "event", "name": "Upgraded", "inputs": [{"name": "to", "type": "address", "indexed": True}]}


class Imitation:
    """Sourcify at ``/server``, Etherscan at ``/etherscan``, a node at ``/node``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sourcify: dict[tuple[int, bytes], dict[str, Any]] = {}
        self.etherscan: dict[tuple[int, bytes], dict[str, Any]] = {}
        self.storage: dict[tuple[bytes, str], bytes] = {}
        self.faults: list[tuple[int, object]] = []
        self.asked: list[str] = []

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, object]:
        self.asked.append(path)
        if self.faults:
            return self.faults.pop(0)
        if path.startswith("/server/v2/contract/"):
            chain_id, address = path.split("/")[-2:]
            found = self.sourcify.get((int(chain_id), bytes.fromhex(address[2:])))
            return (200, found) if found else (404, {"match": None})
        if query["apikey"] != ["secret-key"]:
            return 200, {"status": "0", "message": "NOTOK", "result": "Invalid API Key"}
        key = int(query["chainid"][0]), bytes.fromhex(query["address"][0][2:])
        found = self.etherscan.get(key, {"ABI": "Contract source code not verified", "ContractName": ""})
        return 200, {"status": "1", "message": "OK", "result": [found]}

    def post(self, call: dict[str, Any]) -> object:
        method, params = call["method"], call["params"]
        if method == "eth_chainId":
            return "0x1"
        if method == "eth_getCode":
            return "0x" if bytes.fromhex(params[0][2:]) == UNKNOWN else "0x6001"
        if method == "eth_getStorageAt":
            return "0x" + self.storage.get((bytes.fromhex(params[0][2:]), params[1]), bytes(20)).rjust(32, b"\0").hex()
        if method == "eth_call":
            return "0x" + TOKEN.rjust(32, b"\0").hex()
        raise AssertionError(method)


@pytest.fixture
def imitation() -> Iterator[Imitation]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self.reply(*found.get(parts.path, parse_qs(parts.query)))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            calls = asked if isinstance(asked, list) else [asked]
            answers = [{"jsonrpc": "2.0", "id": call["id"], "result": found.post(call)} for call in calls]
            self.reply(200, answers if isinstance(asked, list) else answers[0])

        def reply(self, status: int, body: object) -> None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Imitation(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def abis(imitation, tmp_path):
    def make(key: str | None = "secret-key") -> VerifiedAbis:
        return VerifiedAbis(
            tmp_path / "cache",
            etherscan_key=key,
            sourcify=imitation.url + "/server",
            etherscan=imitation.url + "/etherscan",
            sleep=lambda _: None,
        )

    return make


def test_sourcify_goes_first_and_its_answer_is_kept(imitation, abis):
    imitation.sourcify[1, TOKEN] = {"abi": [EVENT], "compilation": {"name": "Token"}}
    found = abis().fetch(1, TOKEN)
    assert (found.abi, found.name, found.origin) == ([EVENT], "Token", "Sourcify")
    again = abis().fetch(1, TOKEN)
    assert (again.abi, again.name) == ([EVENT], "Token")
    assert len(imitation.asked) == 1
    abis().fetch(1, TOKEN, refresh=True)
    assert len(imitation.asked) == 2


def test_etherscan_is_asked_with_the_key_where_sourcify_does_not_know(imitation, abis):
    imitation.etherscan[10, TOKEN] = {"ABI": json.dumps([EVENT]), "ContractName": "Token"}
    found = abis().fetch(10, TOKEN)
    assert (found.abi, found.name, found.origin) == ([EVENT], "Token", "Etherscan")
    with pytest.raises(NotVerifiedError, match="ETHERSCAN_API_KEY is not set"):
        abis(key=None).fetch(10, PROXY)


def test_what_nobody_has_verified_is_said(abis):
    with pytest.raises(NotVerifiedError, match="Sourcify does not know it; Etherscan does not know it"):
        abis().fetch(1, TOKEN)


@pytest.mark.parametrize(
    "fault",
    [(429, {}), (503, b"<html>"), (200, b"<html>"), (200, {"result": "Max rate limit reached"})],
    ids=["429", "503", "html", "rate limit as status 200"],
)
def test_what_may_pass_is_tried_again(imitation, abis, fault):
    imitation.etherscan[1, TOKEN] = {"ABI": json.dumps([EVENT]), "ContractName": "Token"}
    imitation.faults = [(404, {}), fault, fault]
    assert abis().fetch(1, TOKEN).abi == [EVENT]


def test_a_source_that_does_not_come_back_is_no_absent_contract(imitation, abis):
    imitation.faults = [(503, {})] * 5
    with pytest.raises(SourceError, match="HTTP status 503") as error:
        abis().fetch(1, TOKEN)
    assert not isinstance(error.value, NotVerifiedError)


def test_no_message_holds_the_key(imitation, tmp_path):
    lost = VerifiedAbis(
        tmp_path, etherscan_key="secret-key", sourcify="http://127.0.0.1:1", etherscan="http://127.0.0.1:1/?x=secret",
        sleep=lambda _: None,
    )  # fmt: skip
    with pytest.raises(SourceError) as error:
        lost.fetch(1, TOKEN)
    assert "secret" not in str(error.value)


class Node:
    def __init__(self, imitation: Imitation) -> None:
        self._imitation = imitation

    def code(self, address: bytes, block: int | str = "latest") -> bytes:
        if address == b"\x05" * 20:
            return bytes.fromhex("363d3d373d3d3d363d73") + TOKEN + bytes.fromhex("5af43d82803e903d91602b57fd5bf3")
        return bytes.fromhex(self._imitation.post({"method": "eth_getCode", "params": ["0x" + address.hex()]})[2:])

    def eth_call(self, to: bytes, data: bytes, block: int | str = "latest") -> bytes:
        assert (to, data) == (BEACON, bytes.fromhex("5c60da1b"))
        return TOKEN.rjust(32, b"\0")

    def raw(self, method: str, params: Any) -> Any:
        return self._imitation.post({"method": method, "params": params})


def test_proxies_are_followed_by_slot_beacon_and_code(imitation):
    node = Node(imitation)
    assert proxies(node, TOKEN) == []
    imitation.storage[PROXY, IMPLEMENTATION_SLOT] = TOKEN
    (step,) = proxies(node, PROXY)
    assert (step.target, step.kind) == (TOKEN, "a proxy (ERC-1967)")
    imitation.storage = {(PROXY, BEACON_SLOT): BEACON}
    (step,) = proxies(node, PROXY)
    assert step.target == TOKEN
    assert BEACON.hex() in step.kind
    (step,) = proxies(node, b"\x05" * 20)
    assert (step.target, step.kind) == (TOKEN, "a minimal proxy (ERC-1167)")
    imitation.storage = {(PROXY, IMPLEMENTATION_SLOT): PROXY}  # one that names itself
    assert len(proxies(node, PROXY)) < 10
    with pytest.raises(GaplessError, match="no code"):
        proxies(node, UNKNOWN)


def test_the_slots_are_those_of_the_standard():
    # https://eips.ethereum.org/EIPS/eip-1967
    assert IMPLEMENTATION_SLOT == "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
    assert BEACON_SLOT == "0xa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50"


def test_the_events_of_a_proxy_come_with_those_of_its_implementation():
    assert with_events_of([EVENT], [UPGRADED, EVENT, {"type": "fallback"}]) == [EVENT, UPGRADED]


def test_the_command_names_what_it_found_and_writes_the_file(imitation, tmp_path, monkeypatch):
    from indexer.cli import app

    imitation.storage[PROXY, IMPLEMENTATION_SLOT] = TOKEN
    imitation.sourcify[1, TOKEN] = {"abi": [EVENT], "compilation": {"name": "Token"}}
    imitation.sourcify[1, PROXY] = {"abi": [UPGRADED], "compilation": {"name": "Proxy"}}
    # A manifest that has no contract yet: this is how one begins.
    (tmp_path / "indexer.toml").write_text('[chains.main]\nid = 1\nrpc = ["${RPC_URL}"]\n')
    monkeypatch.chdir(tmp_path)
    for name, value in (("RPC_URL", imitation.url), ("SOURCIFY_URL", imitation.url + "/server")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GAPLESS_MANIFEST", raising=False)
    result = CliRunner().invoke(app, ["abi", "fetch", "0x" + PROXY.hex(), "-o", "token.json"])
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "is a proxy (ERC-1967); its implementation is 0x0101" in result.output
    assert "Found Token at 0x0101" in result.output
    assert json.loads((tmp_path / "token.json").read_text()) == [EVENT, UPGRADED]
