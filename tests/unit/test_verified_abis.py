"""Verified ABIs, from a local imitation of Sourcify and Etherscan."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from eth_abi.abi import encode
from typer.testing import CliRunner

from indexer.abi.model import parse_abi
from indexer.sync.setup.abi_lookup import NotVerifiedError, SourceError, VerifiedAbi, VerifiedAbis, unite
from indexer.sync.setup.proxies import IMPLEMENTATION_SLOT

TOKEN, PROXY, BEACON = (bytes([number]) * 20 for number in (1, 2, 3))
EVENT = {"type": "event", "name": "Moved", "inputs": [{"name": "who", "type": "address", "indexed": True}]}
UPGRADED = {"type": "event", "name": "Upgraded", "inputs": [{"name": "to", "type": "address", "indexed": True}]}


class Imitation:
    """Sourcify at ``/server``, Etherscan at ``/etherscan``, a node at ``/node``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sourcify: dict[tuple[int, bytes], dict[str, Any]] = {}
        self.etherscan: dict[tuple[int, bytes], dict[str, Any]] = {}
        self.storage: dict[tuple[bytes, str], bytes] = {}
        self.code: dict[bytes, bytes] = {}
        self.calls: dict[str, bytes] = {}
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
            return "0x" + self.code.get(bytes.fromhex(params[0][2:]), b"\x60\x01").hex()
        if method == "eth_getStorageAt":
            return "0x" + self.storage.get((bytes.fromhex(params[0][2:]), params[1]), bytes(20)).rjust(32, b"\0").hex()
        if method == "eth_call":
            return "0x" + self.calls.get(params[0]["data"][2:10], b"").hex()
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


def _found(address: bytes, *items: dict[str, Any]) -> VerifiedAbi:
    return VerifiedAbi(address, f"C{address[0]}", list(items), "test")


def test_the_events_of_a_proxy_come_with_those_of_its_implementation():
    own = _found(PROXY, UPGRADED, EVENT, {"type": "fallback"}, {"type": "function", "name": "admin", "inputs": []})
    assert unite([_found(TOKEN, EVENT)], [own]) == ([EVENT, UPGRADED], [])


def test_facets_are_united_and_contradictions_are_named():
    other = {**EVENT, "inputs": [{"name": "by", "type": "address", "indexed": False}]}
    again = {**EVENT, "inputs": [{"name": "renamed", "type": "address", "indexed": True, "internalType": "address"}]}
    overload = {**EVENT, "inputs": [{"name": "who", "type": "uint8", "indexed": True}]}
    read = {"type": "function", "name": "read", "inputs": [], "outputs": [], "stateMutability": "view"}
    second = _found(PROXY, UPGRADED, again, {**read, "outputs": None})
    items, conflicts = unite([_found(TOKEN, EVENT, read), second, _found(BEACON, other, overload)], [])
    assert items == [EVENT, read, UPGRADED, overload]
    (conflict,) = conflicts
    assert conflict.startswith("Event Moved(address) has other indexed arguments in C3 at 0x0303")
    assert "than in C1 at 0x0101" in conflict
    assert parse_abi(items).events


@pytest.fixture
def fetch(imitation, tmp_path, monkeypatch):
    """Runs ``gapless abi fetch`` for an address; returns what was said and the ABI."""
    from indexer.cli import app

    # A manifest that has no contract yet: this is how one begins.
    (tmp_path / "indexer.toml").write_text('[chains.main]\nid = 1\nrpc = ["${RPC_URL}"]\n')
    monkeypatch.chdir(tmp_path)
    for name, value in (("RPC_URL", imitation.url), ("SOURCIFY_URL", imitation.url + "/server")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GAPLESS_MANIFEST", raising=False)

    def run(address: bytes) -> tuple[str, Any]:
        result = CliRunner().invoke(app, ["abi", "fetch", "0x" + address.hex(), "-o", "token.json"])
        if result.exit_code:
            return result.output + str(result.exception), None
        return result.output, json.loads((tmp_path / "token.json").read_text())

    return run


def _verify(imitation: Imitation, address: bytes, name: str, *items: dict[str, Any]) -> None:
    imitation.sourcify[1, address] = {"abi": list(items), "compilation": {"name": name}}


def test_the_command_names_what_it_found_and_writes_the_file(imitation, fetch):
    imitation.storage[PROXY, IMPLEMENTATION_SLOT] = TOKEN
    _verify(imitation, TOKEN, "Token", EVENT)
    _verify(imitation, PROXY, "Proxy", UPGRADED)
    said, abi = fetch(PROXY)
    assert "is a proxy (ERC-1967); its implementation is 0x0101" in said
    assert "VerifiedAbi Token at 0x0101" in said
    assert "Warning" not in said
    assert abi == [EVENT, UPGRADED]


def test_a_proxy_that_is_not_verified_is_named(imitation, fetch):
    imitation.storage[PROXY, IMPLEMENTATION_SLOT] = TOKEN
    _verify(imitation, TOKEN, "Token", EVENT)
    said, abi = fetch(PROXY)
    assert "Warning: events that a proxy itself emits are missing: no verified ABI of 0x0202" in said
    assert abi == [EVENT]


def test_an_implementation_that_is_not_verified_is_no_reason_for_the_proxys_abi(imitation, fetch):
    imitation.storage[PROXY, IMPLEMENTATION_SLOT] = TOKEN
    _verify(imitation, PROXY, "Proxy", UPGRADED)
    said, abi = fetch(PROXY)
    assert "no verified ABI of 0x0101" in said
    assert abi is None


def test_a_diamond_is_all_its_facets_and_those_that_are_missing_are_named(imitation, fetch):
    imitation.code[PROXY] = bytes.fromhex("6000f4")
    facets = [TOKEN, BEACON, b"\x09" * 20]
    imitation.calls["52ef6b2c"] = encode(["address[]"], [facets])
    other = {**EVENT, "inputs": [{"name": "by", "type": "address", "indexed": False}]}
    _verify(imitation, PROXY, "Diamond", UPGRADED)
    _verify(imitation, TOKEN, "Token", EVENT)
    _verify(imitation, BEACON, "Other", other, {**EVENT, "name": "Counted"})
    said, abi = fetch(PROXY)
    assert "is a diamond (ERC-2535) of 3 facets; its implementations are 0x0101" in said
    assert "Warning: events and functions are missing: no verified ABI of 0x0909" in said
    assert "Warning: Event Moved(address) has other indexed arguments in Other" in said
    assert [item["name"] for item in abi] == ["Moved", "Counted", "Upgraded"]
    # What it wrote is an ABI.
    assert len(parse_abi(abi).events) == 3


def test_what_looks_like_a_proxy_and_is_not_followed_is_said(imitation, fetch):
    imitation.code[PROXY] = bytes.fromhex("73") + TOKEN + bytes.fromhex("6000f4")
    _verify(imitation, PROXY, "Proxy", UPGRADED)
    said, abi = fetch(PROXY)
    assert f"Warning: 0x{PROXY.hex()} looks like a proxy (24 bytes of code with a DELEGATECALL)" in said
    assert f"it holds the addresses 0x{TOKEN.hex()}" in said
    assert abi == [UPGRADED]
