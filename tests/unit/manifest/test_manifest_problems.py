"""What a wrong manifest is told: key, line, what was found, what is allowed; and all of it at once."""

from collections.abc import Callable

import pytest
from manifest_desk import ETHEREUM, REPOSITORY, USDC, Desk

from indexer.manifest import ManifestErrors, load_manifest
from indexer.problems import Problem

Read = Callable[[str], Problem]

BASE = '[chains.base]\nid = 8453\nrpc = ["${SECOND_RPC_URL}"]\n'
ERC20 = f'[contracts.usdc]\nabi = "abis/erc20.json"\naddress = "{USDC}"\n'
ODD = f'[contracts.odd]\nabi = "abis/odd.json"\naddress = "{USDC}"\n'
FACTORY = f'[contracts.factory]\nabi = "abis/uniswap_v2_factory.json"\naddress = "{USDC}"\n'
SUPPLY = '[snapshots.supply]\ncontract = "usdc"\ncalls = ["totalSupply()"]\nevery = "1 block"\n'


def child(rule: str) -> str:
    return f'[contracts.pair]\nabi = "abis/uniswap_v2_pair.json"\nfactory = {rule}\n'


def test_all_problems_at_once_each_with_its_line(desk: Desk) -> None:
    (desk.folder / "abis/broken.json").write_text("{}")
    problems = desk.problems(
        """
[chains.ethereum]
id = 1
rpc = ["${NOT_SET}"]
bloom_cheks = true
[contracts.usdc]
abi = "abis/erc20.json"
address = "0xa0B86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
events = ["Transfer", "Transferred"]
start_block = 10
end_block = 9
[contracts.short]
abi = "abis/missing.json"
address = "0x1234"
[contracts.usdc]
abi = "abis/erc20.json"
[contracts.broken]
abi = "abis/broken.json"
address = "any"
"""
    )
    assert [(problem.line, problem.key) for problem in problems] == [
        (4, "chains.ethereum.rpc[0]"),
        (5, "chains.ethereum.bloom_cheks"),
        (8, "contracts.usdc.address"),
        (9, "contracts.usdc.events[1]"),
        (10, "contracts.usdc.start_block"),
        (13, "contracts.short.abi"),
        (14, "contracts.short.address"),
        (15, "contracts.usdc"),
        (18, "contracts.broken.abi"),
    ]
    told = [problem.message for problem in problems]
    assert "NOT_SET is not set" in told[0]
    assert "did you mean bloom_checks?" in told[1]
    assert "checksum" in told[2]
    assert "did you mean Transfer?" in told[3]
    assert "start_block 10, end_block 9" in told[4]
    assert "cannot be read" in told[5]
    assert "40 hexadecimal digits" in told[6]
    assert "twice" in told[7]
    assert "not an ABI" in told[8]


def test_the_message_holds_every_problem(desk: Desk) -> None:
    path = desk.write(ETHEREUM + ERC20 + "start = 5\nevent = []\n")
    with pytest.raises(ManifestErrors) as caught:
        load_manifest(path, {})
    assert str(caught.value).splitlines() == [
        f"{path} has 3 problems:",
        "  line 3: chains.ethereum.rpc[0]: environment variable RPC_URL is not set: export it, or put it into .env"
        ' (found "${RPC_URL}")',
        *(f"  {problem}" for problem in caught.value.problems[1:]),
    ]
    assert caught.value.exit_status == 2


# A right file, with one thing wrong: the text, the key, a part of the message.
ONE_PROBLEM: dict[str, tuple[str, str, str]] = {
    "no chain": (ERC20.replace("address", "#"), "", "there is no chain"),
    "unknown table": (ETHEREUM + ERC20 + "[snapshot.x]\n", "snapshot", "did you mean snapshots?"),
    "chains no table": ("chains = 5\n" + ERC20, "chains", "expected a table"),
    "chain no table": ("[chains]\nethereum = 5\n" + ERC20, "chains.ethereum", "expected a table"),
    "chain name": ('[chains."1x"]\nid = 1\nrpc = ["${RPC_URL}"]\n' + ERC20, "chains.1x", "starts with a letter"),
    "chain without id": ('[chains.e]\nrpc = ["${RPC_URL}"]\n' + ERC20, "chains.e", "id is missing"),
    "chain id as text": ('[chains.e]\nid = "1"\nrpc = ["${RPC_URL}"]\n' + ERC20, "chains.e.id", "whole number"),
    "chain id zero": ('[chains.e]\nid = 0\nrpc = ["${RPC_URL}"]\n' + ERC20, "chains.e.id", "greater than or equal to 1"),
    "chain id too large": (
        '[chains.e]\nid = 2147483648\nrpc = ["${RPC_URL}"]\n' + ERC20,
        "chains.e.id",
        "less than or equal to 2147483647",
    ),
    "one id for two chains": (
        ETHEREUM + BASE.replace("8453", "1") + ERC20 + 'chain = "base"\n',
        "chains.base.id",
        "ethereum has this id",
    ),
    "no endpoint": ("[chains.e]\nid = 1\nrpc = []\n" + ERC20, "chains.e.rpc", "no endpoint"),
    "no rpc": ("[chains.e]\nid = 1\n" + ERC20, "chains.e", "rpc is missing"),
    "rpc no list": ('[chains.e]\nid = 1\nrpc = "${RPC_URL}"\n' + ERC20, "chains.e.rpc", "expected a list"),
    "rpc a number": ("[chains.e]\nid = 1\nrpc = [5]\n" + ERC20, "chains.e.rpc[0]", "expected a list of URLs"),
    "endpoint without url": ("[chains.e]\nid = 1\nrpc = [{}]\n" + ERC20, "chains.e.rpc[0]", "url is missing"),
    "endpoint key": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", prio = 1 }]\n' + ERC20,
        "chains.e.rpc[0].prio",
        "did you mean priority?",
    ),
    "endpoint rate": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", requests_per_second = 0 }]\n' + ERC20,
        "chains.e.rpc[0].requests_per_second",
        "greater than 0",
    ),
    "endpoint twice": (
        '[chains.e]\nid = 1\nrpc = ["${RPC_URL}", "${RPC_URL}"]\n' + ERC20,
        "chains.e.rpc[1]",
        "in the list already",
    ),
    "no URL": ('[chains.e]\nid = 1\nrpc = ["eth.example"]\n' + ERC20, "chains.e.rpc[0]", "not a URL"),
    "websocket": ('[chains.e]\nid = 1\nrpc = ["ws://eth.example"]\n' + ERC20, "chains.e.rpc[0]", "http://host"),
    "bad variable": ('[chains.e]\nid = 1\nrpc = ["${a b}"]\n' + ERC20, "chains.e.rpc[0]", "${NAME}"),
    "a key in the file": (
        '[chains.e]\nid = 1\nrpc = ["https://eth.example/v2/SECRETKEY"]\n' + ERC20,
        "chains.e.rpc[0]",
        "does not belong in this file",
    ),
    "finality": (ETHEREUM + 'finality = "latest"\n' + ERC20, "chains.ethereum.finality", '"finalized"'),
    "finality true": (ETHEREUM + "finality = true\n" + ERC20, "chains.ethereum.finality", '"finalized"'),
    "finality twice": (
        ETHEREUM + "finality = { blocks = 1, seconds = 1 }\n" + ERC20,
        "chains.ethereum.finality",
        "{ blocks = N }",
    ),
    "finality key": (
        ETHEREUM + "finality = { block = 1 }\n" + ERC20,
        "chains.ethereum.finality.block",
        "did you mean blocks?",
    ),
    "poll interval": (ETHEREUM + "poll_interval = -1\n" + ERC20, "chains.ethereum.poll_interval", "greater than 0"),
    "no contract": (ETHEREUM, "", "there is no contract"),
    "contract no table": (ETHEREUM + "[contracts]\nusdc = 5\n", "contracts.usdc", "expected a table"),
    "reserved schema": (ETHEREUM + ERC20.replace("usdc", "pg_mine"), "contracts.pg_mine", "reserved"),
    "reserved schema in capitals": (ETHEREUM + ERC20.replace("usdc", "Public"), "contracts.Public", "reserved"),
    "one schema for two": (
        ETHEREUM + ERC20 + ERC20.replace("usdc", "USDC"),
        "contracts.USDC",
        "which is that of contract usdc",
    ),
    "no abi": (ETHEREUM + f'[contracts.usdc]\naddress = "{USDC}"\n', "contracts.usdc", "abi is missing"),
    "abi a folder": (ETHEREUM + ERC20.replace("abis/erc20.json", "abis"), "contracts.usdc.abi", "cannot be read"),
    "abi without anything": (
        ETHEREUM + ERC20.replace("erc20.json", "empty.json"),
        "contracts.usdc.abi",
        "no event and no function",
    ),
    "nothing to index": (
        ETHEREUM + ERC20.replace("erc20.json", "functions.json"),
        "contracts.usdc.abi",
        "no snapshot calls its functions",
    ),
    "unknown chain": (
        ETHEREUM + ERC20 + 'chain = "ethereal"\n',
        "contracts.usdc.chain",
        "did you mean ethereum? (there is: ethereum)",
    ),
    "unknown chain in a list": (ETHEREUM + ERC20 + 'chains = ["base"]\n', "contracts.usdc.chains[0]", "no chain base"),
    "unknown chain of a table": (
        ETHEREUM + ERC20 + "[contracts.usdc.chains.base]\n",
        "contracts.usdc.chains.base",
        "no chain base",
    ),
    "a chain twice": (ETHEREUM + ERC20 + 'chains = ["ethereum", "ethereum"]\n', "contracts.usdc.chains", "twice"),
    "no chains": (ETHEREUM + ERC20 + "chains = []\n", "contracts.usdc.chains", "expected a list of chain names"),
    "chain and chains": (
        ETHEREUM + ERC20 + 'chain = "ethereum"\nchains = ["ethereum"]\n',
        "contracts.usdc.chain",
        "either chain or chains",
    ),
    "which chain": (ETHEREUM + BASE + ERC20, "contracts.usdc", "chain is missing: one or more of ethereum, base"),
    "key of one chain": (
        ETHEREUM + ERC20 + "[contracts.usdc.chains.ethereum]\nabi = 'x'\n",
        "contracts.usdc.chains.ethereum.abi",
        "unknown key",
    ),
    "no address": (ETHEREUM + '[contracts.usdc]\nabi = "abis/erc20.json"\n', "contracts.usdc", "address is missing"),
    "empty addresses": (
        ETHEREUM + '[contracts.usdc]\nabi = "abis/erc20.json"\naddress = []\n',
        "contracts.usdc.address",
        "the list is empty",
    ),
    "address a number": (
        ETHEREUM + '[contracts.usdc]\nabi = "abis/erc20.json"\naddress = 0xA0\n',
        "contracts.usdc.address",
        "a string",
    ),
    "address not hex": (ETHEREUM + ERC20.replace("0xA0", "0xZ0"), "contracts.usdc.address", "hexadecimal"),
    "address too long": (ETHEREUM + ERC20.replace("0xA0", "0xA0A0"), "contracts.usdc.address", "has 42"),
    "address twice": (
        ETHEREUM + f'[contracts.usdc]\nabi = "abis/erc20.json"\naddress = ["{USDC}", "{USDC.lower()}"]\n',
        "contracts.usdc.address[1]",
        "in the list already",
    ),
    "address and factory": (
        ETHEREUM + FACTORY + child('{ contract = "factory", event = "PairCreated", argument = "pair" }')
        + 'address = "any"\n',
        "contracts.pair",
        "either address or factory",
    ),
    "start as text": (ETHEREUM + ERC20 + 'start_block = "5"\n', "contracts.usdc.start_block", '"auto"'),
    "start below zero": (ETHEREUM + ERC20 + "start_block = -1\n", "contracts.usdc.start_block", "a block number"),
    "start beyond bigint": (
        ETHEREUM + ERC20 + "start_block = 9223372036854775807\n",
        "contracts.usdc.start_block",
        "a block number",
    ),
    "auto start of any": (
        ETHEREUM + '[contracts.usdc]\nabi = "abis/erc20.json"\naddress = "any"\nstart_block = "auto"\n',
        "contracts.usdc.start_block",
        "deployed",
    ),
    "end before an inherited start": (
        ETHEREUM
        + FACTORY
        + "start_block = 100\n"
        + child('{ contract = "factory", event = "PairCreated", argument = "pair" }')
        + "end_block = 99\n",
        "contracts.pair.start_block",
        "start_block 100, end_block 99",
    ),
    "end as text": (ETHEREUM + ERC20 + 'end_block = "5"\n', "contracts.usdc.end_block", "whole number"),
    "events no list": (ETHEREUM + ERC20 + 'events = "Transfer"\n', "contracts.usdc.events", "expected a list"),
    "an event twice": (
        ETHEREUM + ERC20 + 'events = ["Transfer", "Transfer(address,address,uint256)"]\n',
        "contracts.usdc.events[1]",
        "in the list already",
    ),
    "an overloaded event": (
        ETHEREUM + ODD + 'events = ["Moved"]\n',
        "contracts.odd.events[0]",
        "choose one of Moved~",
    ),
    "an anonymous event at any address": (
        ETHEREUM + ODD.replace(USDC, "any"),
        "contracts.odd.events",
        "anonymous event Ghost",
    ),
    "factory without keys": (
        ETHEREUM + FACTORY + child('{ event = "PairCreated", argument = "pair" }'),
        "contracts.pair.factory",
        "contract is missing",
    ),
    "factory key": (
        ETHEREUM + FACTORY + child('{ contract = "factory", event = "PairCreated", argumnet = "pair" }'),
        "contracts.pair.factory.argumnet",
        "did you mean argument?",
    ),
    "factory no table": (ETHEREUM + FACTORY + child('"factory"'), "contracts.pair.factory", "expected a table"),
    "factory an empty list": (ETHEREUM + FACTORY + child("[]"), "contracts.pair.factory", "the list is empty"),
    "factory unknown": (
        ETHEREUM + FACTORY + child('{ contract = "factori", event = "PairCreated", argument = "pair" }'),
        "contracts.pair.factory.contract",
        "did you mean factory?",
    ),
    "factory unknown, chain unsaid": (
        ETHEREUM + BASE + child('{ contract = "none", event = "PairCreated", argument = "pair" }'),
        "contracts.pair.factory.contract",
        "there is no contract none",
    ),
    "factory on another chain": (
        ETHEREUM + BASE + FACTORY + 'chain = "ethereum"\n'
        + child('{ contract = "factory", event = "PairCreated", argument = "pair" }') + 'chain = "base"\n',
        "contracts.pair.factory.contract",
        "factory is not on chain base",
    ),
    "factory's event": (
        ETHEREUM + FACTORY + child('[{ contract = "factory", event = "PoolCreated", argument = "pair" }]'),
        "contracts.pair.factory[0].event",
        "no event PoolCreated: it has PairCreated",
    ),
    "factory's event not selected": (
        ETHEREUM + ODD + 'events = ["Ghost"]\n' + child('{ contract = "odd", event = "Unnamed", argument = "arg0" }'),
        "contracts.pair.factory.event",
        "add it to contracts.odd.events",
    ),
    "factory's argument": (
        ETHEREUM + FACTORY + child('{ contract = "factory", event = "PairCreated", argument = "token2" }'),
        "contracts.pair.factory.argument",
        "did you mean token1? (there is: token0, token1, pair, arg3)",
    ),
    "factory's argument no address": (
        ETHEREUM + FACTORY + child('{ contract = "factory", event = "PairCreated", argument = "arg3" }'),
        "contracts.pair.factory.argument",
        "it is uint256",
    ),
    "factory's argument a list": (
        ETHEREUM + ODD + child('{ contract = "odd", event = "Created", argument = "all" }'),
        "contracts.pair.factory.argument",
        "it is address[]",
    ),
    "factory's argument a tuple": (
        ETHEREUM + ODD + child('{ contract = "odd", event = "Created", argument = "key" }'),
        "contracts.pair.factory.argument",
        "it is (address,uint24)",
    ),
    "factory's argument in no tuple": (
        ETHEREUM + FACTORY + child('{ contract = "factory", event = "PairCreated", argument = "pair.x" }'),
        "contracts.pair.factory.argument",
        "no argument pair.x",
    ),
    "factory's argument hashed": (
        ETHEREUM + ODD + child('{ contract = "odd", event = "Hashed", argument = "key.currency0" }'),
        "contracts.pair.factory.argument",
        "hash only",
    ),
    "its own factory": (
        ETHEREUM + child('{ contract = "pair", event = "Transfer", argument = "to" }'),
        "contracts.pair.factory.contract",
        "pair -> pair",
    ),
    "its own factory, chain unsaid": (
        ETHEREUM + BASE + child('{ contract = "pair", event = "Transfer", argument = "to" }'),
        "contracts.pair.factory.contract",
        "pair -> pair",
    ),
    "filter on an unknown event": (
        ETHEREUM + ERC20 + f'filters = {{ Transfers = {{ to = "{USDC}" }} }}\n',
        "contracts.usdc.filters.Transfers",
        "did you mean Transfer?",
    ),
    "filter on an event left out": (
        ETHEREUM + ERC20 + f'events = ["Approval"]\nfilters = {{ Transfer = {{ to = "{USDC}" }} }}\n',
        "contracts.usdc.filters.Transfer",
        "add it to contracts.usdc.events",
    ),
    "filter on an unknown argument": (
        ETHEREUM + ERC20 + f'filters = {{ Transfer = {{ too = "{USDC}" }} }}\n',
        "contracts.usdc.filters.Transfer.too",
        "did you mean to? (indexed arguments: from, to)",
    ),
    "filter on an argument that is not indexed": (
        ETHEREUM + ERC20 + "filters = { Transfer = { value = 5 } }\n",
        "contracts.usdc.filters.Transfer.value",
        "not indexed",
    ),
    "filter value": (
        ETHEREUM + ERC20 + f'filters = {{ Transfer = [{{ to = ["{USDC}", "0x12"] }}] }}\n',
        "contracts.usdc.filters.Transfer[0].to[1]",
        "20 bytes",
    ),
    "filter value twice": (
        ETHEREUM + ERC20 + f'filters = {{ Transfer = {{ to = ["{USDC}", "{USDC.lower()}"] }} }}\n',
        "contracts.usdc.filters.Transfer.to[1]",
        "in the list already",
    ),
    "filter of nothing": (
        ETHEREUM + ERC20 + "filters = { Transfer = [] }\n",
        "contracts.usdc.filters.Transfer",
        "nothing would pass",
    ),
    "filter on no value": (
        ETHEREUM + ERC20 + "filters = { Transfer = { to = [] } }\n",
        "contracts.usdc.filters.Transfer.to",
        "nothing would pass",
    ),
    "filter without arguments": (
        ETHEREUM + ERC20 + "filters = { Transfer = {} }\n",
        "contracts.usdc.filters.Transfer",
        "{ argument = value }",
    ),
    "filter no table": (ETHEREUM + ERC20 + "filters = []\n", "contracts.usdc.filters", "expected a table"),
    "two filters on one event": (
        ETHEREUM + ERC20
        + f'filters = {{ Transfer = {{ to = "{USDC}" }}, "Transfer(address,address,uint256)" = {{ to = "{USDC}" }} }}\n',
        'contracts.usdc.filters."Transfer(address,address,uint256)"',
        "has a filter already",
    ),
    "index on an unknown argument": (
        ETHEREUM + ERC20 + 'indexes = { Transfer = ["valeu"] }\n',
        "contracts.usdc.indexes.Transfer[0]",
        "did you mean value?",
    ),
    "index on an unknown event": (
        ETHEREUM + ERC20 + "indexes = { Burn = [] }\n",
        "contracts.usdc.indexes.Burn",
        "no event Burn",
    ),
    "indexes no list": (
        ETHEREUM + ERC20 + 'indexes = { Transfer = "value" }\n',
        "contracts.usdc.indexes.Transfer",
        "expected a list",
    ),
    "include": (
        ETHEREUM + ERC20 + 'include = ["block", "trace"]\n',
        "contracts.usdc.include[1]",
        "block, transaction, receipt",
    ),
    "snapshot name": (ETHEREUM + ERC20 + SUPPLY.replace(".supply", ".Supply"), "snapshots.Supply", "lower-case"),
    "snapshot of a reserved name": (ETHEREUM + ERC20 + SUPPLY.replace(".supply", ".table"), "snapshots.table", "reserved"),
    "snapshot named like an event": (
        ETHEREUM + ERC20 + SUPPLY.replace(".supply", ".transfer"),
        "snapshots.transfer",
        "usdc.transfer is that of an event",
    ),
    "snapshot of no contract": (
        ETHEREUM + ERC20 + SUPPLY.replace('"usdc"', '"usd"'),
        "snapshots.supply.contract",
        "did you mean usdc?",
    ),
    "snapshot without calls": (
        ETHEREUM + ERC20 + SUPPLY.replace("calls", "#"),
        "snapshots.supply",
        "calls is missing",
    ),
    "snapshot of no calls": (
        ETHEREUM + ERC20 + SUPPLY.replace('["totalSupply()"]', "[]"),
        "snapshots.supply.calls",
        "the list is empty",
    ),
    "snapshot of a number": (
        ETHEREUM + ERC20 + SUPPLY.replace('["totalSupply()"]', "[5]"),
        "snapshots.supply.calls[0]",
        "totalSupply()",
    ),
    "snapshot of an unknown function": (
        ETHEREUM + ERC20 + SUPPLY.replace("totalSupply", "totalSuply"),
        "snapshots.supply.calls[0]",
        "totalSupply()",
    ),
    "snapshot of a function that writes": (
        ETHEREUM + ODD + SUPPLY.replace("usdc", "odd").replace("totalSupply", "poke"),
        "snapshots.supply.calls[0]",
        "poke() is nonpayable",
    ),
    "snapshot of a function without outputs": (
        ETHEREUM + ODD + SUPPLY.replace("usdc", "odd").replace("totalSupply", "silent"),
        "snapshots.supply.calls[0]",
        "returns nothing",
    ),
    "snapshot of an overloaded function": (
        ETHEREUM + ODD + SUPPLY.replace("usdc", "odd").replace("totalSupply()", "at"),
        "snapshots.supply.calls[0]",
        "at(uint256), at(bytes32)",
    ),
    "call without its arguments": (
        ETHEREUM + ERC20 + SUPPLY.replace("totalSupply()", "balanceOf(address)"),
        "snapshots.supply.calls[0]",
        "takes 1 arguments, args has 0",
    ),
    "call with a wrong argument": (
        ETHEREUM + ERC20 + SUPPLY.replace('"totalSupply()"', '{ call = "balanceOf(address)", args = ["0x12"] }'),
        "snapshots.supply.calls[0].args[0]",
        "40 hexadecimal digits",
    ),
    "call with a wrong key": (
        ETHEREUM + ERC20 + SUPPLY.replace('"totalSupply()"', '{ call = "totalSupply()", arg = [] }'),
        "snapshots.supply.calls[0].arg",
        "did you mean args?",
    ),
    "call by a wrong name": (
        ETHEREUM + ERC20 + SUPPLY.replace('"totalSupply()"', '{ call = "totalSupply()", name = "A b" }'),
        "snapshots.supply.calls[0].name",
        "lower-case",
    ),
    "two calls of one name": (
        ETHEREUM + ERC20 + SUPPLY.replace('"totalSupply()"', '"totalSupply()", "totalSupply()"'),
        "snapshots.supply.calls[1]",
        "name of its own",
    ),
    "argument out of range": (
        ETHEREUM + ODD
        + SUPPLY.replace("usdc", "odd").replace('"totalSupply()"', '{ call = "sum", args = [128, true, [1, 2]] }'),
        "snapshots.supply.calls[0].args[0]",
        "int8",
    ),
    "argument list too short": (
        ETHEREUM + ODD
        + SUPPLY.replace("usdc", "odd").replace('"totalSupply()"', '{ call = "sum", args = [127, true, [1]] }'),
        "snapshots.supply.calls[0].args[2]",
        "uint256[2]",
    ),
    "a column without a query": (
        ETHEREUM + ERC20 + SUPPLY.replace('"totalSupply()"', '{ call = "balanceOf(address)", args = ["$who"] }'),
        "snapshots.supply.calls",
        "for_each",
    ),
    "a query that nobody uses": (
        ETHEREUM + ERC20 + SUPPLY + 'for_each = "SELECT 1"\n',
        "snapshots.supply.for_each",
        "no call uses",
    ),
    "a query that writes": (
        ETHEREUM + ERC20 + SUPPLY.replace('"totalSupply()"', '{ call = "balanceOf(address)", args = ["$who"] }')
        + 'for_each = "DELETE FROM x"\n',
        "snapshots.supply.for_each",
        "expected a SELECT",
    ),
    "schedule": (ETHEREUM + ERC20 + SUPPLY.replace("1 block", "often"), "snapshots.supply.every", '"100 blocks"'),
    "schedule of zero": (ETHEREUM + ERC20 + SUPPLY.replace("1 block", "0 blocks"), "snapshots.supply.every", "expected"),
    "no schedule": (ETHEREUM + ERC20 + SUPPLY.replace("every", "#"), "snapshots.supply", "every is missing"),
    "cron of four fields": (
        ETHEREUM + ERC20 + SUPPLY.replace("1 block", "cron * * * *"),
        "snapshots.supply.every",
        "5 fields",
    ),
    "cron out of range": (
        ETHEREUM + ERC20 + SUPPLY.replace("1 block", "cron 61 * * * *"),
        "snapshots.supply.every",
        "not a cron expression",
    ),
    "cron weekday by number": (
        ETHEREUM + ERC20 + SUPPLY.replace("1 block", "cron 0 0 * * 1"),
        "snapshots.supply.every",
        "name the weekdays",
    ),
    "snapshot on another chain": (
        ETHEREUM + ERC20 + SUPPLY + 'chains = ["base"]\n',
        "snapshots.supply.chains[0]",
        "it is on: ethereum",
    ),
    "snapshot of any address": (
        ETHEREUM + '[contracts.usdc]\nabi = "abis/erc20.json"\naddress = "any"\n' + SUPPLY,
        "snapshots.supply.contract",
        "no address to call",
    ),
    "tokens no table": ("tokens = 5\n" + ETHEREUM + ERC20, "tokens", "expected a table"),
    "tokens of an unknown contract": (
        ETHEREUM + ERC20 + '[tokens]\ncontracts = ["usd"]\n',
        "tokens.contracts[0]",
        "did you mean usdc?",
    ),
    "tokens of an unknown chain": (ETHEREUM + ERC20 + '[tokens]\nchains = ["base"]\n', "tokens.chains[0]", "no chain base"),
    "tokens of no token": (
        ETHEREUM + FACTORY + '[tokens]\ncontracts = ["factory"]\n',
        "tokens.contracts[0]",
        "none of the transfer events",
    ),
    "balances without transfers": (
        ETHEREUM + ERC20 + 'events = ["Approval"]\n[balances]\ncontracts = ["usdc"]\n',
        "balances.contracts[0]",
        "among its events",
    ),
    "balances of filtered transfers": (
        ETHEREUM + ERC20 + f'filters.Transfer.to = "{USDC}"\n[balances]\ncontracts = ["usdc"]\n',
        "balances.contracts[0]",
        "filters Transfer",
    ),
    "balances of half an ERC-1155": (
        ETHEREUM + ERC20.replace("erc20", "erc1155") + 'events = ["TransferSingle"]\n[balances]\ncontracts = ["usdc"]\n',
        "balances.contracts[0]",
        "TransferBatch(",
    ),
    "balances up to a block": (
        ETHEREUM + ERC20 + 'end_block = 5\n[balances]\ncontracts = ["usdc"]\n',
        "balances.contracts[0]",
        "ends at a block",
    ),
    "no TOML": (ETHEREUM + "x = \n", "", "not valid TOML: Invalid value"),
    "a key twice": (ETHEREUM + "id = 2\n" + ERC20, "", "not valid TOML: Cannot overwrite a value"),
    "brackets without end": ("x = " + "[" * 5000, "", "TOML"),
    "a number without end": ("x = " + "1" * 5000, "", "TOML"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "key", "message"), ONE_PROBLEM.values(), ids=ONE_PROBLEM)
def test_one_problem(desk: Desk, problem: Read, text: str, key: str, message: str) -> None:
    (desk.folder / "abis/empty.json").write_text("[]")
    (desk.folder / "abis/functions.json").write_text('[{"type": "function", "name": "f", "stateMutability": "view"}]')
    found = problem(text)
    assert found.key == key
    assert message in found.message
    if key:
        assert found.line is not None


def test_problems_in_an_abi_are_all_told(desk: Desk) -> None:
    (desk.folder / "abis/bad.json").write_text('[{"type": "event", "name": "A", "inputs": [{"type": "x"}]}, {"type": "b"}]')
    problems = desk.problems(ETHEREUM + ERC20.replace("erc20", "bad"))
    assert [problem.key for problem in problems] == ["contracts.usdc.abi"] * 2
    assert "[0].inputs[0].type" in problems[0].message
    assert "[1]" in problems[1].message


def test_a_mistake_in_one_contract_is_not_told_again_for_its_children(problem: Read) -> None:
    rule = '{ contract = "factory", event = "PairCreated", argument = "pair" }'
    assert problem(ETHEREUM + FACTORY.replace("v2_factory", "v9") + child(rule)).key == "contracts.factory.abi"
    assert problem(ETHEREUM + FACTORY + 'chain = "none"\n' + child(rule)).key == "contracts.factory.chain"
    assert problem(ETHEREUM + BASE + FACTORY + child(rule)).key == "contracts.factory"


def test_factories_in_a_circle(desk: Desk) -> None:
    problems = desk.problems(
        ETHEREUM
        + ODD.replace(f'address = "{USDC}"', 'factory = { contract = "two", event = "Unnamed", argument = "arg0" }')
        + ODD.replace("odd]", "two]").replace(
            f'address = "{USDC}"', 'factory = { contract = "odd", event = "Unnamed", argument = "arg0" }'
        )
    )
    assert "odd -> two -> odd" in "\n".join(problem.message for problem in problems)


def test_a_file_that_is_not_there(desk: Desk) -> None:
    with pytest.raises(ManifestErrors, match="No such file") as caught:
        load_manifest(desk.folder / "none.toml", {})
    assert "GAPLESS_MANIFEST" in str(caught.value.hint)


def test_a_file_that_is_no_text(desk: Desk) -> None:
    path = desk.write("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestErrors, match="UTF-8"):
        load_manifest(path, {})


def test_an_empty_variable_counts_as_unset(desk: Desk) -> None:
    (problem,) = desk.problems(ETHEREUM + ERC20, {"RPC_URL": " "})
    assert "RPC_URL is empty" in problem.message


@pytest.mark.parametrize("value", ["SECRETKEY", "eth.example/v2/SECRETKEY", "https://[SECRETKEY", "https://h:SECRETKEY/"])
def test_a_variable_that_is_no_url_is_not_shown(desk: Desk, value: str) -> None:
    (problem,) = desk.problems(ETHEREUM + ERC20, {"RPC_URL": value})
    assert "not a URL (the value of the environment variable)" in problem.message


@pytest.mark.parametrize(
    "line",
    [
        'rcp = ["https://eth.example/v2/SECRETKEY"]',
        'rcp = ["SECRETKEY"]',
        'rpc = "SECRETKEY"',
        'rpc = ["SECRETKEY"]',
        'rpc = [{ url = ["SECRETKEY"] }]',
        'rpc = [{ ulr = "SECRETKEY" }]',
        'rpc = ["SECRETKEY${RPC_URL_2}"]',
        'rpc = ["${RPC_URL_2}SECRETKEY"]',
        'rpc = ["${RPC URL}SECRETKEY"]',
    ],
)
def test_no_key_is_ever_shown(desk: Desk, line: str) -> None:
    desk.problems(f"[chains.ethereum]\nid = 1\n{line}\n{ERC20}")  # which asserts it


def test_the_shipped_manifest_asks_for_its_variable() -> None:
    with pytest.raises(ManifestErrors, match="RPC_URL is not set"):
        load_manifest(REPOSITORY / "indexer.toml", {})
