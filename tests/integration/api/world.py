"""The world that most tests of the API read: two chains, contracts of every kind, a head that can still change."""

from typing import Any

from psycopg.types.json import Jsonb

from tests.integration.api.seed import Seed, address, block_hash, block_time, hex_of

USDC, GOLD, SILVER, FACTORY, PAIR_A, PAIR_B, ZOO, BRIDGE = map(
    address, ("usdc", "gold", "silver", "factory", "pair a", "pair b", "zoo", "bridge")
)
ALICE, BOB, CAROL = map(address, ("alice", "bob", "carol"))

START, TIP, HEAD, FINALIZED, SAFE = 1000, 1299, 1300, 1200, 1250
#: Blocks of usdc.Transfer that history has not reached yet.
GAP = (1040, 1049)


def _argument(name: str, abi_type: str, *, indexed: bool = False, components: Any = None) -> dict[str, Any]:
    document: dict[str, Any] = {"name": name, "type": abi_type, "indexed": indexed}
    if components:
        document["components"] = components
    return document


ZOO_ABI = [
    {"type": "event", "name": "Odd", "inputs": [_argument("value", "uint256")]},
    {"type": "event", "name": "Odd", "inputs": [_argument("who", "address", indexed=True)]},
    {
        "type": "event",
        "name": "Everything",
        "inputs": [
            _argument("limit", "uint48", indexed=True),
            _argument("wide", "int256"),
            _argument("flag", "bool", indexed=True),
            _argument("label", "string"),
            _argument("key", "string", indexed=True),
            _argument("raw", "bytes"),
            _argument("word", "bytes4"),
            _argument("small", "uint16[]"),
            _argument("big", "uint256[]"),
            _argument("who", "address[2]"),
            _argument(
                "point",
                "tuple",
                components=[{"name": "x", "type": "int128"}, {"name": "tags", "type": "string[]"}],
            ),
            _argument("", "uint8"),
        ],
    },
]

MANIFEST = f"""
[chains.ethereum]
id = 1
rpc = ["http://127.0.0.1:1"]

[chains.base]
id = 8453
rpc = ["http://127.0.0.1:1"]

[contracts.usdc]
chain = "ethereum"
abi = "erc20.json"
address = "{hex_of(USDC)}"
start_block = {START}

[contracts.coins]
chain = "ethereum"
abi = "erc20.json"
address = ["{hex_of(GOLD)}", "{hex_of(SILVER)}"]
start_block = {START}

[contracts.factory]
chain = "ethereum"
abi = "uniswap_v2_factory.json"
address = "{hex_of(FACTORY)}"
start_block = {START}

[contracts.pair]
chain = "ethereum"
abi = "uniswap_v2_pair.json"
factory = {{ contract = "factory", event = "PairCreated", argument = "pair" }}
events = ["Swap", "Sync"]

[contracts.zoo]
chain = "ethereum"
abi = "zoo.json"
address = "{hex_of(ZOO)}"
start_block = {START}

[contracts.bridge]
chains = ["ethereum", "base"]
abi = "erc20.json"
address = "{hex_of(BRIDGE)}"
start_block = {START}

[contracts.gold_alone]
chain = "ethereum"
abi = "erc20.json"
address = "{hex_of(GOLD)}"
start_block = {START}
events = ["Approval"]

[snapshots.supply]
contract = "coins"
calls = ["totalSupply()", "decimals()"]
every = "10 blocks"
"""

EVERYTHING = {
    "limit": 2**48 - 1,
    "wide": -(2**255),
    "flag": True,
    "label": 'say "hi"\n\t\\ 100% \u2028 🦊',
    "key": bytes(range(32)),
    "raw": b"",
    "word": b"\xde\xad\xbe\xef",
    "small": [1, 65535],
    "big": [0, 2**256 - 1],
    "who": [ALICE, BOB],
    "point": {"x": "-170141183460469231731687303715884105728", "tags": ["a", 'b"']},
    "arg11": 255,
}


def transfers() -> list[dict[str, Any]]:
    """usdc.Transfer: two in every block but those of the gap."""
    people = (ALICE, BOB, CAROL)
    return [
        {
            "block": block,
            "log": log,
            "address": USDC,
            "from": people[(block + log) % 3],
            "to": people[(block + log + 1) % 3],
            "value": 10**30 + block * 10 + log,
        }
        for block in range(START, TIP + 1)
        if not GAP[0] <= block <= GAP[1]
        for log in (3, 7)
    ]


def build(seed: Seed, abis: dict[str, Any]) -> None:
    """Fill an empty, migrated database."""
    seed.declare(MANIFEST, {**abis, "zoo.json": ZOO_ABI})
    seed.rows("usdc", "Transfer", transfers())
    seed.rows(
        "coins",
        "Transfer",
        [
            {"block": b, "log": 1, "address": (GOLD, SILVER)[b % 2], "from": ALICE, "to": BOB, "value": b}
            for b in range(1100, 1200)
        ],
    )
    seed.rows(
        "factory",
        "PairCreated",
        [
            {"block": 1010, "log": 0, "address": FACTORY, "token0": USDC, "token1": GOLD, "pair": PAIR_A, "arg3": 1},
            {"block": 1020, "log": 0, "address": FACTORY, "token0": USDC, "token1": SILVER, "pair": PAIR_B, "arg3": 2},
        ],
    )
    for pair, birth in ((PAIR_A, 1010), (PAIR_B, 1020)):
        seed.execute(
            "INSERT INTO gapless.children "
            "VALUES (1, (SELECT id FROM gapless.contracts WHERE name = 'pair'), %s, %s, 0, %s)",
            (pair, birth, FACTORY),
        )
    seed.rows(
        "pair",
        "Sync",
        [
            {"block": b, "log": 5, "address": (PAIR_A, PAIR_B)[b % 2], "reserve0": b, "reserve1": 2 * b}
            for b in range(1060, 1090)
        ],
    )
    seed.rows("zoo", "Everything", [{"block": 1001, "log": 0, "address": ZOO, **EVERYTHING}])
    seed.rows("zoo", "Odd~" + seed_selector(seed, "Odd(uint256)"), [{"block": 1002, "address": ZOO, "value": 7}])
    for chain_id in (1, 8453):
        seed.rows(
            "bridge",
            "Transfer",
            [{"block": 1005, "log": 9, "address": BRIDGE, "from": BOB, "to": CAROL, "value": chain_id}],
            chain_id=chain_id,
        )
        seed.cover("bridge", (START, TIP), chain_id=chain_id)
    for contract in ("coins", "factory", "pair", "zoo", "gold_alone"):
        seed.cover(contract, (START, TIP))
    seed.cover("usdc", (START, GAP[0] - 1), (GAP[1] + 1, TIP))
    seed.head(TIP, head=HEAD, finalized=FINALIZED, safe=SAFE)
    seed.head(TIP, head=HEAD, finalized=FINALIZED, safe=SAFE, chain_id=8453)
    tokens(seed)
    supply(seed)


def tokens(seed: Seed) -> None:
    """What tokens say: one well-behaved, one odd, one that says nothing."""
    for token, kind, name, symbol, decimals, problems in (
        (USDC, "erc20", "USD Coin", "USDC", 6, None),
        (GOLD, "erc20", "Gold", "GLD", 18, {"symbol": "bytes32"}),
        (SILVER, None, None, None, None, {"name": "reverted"}),
    ):
        seed.execute(
            "INSERT INTO gapless.tokens (chain_id, address, kind, name, symbol, decimals, problems, block_number) "
            "VALUES (1, %s, %s, %s, %s, %s, %s, 1100)",
            (token, kind, name, symbol, decimals, Jsonb(problems) if problems else None),
        )


def supply(seed: Seed) -> None:
    """coins.supply: every tenth block; once a call failed."""
    for number in range(1100, 1300, 10):
        seed.execute(
            "INSERT INTO gapless.series_points (series_id, chain_id, block_number, block_hash) "
            "VALUES ((SELECT id FROM gapless.series WHERE name = 'supply'), 1, %s, %s)",
            (number, block_hash(number)),
        )
        seed.block(number)
        for coin in (GOLD, SILVER):
            failed = number == 1150 and coin == SILVER
            seed.execute(
                "INSERT INTO coins.supply (chain_id, block_number, block_time, contract_address, item, arguments, "
                "total_supply, decimals, failures) VALUES (1, %s, %s, %s, 0, '{}', %s, 18, %s)",
                (
                    number,
                    block_time(number),
                    coin,
                    None if failed else 10**24 + number,
                    Jsonb({"totalSupply()": "reverted"}) if failed else None,
                ),
            )


def seed_selector(seed: Seed, signature: str) -> str:
    """The selector that tells an overloaded event from its namesakes."""
    row = seed.execute("SELECT encode(topic0, 'hex') FROM gapless.events WHERE signature = %s", (signature,)).fetchone()
    assert row is not None
    return str(row[0])[:8]
