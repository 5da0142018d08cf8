"""Where a proxy hands its calls to: the contracts whose code speaks at an address.

Looked for are ERC-1167 and every other clone that holds its target in its code; an account that delegates (EIP-7702);
the storage slots of ERC-1967, its beacon, Arbitrum's second implementation, ZeppelinOS, ERC-1822 and Polygon; Safe and
all that tell their implementation when they are asked (ERC-897); and the facets of a diamond (ERC-2535).

All code that is delegated to runs on the first address's storage: that is where later steps look as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eth_hash.auto import keccak

from indexer.chain.records.errors import CallReverted
from indexer.errors import GaplessError

_MOST_HOPS = 4
_MOST_FACETS = 500
# Code of a proxy that only hands on is shorter; a contract that calls a library's functions is longer.
_SMALL_CODE = 4096


def _slot(label: str, minus: int = 0) -> str:
    return hex(int.from_bytes(keccak(label.encode())) - minus)


IMPLEMENTATION_SLOT = _slot("eip1967.proxy.implementation", 1)
SECONDARY_SLOT = _slot("eip1967.proxy.implementation.secondary", 1)
BEACON_SLOT = _slot("eip1967.proxy.beacon", 1)
ZEPPELINOS_SLOT = _slot("org.zeppelinos.proxy.implementation")
PROXIABLE_SLOT = _slot("PROXIABLE")
POLYGON_SLOT = _slot("matic.network.proxy.implementation")

_SLOTS = (
    (IMPLEMENTATION_SLOT, "a proxy (ERC-1967)"),
    (ZEPPELINOS_SLOT, "a proxy (ZeppelinOS)"),
    (PROXIABLE_SLOT, "a proxy (ERC-1822)"),
    (POLYGON_SLOT, "a proxy (Polygon)"),
)


def _selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


_IMPLEMENTATION_CALL = _selector("implementation()")
_MASTER_COPY_CALL = _selector("masterCopy()")
_GETTERS = (
    (_MASTER_COPY_CALL, "a proxy (Safe)"),
    (_IMPLEMENTATION_CALL, "a proxy (ERC-897)"),
    (_selector("comptrollerImplementation()"), "a proxy (Compound)"),
    (_selector("getImplementation()"), "a proxy (getImplementation)"),
)
_FACETS_CALL = _selector("facetAddresses()")
_CUTS_CALL = _selector("facets()")

_DELEGATION = bytes.fromhex("ef0100")
_CLONE_HEAD = bytes.fromhex("363d3d373d3d3d363d")
_PUSH0, _PUSH1, _PUSH20, _PUSH32 = 0x5F, 0x60, 0x73, 0x7F
_GAS, _CREATE, _DELEGATECALL, _CREATE2 = 0x5A, 0xF0, 0xF4, 0xF5
# The shortest address that a clone with leading zeros is seen to push.
_PUSH12 = 0x6B


class ProxyNode(Protocol):
    """What is asked of a chain (``chain.client.ChainClient``)."""

    def code(self, address: bytes, block: int | str = "latest") -> bytes:
        """The code at an address."""

    def eth_call(self, to: bytes, data: bytes, block: int | str = "latest") -> bytes:
        """Calls a contract."""

    def raw(self, method: str, params: Sequence[Any]) -> Any:
        """Any other question."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A contract that hands its calls on: to where, and how that is known.

    Attributes:
        address: the proxy's.
        targets: the implementations, one or more.
        kind: ``a proxy (ERC-1967)``.
        speaks: whether it may have events of its own: a clone and an account have none.
    """

    address: bytes
    targets: tuple[bytes, ...]
    kind: str
    speaks: bool = True

    def __str__(self) -> str:
        what = "implementation is" if len(self.targets) == 1 else "implementations are"
        shown = ", ".join(f"0x{target.hex()}" for target in self.targets)
        return f"0x{self.address.hex()} is {self.kind}; its {what} {shown}"


@dataclass(frozen=True, slots=True)
class Trail:
    """From an address to the code that speaks there.

    Attributes:
        address: where it begins.
        steps: the proxies, from the outermost inwards.
        doubt: why there may be more than was found, or None.
    """

    address: bytes
    steps: tuple[Proxy, ...] = ()
    doubt: str | None = None

    @property
    def implementations(self) -> tuple[bytes, ...]:
        """Where the code is: the address itself where it is no proxy."""
        return self.steps[-1].targets if self.steps else (self.address,)

    @property
    def passed(self) -> tuple[bytes, ...]:
        """The contracts on the way that may have events of their own."""
        ends = self.implementations
        found = [step.address for step in self.steps if step.speaks]
        found += [target for step in self.steps for target in step.targets]
        return tuple(address for address in dict.fromkeys(found) if address not in ends)


def follow(node: ProxyNode, address: bytes) -> Trail:
    """Follow proxies from an address to the implementations.

    Raises:
        GaplessError: there is no code at the address, or the node could not be asked.
    """
    code = _Code(node.code(address))
    if not code.raw:
        raise GaplessError(
            f"there is no code at 0x{address.hex()}", hint="is this the right address, and the right chain?"
        )
    search = _Search(node, address)
    steps: list[Proxy] = []
    at, delegates = address, False
    while len(steps) < _MOST_HOPS:
        delegates = delegates or code.delegates
        # Behind a clone or an account begins what every other address begins with.
        step = search.step(at, code, first=not any(one.speaks for one in steps))
        if step is None:
            break
        steps.append(step)
        at = step.targets[0]
        if not (code := _Code(node.code(at))).raw:
            return Trail(address, tuple(steps), f"there is no code at 0x{at.hex()}")
    if delegates and (facets := search.facets()):
        # Asked of the outermost address: a diamond may stand behind a proxy. What was found is not its only code.
        diamond = Proxy(at, facets, f"a diamond (ERC-2535) of {len(facets)} facets")
        return Trail(address, (*steps, diamond))
    return Trail(address, tuple(steps), search.doubt(at, code, followed=bool(steps)))


class _Search:
    """What one address says of where its calls go."""

    def __init__(self, node: ProxyNode, outer: bytes) -> None:
        self._node = node
        self._outer = outer
        self._seen = {outer}

    def step(self, at: bytes, code: "_Code", *, first: bool) -> Proxy | None:
        """The proxy that code is, if it is one; a target that was passed already is none."""
        found = self._by_code(at, code) or self._by_slots(at, code, first=first)
        if found is None and first and code.delegates:
            found = self._by_getters(at, code)
        if found is not None:
            self._seen.update(found.targets)
        return found

    def facets(self) -> tuple[bytes, ...]:
        """The facets of a diamond; none where the address is none."""
        found = _addresses(self._ask(self._outer, _FACETS_CALL)) or _cut_addresses(self._ask(self._outer, _CUTS_CALL))
        return tuple(address for address in dict.fromkeys(found) if any(address) and address != self._outer)

    def doubt(self, at: bytes, code: "_Code", *, followed: bool) -> str | None:
        """Why this may be a proxy although no implementation was found."""
        if followed or not code.delegates or len(code.raw) > _SMALL_CODE:
            return None
        held = [f"0x{one.hex()}" for one in dict.fromkeys([*code.addresses, self._address_in("0x0")]) if any(one)]
        named = f"; it holds the addresses {', '.join(held)}" if held else ""
        return (
            f"0x{at.hex()} looks like a proxy ({len(code.raw):,} bytes of code with a DELEGATECALL), but its "
            f"implementation was not found{named}: the ABI is its own"
        )

    def _by_code(self, at: bytes, code: "_Code") -> Proxy | None:
        if code.raw.startswith(_DELEGATION) and len(code.raw) == len(_DELEGATION) + 20:
            return self._new(at, code.raw[3:], "an account that delegates (EIP-7702)", speaks=False)
        if (target := code.clone_of) is None:
            return None
        kind = "a clone"
        if code.raw.startswith(_CLONE_HEAD):
            kind = "ERC-1167"
        elif _PUSH0 in code.raw[:9]:
            kind = "a clone with PUSH0"
        return self._new(at, target, f"a minimal proxy ({kind})", speaks=False)

    def _by_slots(self, at: bytes, code: "_Code", *, first: bool) -> Proxy | None:
        # Storage may hold more than one: what an earlier kind of proxy left there is not in the code any more.
        for slot, kind in sorted(_SLOTS, key=lambda one: not code.holds(one[0])):
            if not first and not (code.delegates and code.holds(slot)):
                continue
            if found := self._new(at, self._address_in(slot), kind):
                second = self._address_in(SECONDARY_SLOT) if slot == IMPLEMENTATION_SLOT else b""
                if any(second) and second not in self._seen:
                    return Proxy(at, (*found.targets, second), f"{kind} of two implementations")
                return found
        if (first or (code.delegates and code.holds(BEACON_SLOT))) and any(beacon := self._address_in(BEACON_SLOT)):
            target = _address(self._ask(beacon, _IMPLEMENTATION_CALL))
            if target is not None:
                return self._new(at, target, f"a proxy (ERC-1967) of the beacon 0x{beacon.hex()}")
        return None

    def _by_getters(self, at: bytes, code: "_Code") -> Proxy | None:
        for call, kind in _GETTERS:
            if call == _MASTER_COPY_CALL and call not in code.raw:
                continue
            if code.creates and len(code.raw) > _SMALL_CODE:
                continue  # a factory tells the implementation of what it makes
            target = _address(self._ask(self._outer, call))
            if target is not None and any(target) and target not in self._seen and self._node.code(target):
                return self._new(at, target, kind)
        return None

    def _new(self, at: bytes, target: bytes, kind: str, *, speaks: bool = True) -> Proxy | None:
        return Proxy(at, (target,), kind, speaks) if any(target) and target not in self._seen else None

    def _address_in(self, slot: str) -> bytes:
        word = str(self._node.raw("eth_getStorageAt", ["0x" + self._outer.hex(), slot, "latest"]))
        return bytes.fromhex(word.removeprefix("0x").rjust(64, "0"))[-20:]

    def _ask(self, to: bytes, call: bytes) -> bytes:
        try:
            return self._node.eth_call(to, call)
        except CallReverted:
            return b""


class _Code:
    """A contract's code, read instruction by instruction: what is pushed is no instruction."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.clone_of: bytes | None = None
        self.addresses: list[bytes] = []
        operations: set[int] = set()
        at = 0
        while at < len(raw):
            operation = raw[at]
            width = operation - _PUSH0 if _PUSH1 <= operation <= _PUSH32 else 0
            pushed = raw[at + 1 : at + 1 + width]
            operations.add(operation)
            if operation == _PUSH20 or (operation == _PUSH32 and not any(pushed[:12]) and any(pushed[12:16])):
                self.addresses.append(pushed[-20:])
            clone = raw[at + 1 + width : at + 3 + width] == bytes((_GAS, _DELEGATECALL))
            if clone and _PUSH12 <= operation <= _PUSH20 and self.clone_of is None:
                self.clone_of = pushed.rjust(20, b"\0")
            at += 1 + width
        self.delegates = _DELEGATECALL in operations
        self.creates = bool(operations & {_CREATE, _CREATE2})

    def holds(self, slot: str) -> bool:
        """Whether a storage slot's number is in the code."""
        return int(slot, 16).to_bytes(32) in self.raw


def _address(word: bytes) -> bytes | None:
    return word[12:32] if len(word) == 32 and not any(word[:12]) else None


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 32])


def _addresses(data: bytes) -> list[bytes]:
    """An ``address[]``; empty where the answer is none."""
    if len(data) < 64 or _number(data, 0) != 32 or not 0 < _number(data, 32) <= _MOST_FACETS:
        return []
    words = [_address(data[64 + 32 * i : 96 + 32 * i]) for i in range(_number(data, 32))]
    return [word for word in words if word is not None] if None not in words else []


def _cut_addresses(data: bytes) -> list[bytes]:
    """The addresses of ``(address facet, bytes4[] selectors)[]``; empty where the answer is none."""
    if len(data) < 64 or _number(data, 0) != 32 or not 0 < _number(data, 32) <= _MOST_FACETS:
        return []
    offsets = [64 + _number(data, 64 + 32 * i) for i in range(_number(data, 32))]
    words = [_address(data[at : at + 32]) if at < len(data) else None for at in offsets]
    return [word for word in words if word is not None] if None not in words else []
