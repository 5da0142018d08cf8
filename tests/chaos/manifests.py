"""What the simulation indexes, in several versions, as an operator would change it while everything runs."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.chain import CHAIN_ID, COINS, HUB, HUBS, PEOPLE


def _event(name: str, *arguments: str) -> dict[str, Any]:
    inputs = []
    for argument in arguments:
        *kinds, label = argument.split()
        inputs.append({"name": label, "type": kinds[0], "indexed": "indexed" in kinds})
    return {"type": "event", "name": name, "anonymous": False, "inputs": inputs}


ABIS: dict[str, list[dict[str, Any]]] = {
    "coin": [
        _event("Transfer", "address indexed from", "address indexed to", "uint256 value"),
        _event("Approval", "address indexed owner", "address indexed spender", "uint256 value"),
        _event("Note", "address indexed who", "string text", "bytes data", "uint256[] amounts"),
        {"type": "function", "name": "totalSupply", "inputs": [], "stateMutability": "view",
         "outputs": [{"name": "", "type": "uint256"}]},
    ],
    "hub": [
        _event("Opened", "address indexed branch"),
        _event("Named", "address indexed kid", "address twin", "address indexed by"),
    ],
    "branch": [
        {"type": "event", "name": "Born", "anonymous": False, "inputs": [
            {"name": "birth", "type": "tuple", "indexed": False, "components": [
                {"name": "child", "type": "address"}, {"name": "weight", "type": "uint64"}]},
            {"name": "serial", "type": "uint256", "indexed": False}]},
    ],
    "kid": [
        _event("Said", "uint256 indexed number", "bytes32 word"),
        _event("Paid", "address indexed who", "int128 amount"),
    ],
}  # fmt: skip

ALWAYS = f"""
[contracts.hub]
chain = "sim"
abi = "hub.json"
address = "{HUB}"
start_block = 0

[contracts.branches]
chain = "sim"
abi = "branch.json"
factory = {{ contract = "hub", event = "Opened", argument = "branch" }}
"""

_HUB = """
[contracts.hub]
chain = "sim"
abi = "hub.json"
address = {addresses}
start_block = {start}
events = {events}
"""

_BRANCHES = ALWAYS[ALWAYS.index("[contracts.branches]") :]

KIDS = """
[contracts.kids]
chain = "sim"
abi = "kid.json"
factory = {{ contract = "branches", event = "Born", argument = "birth.child" }}
events = {events}
"""

_RULES = (
    '{ contract = "branches", event = "Born", argument = "birth.child" }',
    '{ contract = "hub", event = "Named", argument = "kid" }',
    '{ contract = "hub", event = "Named", argument = "twin" }',
)
"""What may announce a kid; all but the first need the hub's second event."""

_COINS = """
[contracts.coins]
chain = "sim"
abi = "coin.json"
address = {addresses}
start_block = 3
include = {include}
"""

_INCLUDES = ([], ["block"], ["transaction"], ["receipt"], ["block", "transaction", "receipt"])

_INFLOW = """
[contracts.inflow]
chain = "sim"
abi = "coin.json"
address = {place}
start_block = 10
events = ["Transfer"]
filters = {{ Transfer = {{ to = {people} }} }}
"""

_EVERYONE = """
[contracts.everyone]
chain = "sim"
abi = "coin.json"
address = "any"
start_block = 0
events = ["Transfer", "Note"]
"""

_LATE = f"""
[contracts.late]
chain = "sim"
abi = "coin.json"
address = "{COINS[2]}"
start_block = 60
end_block = 130
"""

_SUPPLY = """
[snapshots.supply]
contract = "coins"
calls = ["totalSupply()"]
every = "7 blocks"
start_block = 14
"""


_DERIVED = """
[derived.flow]
from = "coins.Transfer"
where = "value {than} 3"
key = {{ holder = "to_address", bucket = "block_number / {width}" }}
count = "moves"
sum = {{ total = "value" }}
average = {{ mean = "value" }}
min = {{ least = "value" }}
max = {{ most = "value" }}
first = {{ opened = "from_address" }}
last = {{ closed = "from_address" }}

[derived.crowd]
from = "flow"
key = {{ bucket = "bucket" }}
count = "holders"
sum = {{ total = "total" }}
average = {{ moves = "moves" }}

[derived.coin_use]
from = ["coins.Transfer", "coins.Approval"]
key = {{ coin = "contract_address" }}
count = "logs"
sum = {{ total = "value" }}

[derived.births]
from = "branches.Born"
lookup = {{ opened = {{ event = "hub.Opened", on = "branch = contract_address" }} }}
select = {{ hub = "opened.contract_address", opened_in = "opened.block_number" }}
stored = true
index = ["hub"]

[derived.hub_day]
from = "births"
key = {{ hub = "coalesce(hub, ''::bytea)", day = "gapless.day(block_time)" }}
count = "births"
last = {{ newest = "serial" }}

[derived.holders]
sql = "SELECT chain_id, holder, sum(total) AS total FROM derived.flow GROUP BY 1, 2"
key = ["chain_id", "holder"]
"""


def derived_rules(random: Random) -> str:
    """Rules of derived tables over contracts that every manifest has; sometimes others than before, or none."""
    if random.random() < 0.1:
        return ""
    return _DERIVED.format(than=random.choice((">", ">", "<=")), width=random.choice((5, 5, 20)))


def write_abis(folder: Path) -> None:
    for name, abi in ABIS.items():
        (folder / f"{name}.json").write_text(json.dumps(abi))


def manifest(random: Random, endpoints: int = 1, *, extra: str = "", balances: bool = False) -> str:
    """A manifest at random: which contracts, which of their addresses, events and filters, what is kept besides."""
    rpc = json.dumps([f"${{NODE_{i}}}" for i in range(endpoints)])
    parts = [f"[chains.sim]\nid = {CHAIN_ID}\nrpc = {rpc}\npoll_interval = 0.1\n{extra}", *_families(random)]
    coins = random.choice((COINS[:1], COINS[:2], COINS[1:2], COINS[:3]))
    parts.append(_COINS.format(addresses=json.dumps(list(coins)), include=json.dumps(random.choice(_INCLUDES))))
    if random.random() < 0.8:
        place = random.choice(('"any"', json.dumps(list(COINS[:2])), json.dumps(list(COINS[1:4]))))
        parts.append(_INFLOW.format(place=place, people=json.dumps(random.sample(PEOPLE, random.randint(1, 3)))))
    if random.random() < 0.6:
        parts.append(_EVERYONE)
    if random.random() < 0.6:
        parts.append(_LATE)
    if random.random() < 0.5:
        parts.append(_SUPPLY)
    if balances:
        parts.append('[balances]\ndaily = ["coins"]\n')
    return "\n".join(parts)


def _families(random: Random) -> list[str]:
    """The factories and their children: how many rules, and which events, addresses, filters and blocks."""
    named = random.random() < 0.7
    hub = _HUB.format(
        addresses=json.dumps(random.choice((HUBS[:1], HUBS, HUBS, HUBS[1:]))),
        start=random.choice((0, 0, 0, 12)),
        events=json.dumps(["Opened", "Named"] if named else ["Opened"]),
    )
    if random.random() < 0.2:
        hub += "end_block = 90\n"
    if named and random.random() < 0.4:
        hub += f"filters = {{ Named = {{ by = {json.dumps(random.sample(PEOPLE, random.randint(3, 6)))} }} }}\n"
    parts = [hub, _BRANCHES]
    # A contract is often declared, or comes back, when its factories are indexed already.
    if random.random() < 0.7:
        rules = random.sample(_RULES, random.randint(1, 3)) if named else _RULES[:1]
        kids = KIDS.format(events=json.dumps(random.choice((["Said"], ["Said", "Paid"]))))
        start = kids.index("factory = ")
        parts.append(kids[:start] + f"factory = [{', '.join(rules)}]" + kids[kids.index("\n", start) :])
    return parts
