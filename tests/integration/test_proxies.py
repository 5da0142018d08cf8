"""Proxies of every kind, as code and storage on a real chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import EndpointConfig
from indexer.errors import GaplessError
from indexer.sync.setup import proxies
from indexer.sync.setup.proxies import Trail, follow

PROXY, LOGIC, BEACON, OTHER, NOTHING = (bytes([0xA0 + n, *range(1, 20)]) for n in range(5))
SHORT = bytes(4) + LOGIC[4:]
# Hands on what it is asked: PUSH1 0 .. GAS DELEGATECALL.
DELEGATE = bytes.fromhex("60006000600060006000" + "5af4")
REVERT = bytes.fromhex("60006000fd")
LONG = b"\x5b" * 5000


def selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


def answering(answers: dict[str, bytes], otherwise: bytes = DELEGATE + REVERT) -> bytes:
    """The code of a contract that returns fixed bytes for some functions."""
    head = bytes.fromhex("60003560e01c")
    body = b""
    start = len(head) + 11 * len(answers) + len(otherwise)
    data_at = start + 16 * len(answers)
    data = b""
    jumps = b""
    for signature, answer in answers.items():
        jumps += b"\x80\x63" + selector(signature) + b"\x14\x61" + (start + len(body)).to_bytes(2) + b"\x57"
        size, at = len(answer).to_bytes(2), (data_at + len(data)).to_bytes(2)
        body += b"\x5b\x61" + size + b"\x61" + at + bytes.fromhex("600039") + b"\x61" + size + bytes.fromhex("6000f3")
        data += answer
    assert len(body) == 16 * len(answers), "each answer's code has the same length"
    return head + jumps + otherwise + body + data


def word(address: bytes) -> bytes:
    return address.rjust(32, b"\0")


@pytest.fixture
def put(anvil: Any) -> Callable[..., None]:
    from web3 import Web3
    from web3.types import RPCEndpoint

    w3 = Web3(Web3.HTTPProvider(anvil.url))

    def put(address: bytes, code: bytes = DELEGATE, storage: dict[str, bytes] | None = None) -> None:
        shown = "0x" + address.hex()
        for method, params in (
            ("anvil_setCode", [shown, "0x" + code.hex()]),
            *(
                ("anvil_setStorageAt", [shown, "0x" + slot.removeprefix("0x").rjust(64, "0"), "0x" + word(value).hex()])
                for slot, value in (storage or {}).items()
            ),
        ):
            assert "error" not in w3.provider.make_request(RPCEndpoint(method), params)

    for address in (LOGIC, BEACON, OTHER, SHORT):
        put(address, b"\x60\x00")
    return put


@pytest.fixture
def client(anvil: Any) -> Iterator[ChainClient]:
    from web3 import Web3

    chain_id = Web3(Web3.HTTPProvider(anvil.url)).eth.chain_id
    with closing(ChainClient("test", chain_id, [EndpointConfig(url=anvil.url)])) as client:
        yield client


def found(client: ChainClient, address: bytes = PROXY) -> tuple[tuple[bytes, ...], list[str]]:
    trail = follow(client, address)
    assert trail.doubt is None
    return trail.implementations, [step.kind for step in trail.steps]


SLOTS = {
    proxies.IMPLEMENTATION_SLOT: "a proxy (ERC-1967)",
    "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3": "a proxy (ZeppelinOS)",
    "0xc5f16f0fcc639fa48a6947836d9850f504798523bf8c9a3a87d5876cf622bcf7": "a proxy (ERC-1822)",
    "0xbaab7dbf64751104133af04abc7d9979f0fda3b059a322a8333f533d3f32bf7f": "a proxy (Polygon)",
}
CLONES = {
    "a minimal proxy (ERC-1167)": "363d3d373d3d3d363d73{0}5af43d82803e903d91602b57fd5bf3",
    "a minimal proxy (a clone with PUSH0)": "365f5f375f5f365f73{0}5af43d5f5f3e5f3d91602a57fd5bf3",
    "a minimal proxy (a clone with PUSH0), Solady": "5f5f365f5f37365f73{0}5af43d5f5f3e6029573d5ffd5b3d5ff3",
    "a minimal proxy (a clone), Solady": "3d3d3d3d363d3d37363d73{0}5af43d3d93803e602a57fd5bf3",
    "a minimal proxy (a clone), Vyper": "366000600037611000600036600073{0}5af4602c57600080fd5b6110006000f3",
    "a minimal proxy (a clone), arguments":
    "3d3d3d3d363d3d3761002a603736393661002a013d73{0}5af43d3d93803e603557fd5bf3"
    + "00" * 42,
    "a minimal proxy (ERC-1167), arguments": "363d3d373d3d3d363d73{0}5af43d82803e903d91602b57fd5bf3" + "f4" * 64,
    "an account that delegates (EIP-7702)": "ef0100{0}",
}  # fmt: skip


def test_kinds_are_told_by_slot_code_and_answer(client: ChainClient, put: Callable[..., None]) -> None:
    assert found(client, LOGIC) == ((LOGIC,), [])
    for number, (slot, kind) in enumerate(SLOTS.items()):
        address = bytes([number + 1]) * 20
        put(address, storage={slot: LOGIC})
        assert found(client, address) == ((LOGIC,), [kind])
    for number, (kind, code) in enumerate(CLONES.items()):
        address = bytes([number + 51]) * 20
        put(address, bytes.fromhex(code.format(LOGIC.hex())))
        assert found(client, address) == ((LOGIC,), [kind.partition(",")[0]])
        assert follow(client, address).passed == (), "a clone has no events of its own"
    # A clone of an address that begins with zeros pushes fewer bytes.
    put(PROXY, bytes.fromhex("363d3d373d3d3d363d6f" + SHORT[4:].hex() + "5af43d82803e903d91602757fd5bf3"))
    assert found(client) == ((SHORT,), ["a minimal proxy (ERC-1167)"])


def test_beacons_and_second_implementations(client: ChainClient, put: Callable[..., None]) -> None:
    put(BEACON, answering({"implementation()": word(LOGIC)}, REVERT))
    put(PROXY, storage={proxies.BEACON_SLOT: BEACON})
    assert found(client) == ((LOGIC,), [f"a proxy (ERC-1967) of the beacon 0x{BEACON.hex()}"])
    assert found(client, BEACON) == ((BEACON,), []), "a beacon is none itself"
    two = {proxies.IMPLEMENTATION_SLOT: LOGIC, proxies.SECONDARY_SLOT: OTHER, proxies.BEACON_SLOT: bytes(20)}
    put(PROXY, storage=two)
    assert found(client) == ((LOGIC, OTHER), ["a proxy (ERC-1967) of two implementations"])


@pytest.mark.parametrize(
    ("signature", "kind"),
    [
        ("implementation()", "a proxy (ERC-897)"),
        ("masterCopy()", "a proxy (Safe)"),
        ("comptrollerImplementation()", "a proxy (Compound)"),
    ],
)
def test_proxies_that_tell_it_themselves(
    client: ChainClient, put: Callable[..., None], signature: str, kind: str
) -> None:
    put(PROXY, answering({signature: word(LOGIC)}), {"0x0": LOGIC})
    assert found(client) == ((LOGIC,), [kind])
    assert follow(client, PROXY).passed == (PROXY,)
    # A large contract that makes clones tells of what they are, not of what it is.
    put(PROXY, answering({signature: word(LOGIC)}, b"\x60\x00\x50\xf0" + DELEGATE + REVERT + LONG))
    assert found(client) == ((PROXY,), [])


def test_a_real_safe_proxy(client: ChainClient, put: Callable[..., None]) -> None:
    # Version 1.3.0: masterCopy() is answered from the first slot, all else is handed on.
    code = (
        "608060405273ffffffffffffffffffffffffffffffffffffffff600054167fa619486e0000000000000000000000000000000000000000"
        "0000000000000000600035141560505780600052602060"
        + "00f35b3660008037600080366000845af43d6000803e60008114156070573d"
        "6000fd5b3d6000f3"
    )
    put(PROXY, bytes.fromhex(code), {"0x0": LOGIC})
    assert found(client) == ((LOGIC,), ["a proxy (Safe)"])


@pytest.mark.parametrize("loupe", ["facetAddresses()", "facets()"])
def test_a_diamond_is_all_its_facets_behind_another_proxy_too(
    client: ChainClient, put: Callable[..., None], loupe: str
) -> None:
    facets = [LOGIC, OTHER, BEACON]
    answer = (
        encode(["address[]"], [facets])
        if loupe == "facetAddresses()"
        else encode(["(address,bytes4[])[]"], [[(one, [b"abcd"] * n) for n, one in enumerate(facets)]])
    )
    put(PROXY, answering({loupe: answer}))
    assert found(client) == (tuple(facets), ["a diamond (ERC-2535) of 3 facets"])
    assert follow(client, PROXY).passed == (PROXY,)
    diamond, outer = b"\xd1" * 20, b"\xd2" * 20
    put(diamond, answering({loupe: answer}))
    put(outer, answering({loupe: answer}), {proxies.IMPLEMENTATION_SLOT: diamond})
    assert found(client, outer) == (tuple(facets), ["a proxy (ERC-1967)", "a diamond (ERC-2535) of 3 facets"])
    assert follow(client, outer).passed == (outer, diamond)


def test_an_answer_that_is_no_list_is_no_diamond(client: ChainClient, put: Callable[..., None]) -> None:
    for answer in (word(LOGIC), b"\xff" * 96, encode(["address[]"], [[]]), encode(["uint256[]"], [[2**255]]), b"\1"):
        put(PROXY, answering({"facetAddresses()": answer, "facets()": answer}, DELEGATE + REVERT + LONG))
        assert found(client) == ((PROXY,), [])


def test_code_runs_on_the_first_addresss_storage(client: ChainClient, put: Callable[..., None]) -> None:
    slot = proxies.IMPLEMENTATION_SLOT
    constant = b"\x7f" + int(slot, 16).to_bytes(32) + b"\x54" + DELEGATE
    middle = b"\xe1" * 20
    # The proxy that a clone or an account delegates to reads the slot of the clone, not its own.
    put(middle, constant, {slot: OTHER})
    put(PROXY, b"\xef\x01\x00" + middle, {slot: LOGIC})
    assert found(client) == ((LOGIC,), ["an account that delegates (EIP-7702)", "a proxy (ERC-1967)"])
    # What an earlier kind of proxy left in storage is not followed, neither at once nor later.
    put(PROXY, constant, {slot: LOGIC, proxies.ZEPPELINOS_SLOT: OTHER})
    put(LOGIC, constant)
    assert found(client) == ((LOGIC,), ["a proxy (ERC-1967)"])


def test_one_that_names_itself_or_nothing(client: ChainClient, put: Callable[..., None]) -> None:
    put(PROXY, DELEGATE + LONG, {proxies.IMPLEMENTATION_SLOT: PROXY})
    assert found(client) == ((PROXY,), [])
    put(PROXY, storage={proxies.IMPLEMENTATION_SLOT: NOTHING})
    assert follow(client, PROXY).doubt == f"there is no code at 0x{NOTHING.hex()}"
    with pytest.raises(GaplessError, match="no code"):
        follow(client, NOTHING)


def test_small_code_that_hands_on_is_doubted(client: ChainClient, put: Callable[..., None]) -> None:
    put(PROXY, b"\x73" + LOGIC + b"\x50" + DELEGATE + REVERT, {"0x0": OTHER})
    trail = follow(client, PROXY)
    assert (trail.implementations, trail.passed) == ((PROXY,), ())
    assert trail.doubt is not None
    assert f"0x{PROXY.hex()} looks like a proxy" in trail.doubt
    assert f"it holds the addresses 0x{LOGIC.hex()}, 0x{OTHER.hex()}" in trail.doubt
    # 0xf4 as a part of something pushed is no instruction.
    put(PROXY, b"\x61\xf4\xf4\x50")
    assert follow(client, PROXY) == Trail(PROXY)
