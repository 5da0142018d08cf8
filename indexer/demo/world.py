"""The demo's world: contracts on an anvil chain, deployed once and found again, and the manifest that indexes them.

One account, the deployer, sends nothing but the transactions of :func:`_plan`, in that order. Its nonce is therefore
the record of how far an earlier start came (one that was killed half-way is continued with the next transaction), and
every address is known before anything is deployed. The manifest is made of the templates ``demo.toml`` and
``derived.toml`` beside this file.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from multicall.constants import MULTICALL3_BYTECODE
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.types import Nonce, RPCEndpoint, TxParams, Wei
from web3.utils import get_create_address

from indexer.demo.contracts import ARTIFACTS, Artifact, artifact
from indexer.errors import GaplessError

MULTICALL3 = to_checksum_address("0xcA11bde05977b3631167028862bE2a173976CA11")

# Generous: no base fee of a test chain comes near it, and the accounts hold 10,000 ether each.
MAX_FEE = Wei(10**13)
TIP = Wei(10**9)
_ROOMY = 10**9  # gas of a block that shall hold whatever is sent

# name of the contract in the world -> (artifact, constructor's arguments; a name of the world stands for its address)
_DEPLOYMENTS: Mapping[str, tuple[str, tuple[object, ...]]] = MappingProxyType(
    {
        "gold": ("DemoToken", ("Demo Gold", "GOLD", 18)),
        "silver": ("DemoToken", ("Demo Silver", "SLVR", 6)),
        "copper": ("DemoToken", ("Demo Copper", "CPPR", 0)),
        # A name that no column should trust: 300 characters, a NUL byte, an emoji, markup.
        "odd": ("DemoToken", ("<b>Odd</b>\0\U0001f984 " + "very " * 57 + "odd", "\U0001f984\0", 77)),
        "maker": ("Bytes32Token", ()),
        "silent": ("SilentToken", ()),
        "nft": ("DemoNft", ()),
        "items": ("DemoItems", ()),
        "factory": ("Factory", ()),
        "trader": ("Trader", ("factory",)),
        "zoo": ("Zoo", ()),
    }
)
FUNGIBLE = ("gold", "silver", "copper", "odd", "maker", "silent")
TRADED = ("gold", "silver", "copper")
ITEM_IDS = (1, 2, 3, 4, 5)

TEMPLATE = Path(__file__).with_name("demo.toml")
DERIVED_TEMPLATE = TEMPLATE.with_name("derived.toml")


@dataclass(frozen=True)
class World:
    """What stands on the demo's chain, and the client to reach it.

    Attributes:
        w3: a client of the chain.
        deployer: the account that built the world; anything else it sent would break the next start.
        accounts: the funded, unlocked accounts that traffic may send from.
        addresses: contract addresses by name: gold, silver, copper, odd (ERC-20s, the last one with a hostile name),
            maker (bytes32 texts), silent (its texts revert), nft, items (ERC-1155), factory, trader, zoo.
        artifacts: what each of them was compiled to, by the same names.
        start_block: no log of the world is older.
    """

    w3: Web3 = field(repr=False, compare=False)
    chain_id: int
    deployer: ChecksumAddress
    accounts: tuple[ChecksumAddress, ...]
    addresses: Mapping[str, ChecksumAddress]
    artifacts: Mapping[str, Artifact] = field(repr=False)
    start_block: int

    def contract(self, name: str) -> Contract:
        """The contract ``name`` as a web3 contract."""
        return self.w3.eth.contract(self.addresses[name], abi=self.artifacts[name].abi)

    def pair(self, address: ChecksumAddress) -> Contract:
        """A pair of the factory as a web3 contract."""
        return self.w3.eth.contract(address, abi=artifact("Pair").abi)

    def pairs(self) -> list[ChecksumAddress]:
        """All pairs that the factory has made so far, oldest first."""
        factory = self.contract("factory").functions
        return [factory.allPairs(index).call() for index in range(factory.allPairsLength().call())]


def build(url: str) -> World:
    """Deploy the world on the anvil node at ``url``, or find it there.

    Whatever is missing goes into one block, whether the node mines by itself or not.

    Raises:
        GaplessError: the node is no anvil, or the deployer's account holds something else than this world.
    """
    w3 = connect(url)
    deployer, *accounts = reversed(w3.eth.accounts)
    names = list(_DEPLOYMENTS)
    addresses = {name: get_create_address(deployer, Nonce(nonce)) for nonce, name in enumerate(names)}
    world = World(
        w3=w3,
        chain_id=w3.eth.chain_id,
        deployer=deployer,
        accounts=tuple(reversed(accounts)),
        addresses=MappingProxyType(addresses),
        artifacts=MappingProxyType({name: artifact(_DEPLOYMENTS[name][0]) for name in names}),
        start_block=1,
    )
    # The multicall package carries the code; a real chain has it at this address by a transaction signed in advance.
    if not w3.eth.get_code(MULTICALL3):
        request(w3, "anvil_setCode", MULTICALL3, MULTICALL3_BYTECODE)
    done = w3.eth.get_transaction_count(deployer)
    _verify(world, names[:done])
    if todo := list(_plan(world))[done:]:
        _carry_out(world, todo, done)
        _verify(world, names)
    return world


def connect(url: str) -> Web3:
    """A client of the anvil node at ``url``.

    Raises:
        GaplessError: nothing answers there, or it is another kind of node (its state must not be tampered with).
    """
    # Its own retries would hide a node that is going down; everything here is local and answers at once.
    w3 = Web3(HTTPProvider(url, request_kwargs={"timeout": 30.0}, exception_retry_configuration=None))
    try:
        version = w3.client_version
    except OSError as error:
        raise GaplessError(f"No node answers at {url}: {error}", hint="Start anvil first.") from error
    if "anvil" not in version:
        raise GaplessError(f"The demo builds its world on anvil only; {url} is {version}")
    return w3


def request(w3: Web3, method: str, *params: object) -> Any:
    """One JSON-RPC call, its result unformatted.

    Raises:
        GaplessError: the node answered with an error.
    """
    return _result(method, w3.provider.make_request(RPCEndpoint(method), list(params)))


def batch(w3: Web3, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
    """Several JSON-RPC calls in one HTTP request, the results in the calls' order.

    Raises:
        GaplessError: the node refused the batch or one of its calls; the others may have been carried out.
    """
    if not calls:
        return []
    requests = [(RPCEndpoint(method), params) for method, params in calls]
    answers = cast(HTTPProvider, w3.provider).make_batch_request(requests)
    if not isinstance(answers, list) or len(answers) != len(calls):
        raise GaplessError(f"The node answered a batch of {len(calls)} calls with {str(answers)[:300]}")
    return [_result(method, answer) for (method, _), answer in zip(calls, answers, strict=True)]


def _result(method: str, answer: Mapping[str, Any]) -> Any:
    if "error" in answer:
        raise GaplessError(f"{method} failed: {answer['error']}")
    return answer["result"]


@contextmanager
def mining_by_hand(w3: Web3) -> Iterator[None]:
    """Nothing is mined in this block but by request, and blocks hold what is asked of them; afterwards as before."""
    automine, interval = request(w3, "anvil_getAutomine"), request(w3, "anvil_getIntervalMining")
    gas_limit = w3.eth.get_block("latest")["gasLimit"]
    request(w3, "evm_setAutomine", False)
    request(w3, "evm_setIntervalMining", 0)
    request(w3, "evm_setBlockGasLimit", hex(_ROOMY))
    try:
        yield
    finally:
        request(w3, "evm_setBlockGasLimit", hex(gas_limit))
        if interval:
            request(w3, "evm_setIntervalMining", interval)
        if automine:
            request(w3, "evm_setAutomine", True)


def transaction(sender: str, to: str | None, data: bytes, *, gas: int, tip: int = TIP) -> TxParams:
    """A transaction in JSON-RPC's form, without a nonce.

    Gas is given and never estimated: a transaction that reverts must be mined as well, and nothing is asked twice.
    """
    fields = {
        "from": sender,
        "data": HexBytes(data).to_0x_hex(),
        "gas": hex(gas),
        "maxFeePerGas": hex(MAX_FEE),
        "maxPriorityFeePerGas": hex(tip),
    }
    return cast(TxParams, fields if to is None else {**fields, "to": to})


def _plan(world: World) -> Iterable[TxParams]:
    """Everything that the deployer sends, in order: deployments first, then what makes the world lively."""
    for name, (_, arguments) in _DEPLOYMENTS.items():
        known = [world.addresses.get(a, a) if isinstance(a, str) else a for a in arguments]
        yield transaction(world.deployer, None, world.artifacts[name].creation(*known), gas=4_000_000)

    def call(name: str, function: str, *arguments: object) -> TxParams:
        data = world.artifacts[name].encode(function, *arguments)
        return transaction(world.deployer, world.addresses[name], data, gas=4_000_000)

    share = 10**24
    for name in TRADED:
        yield call(name, "mint", world.deployer, share * len(world.accounts))
        yield call(name, "spread", world.accounts, share)
    for name in ("odd", "maker", "silent"):
        for account in world.accounts:
            yield call(name, "mint", account, share)
    for account in world.accounts:
        yield call("items", "mintBatch", account, ITEM_IDS, [10**6] * len(ITEM_IDS))
        yield call("nft", "mint", account, 3)
    # A contract's nonce begins with 1: these are the addresses of the factory's first children.
    for number, (one, other) in enumerate(combinations(TRADED, 2), start=1):
        pair = get_create_address(world.addresses["factory"], Nonce(number))
        yield call("factory", "createPair", world.addresses[one], world.addresses[other])
        yield call("trader", "provide", pair, share, share, world.addresses["trader"])


def _carry_out(world: World, todo: Iterable[TxParams], first_nonce: int) -> None:
    """Sends what the deployer has not sent yet and mines it: on a fresh chain always as block 1."""
    w3 = world.w3
    sends = [
        ("eth_sendTransaction", [{**fields, "nonce": hex(nonce)}])
        for nonce, fields in enumerate(todo, start=first_nonce)
    ]
    with mining_by_hand(w3):
        hashes = batch(w3, sends)
        request(w3, "evm_mine")
    receipts = batch(w3, [("eth_getTransactionReceipt", [sent]) for sent in hashes])
    for sent, receipt in zip(hashes, receipts, strict=True):
        if receipt is None or int(receipt["status"], 16) != 1:
            raise GaplessError(f"Transaction {sent} of the demo's world {'failed' if receipt else 'was not mined'}")


def _verify(world: World, names: Iterable[str]) -> None:
    for name in names:
        compiled = world.artifacts[name]
        code = bytes(world.w3.eth.get_code(world.addresses[name]))
        if code != compiled.deployed_bytecode:
            found = "nothing" if not code else "another contract"
            raise GaplessError(
                f"The demo's chain has {found} where {name} ({compiled.name}) should be, at {world.addresses[name]}",
                hint="It was made by another version of the demo: delete its data directory to begin anew.",
            )


def manifest_text(world: World, *, derived: bool = False) -> str:
    """The manifest that indexes ``world``. It takes the node's URL from the environment, as ``RPC_URL``.

    Args:
        world: what stands on the chain.
        derived: with a derived table of each kind, and a program.
    """
    values: dict[str, object] = {
        **world.addresses,
        "artifacts": ARTIFACTS.as_posix(),
        "chain_id": world.chain_id,
        "start_block": world.start_block,
        "positions": TEMPLATE.with_name("positions.py").as_posix(),
    }
    template = TEMPLATE.read_text("utf-8") + (DERIVED_TEMPLATE.read_text("utf-8") if derived else "")
    return re.sub(r"@(\w+)@", lambda match: str(values[match[1]]), template)


def keep_manifest(path: Path, text: str) -> bool:
    """Writes the demo's manifest, where it is not there yet or is still as it was written; an edited one stays.

    Args:
        path: the manifest; what was written there last is noted beside it.
        text: what to write.

    Returns:
        False if it was edited, and left as it is.
    """
    noted = path.with_name(f".{path.name}.sha256")
    if path.exists():
        there = path.read_text("utf-8")
        if there != text and (not noted.exists() or noted.read_text("utf-8") != _digest(there)):
            return False
    # Noted first: cut off in between, the file on disk counts as edited, and is kept.
    noted.write_text(_digest(text), "utf-8")
    path.write_text(text, "utf-8")
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
