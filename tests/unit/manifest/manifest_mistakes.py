"""Every mistake that a manifest can have, one at a time: the text, the key that is told, a part of the message."""

from manifest_desk import ETHEREUM, USDC

BASE = '[chains.base]\nid = 8453\nrpc = ["${SECOND_RPC_URL}"]\n'
ERC20 = f'[contracts.usdc]\nabi = "abis/erc20.json"\naddress = "{USDC}"\n'
ODD = f'[contracts.odd]\nabi = "abis/odd.json"\naddress = "{USDC}"\n'
FACTORY = f'[contracts.factory]\nabi = "abis/uniswap_v2_factory.json"\naddress = "{USDC}"\n'
SUPPLY = '[snapshots.supply]\ncontract = "usdc"\ncalls = ["totalSupply()"]\nevery = "1 block"\n'


def child(rule: str) -> str:
    return f'[contracts.pair]\nabi = "abis/uniswap_v2_pair.json"\nfactory = {rule}\n'


ONE_PROBLEM: dict[str, tuple[str, str, str]] = {
    "no chain": (ERC20.replace("address", "#"), "", "there is no chain"),
    "unknown table": (ETHEREUM + ERC20 + "[snapshot.x]\n", "snapshot", "did you mean snapshots?"),
    "chains no table": ("chains = 5\n" + ERC20, "chains", "expected a table"),
    "chain no table": ("[chains]\nethereum = 5\n" + ERC20, "chains.ethereum", "expected a table"),
    "chain name": ('[chains."1x"]\nid = 1\nrpc = ["${RPC_URL}"]\n' + ERC20, "chains.1x", "starts with a letter"),
    "chain without id": ('[chains.e]\nrpc = ["${RPC_URL}"]\n' + ERC20, "chains.e", "id is missing"),
    "chain id as text": ('[chains.e]\nid = "1"\nrpc = ["${RPC_URL}"]\n' + ERC20, "chains.e.id", "whole number"),
    "chain id zero": (
        '[chains.e]\nid = 0\nrpc = ["${RPC_URL}"]\n' + ERC20,
        "chains.e.id",
        "should be greater than or equal to 1",
    ),
    "chain id too large": (
        '[chains.e]\nid = 9007199254740993\nrpc = ["${RPC_URL}"]\n' + ERC20,
        "chains.e.id",
        "should be less than or equal to 9007199254740992",
    ),
    "one id for two chains": (
        ETHEREUM + BASE.replace("8453", "1") + ERC20 + 'chain = "base"\n',
        "chains.base.id",
        "ethereum has this id",
    ),
    "unknown check of history": (
        ETHEREUM + 'check_history = "all"\n' + ERC20,
        "chains.ethereum.check_history",
        "should be 'bloom', 'sample' or 'none'",
    ),
    "check of history without blooms": (
        ETHEREUM + 'bloom_checks = false\ncheck_history = "bloom"\n' + ERC20,
        "chains.ethereum.check_history",
        'write "none"',
    ),
    "history of another kind": (
        ETHEREUM + 'history = ["https://sqd.example/SECRETKEY"]\n' + ERC20,
        "chains.ethereum.history[0]",
        'expected a list of "sqd:',
    ),
    "history with a key in the file": (
        ETHEREUM + 'history = ["sqd:https://sqd.example/v1/SECRETKEY"]\n' + ERC20,
        "chains.ethereum.history[0]",
        "may hold a key",
    ),
    "history over a socket": (
        ETHEREUM + 'history = ["sqd:ipc:///run/geth.ipc"]\n' + ERC20,
        "chains.ethereum.history[0]",
        "by http or https",
    ),
    "history of an unset variable": (
        ETHEREUM + 'history = ["sqd:${NOT_SET}"]\n' + ERC20,
        "chains.ethereum.history[0]",
        "NOT_SET is not set",
    ),
    "history twice": (
        ETHEREUM + 'history = ["sqd:${RPC_URL}", { url = "sqd:${RPC_URL}" }]\n' + ERC20,
        "chains.ethereum.history[1].url",
        "in the list already",
    ),
    "history without url": (ETHEREUM + "history = [{}]\n" + ERC20, "chains.ethereum.history[0]", "url is missing"),
    "history verified somehow": (
        ETHEREUM + 'history = [{ url = "sqd:${RPC_URL}", verify = "some" }]\n' + ERC20,
        "chains.ethereum.history[0].verify",
        "should be 'all', 'sample' or 'none'",
    ),
    "history of logs numbered by transaction": (
        ETHEREUM + 'log_index = "per_transaction"\nhistory = ["sqd:${RPC_URL}"]\n' + ERC20,
        "chains.ethereum.history",
        "number logs through the whole block",
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
    "no credits": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", credits_per_day = 0 }]\n' + ERC20,
        "chains.e.rpc[0].credits_per_day",
        "greater than 0",
    ),
    "half a credit": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", credits = { default = 1, eth_call = 0.5 } }]\n' + ERC20,
        "chains.e.rpc[0].credits.eth_call",
        "expected a whole number",
    ),
    "credits without a default": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", credits = { eth_call = 5 } }]\n' + ERC20,
        "chains.e.rpc[0].credits",
        "default is missing",
    ),
    "credits of no method": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", credits = { default = 1, "eth call" = 5 } }]\n' + ERC20,
        'chains.e.rpc[0].credits."eth call"',
        "name of a JSON-RPC method",
    ),
    "a price without a currency": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", price_per_million_credits = "0.40" }]\n' + ERC20,
        "chains.e.rpc[0].price_per_million_credits",
        '"0.40 USD"',
    ),
    "credits of what is not asked": (
        '[chains.e]\nid = 1\nrpc = ["${RPC_URL}", { url = "ws://127.0.0.1:1", credits_per_day = 5 }]\n' + ERC20,
        "chains.e.rpc[1].credits_per_day",
        "pushes new heads",
    ),
    "header without a variable": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", headers = { X-Api-Key = "SECRETKEY" } }]\n' + ERC20,
        "chains.e.rpc[0].headers.X-Api-Key",
        "put it into an environment variable",
    ),
    "header of an unset variable": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", headers = { Authorization = "Bearer ${NOT_SET}" } }]\n'
        + ERC20,
        "chains.e.rpc[0].headers.Authorization",
        "NOT_SET is not set",
    ),
    "header with a bad name": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", headers = { "a b" = "${RPC_URL}" } }]\n' + ERC20,
        'chains.e.rpc[0].headers."a b"',
        "has only letters",
    ),
    "header of our own": (
        '[chains.e]\nid = 1\nrpc = [{ url = "${RPC_URL}", headers = { Content-Type = "${RPC_URL}" } }]\n' + ERC20,
        "chains.e.rpc[0].headers.Content-Type",
        "set by Gapless itself",
    ),
    "endpoint twice": (
        '[chains.e]\nid = 1\nrpc = ["${RPC_URL}", "${RPC_URL}"]\n' + ERC20,
        "chains.e.rpc[1]",
        "in the list already",
    ),
    "no URL": ('[chains.e]\nid = 1\nrpc = ["eth.example"]\n' + ERC20, "chains.e.rpc[0]", "not a URL"),
    "websocket": ('[chains.e]\nid = 1\nrpc = ["ws://eth.example"]\n' + ERC20, "chains.e.rpc", "list an http"),
    "a socket without a path": ('[chains.e]\nid = 1\nrpc = ["ipc://"]\n' + ERC20, "chains.e.rpc[0]", "ipc:///path"),
    "a pace of what is not asked": (
        '[chains.e]\nid = 1\nrpc = ["${RPC_URL}", { url = "ws://127.0.0.1:1", requests_per_second = 5 }]\n' + ERC20,
        "chains.e.rpc[1].requests_per_second",
        "pushes new heads",
    ),
    "a socket with a host": ('[chains.e]\nid = 1\nrpc = ["ipc://a/b"]\n' + ERC20, "chains.e.rpc[0]", "three slashes"),
    "a socket that is a folder": ('[chains.e]\nid = 1\nrpc = ["ipc:///a/"]\n' + ERC20, "chains.e.rpc[0]", "socket"),
    "a socket with headers": (
        '[chains.e]\nid = 1\nrpc = [{ url = "ipc:///a/b", headers = { X = "${RPC_URL}" } }]\n' + ERC20,
        "chains.e.rpc[0].headers",
        "no HTTP headers",
    ),
    "a long path of a socket": (
        f'[chains.e]\nid = 1\nrpc = ["ipc:///{"a" * 107}"]\n' + ERC20,
        "chains.e.rpc[0]",
        "at most 107 bytes",
    ),
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
        ETHEREUM
        + FACTORY
        + child('{ contract = "factory", event = "PairCreated", argument = "pair" }')
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
        ETHEREUM
        + BASE
        + FACTORY
        + 'chain = "ethereum"\n'
        + child('{ contract = "factory", event = "PairCreated", argument = "pair" }')
        + 'chain = "base"\n',
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
        ETHEREUM
        + ERC20
        + f'filters.Transfer.to = "{USDC}"\nfilters."Transfer(address,address,uint256)".to = "{USDC}"\n',
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
    "a token that is no address": (
        ETHEREUM + ERC20 + 'token_arguments = { Transfer = ["value"] }\n',
        "contracts.usdc.token_arguments.Transfer[0]",
        "no argument value of type address",
    ),
    "include": (
        ETHEREUM + ERC20 + 'include = ["block", "trace"]\n',
        "contracts.usdc.include[1]",
        "block, transaction, receipt",
    ),
    "snapshot name": (ETHEREUM + ERC20 + SUPPLY.replace(".supply", ".Supply"), "snapshots.Supply", "lower-case"),
    "snapshot of a reserved name": (
        ETHEREUM + ERC20 + SUPPLY.replace(".supply", ".table"),
        "snapshots.table",
        "reserved",
    ),
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
        ETHEREUM
        + ODD
        + SUPPLY.replace("usdc", "odd").replace('"totalSupply()"', '{ call = "sum", args = [128, true, [1, 2]] }'),
        "snapshots.supply.calls[0].args[0]",
        "int8",
    ),
    "argument list too short": (
        ETHEREUM
        + ODD
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
        ETHEREUM
        + ERC20
        + SUPPLY.replace('"totalSupply()"', '{ call = "balanceOf(address)", args = ["$who"] }')
        + 'for_each = "DELETE FROM x"\n',
        "snapshots.supply.for_each",
        "expected a SELECT",
    ),
    "schedule": (ETHEREUM + ERC20 + SUPPLY.replace("1 block", "often"), "snapshots.supply.every", '"100 blocks"'),
    "schedule of zero": (ETHEREUM + ERC20 + SUPPLY.replace("1 block", "0 days"), "snapshots.supply.every", "expected"),
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
    "snapshot on no chain": (
        ETHEREUM + ERC20 + SUPPLY + "chains = []\n",
        "snapshots.supply.chains",
        "the list is empty",
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
    "tokens of an unknown chain": (
        ETHEREUM + ERC20 + '[tokens]\nchains = ["base"]\n',
        "tokens.chains[0]",
        "no chain base",
    ),
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
    "days of balances that are not kept": (
        ETHEREUM + ERC20 + '[balances]\ncontracts = ["usdc"]\ndaily = ["usdt"]\n',
        "balances.daily[0]",
        "no balances are kept of usdt",
    ),
    "days of tokens": (
        ETHEREUM + ERC20 + '[tokens]\ndaily = ["usdc"]\n',
        "tokens.daily",
        "unknown key",
    ),
    "balances of filtered transfers": (
        ETHEREUM + ERC20 + f'filters.Transfer.to = "{USDC}"\n[balances]\ncontracts = ["usdc"]\n',
        "balances.contracts[0]",
        "filters Transfer",
    ),
    "balances of half an ERC-1155": (
        ETHEREUM
        + ERC20.replace("erc20", "erc1155")
        + 'events = ["TransferSingle"]\n[balances]\ncontracts = ["usdc"]\n',
        "balances.contracts[0]",
        "TransferBatch(",
    ),
    "balances by two standards at once": (
        ETHEREUM + ERC20.replace("erc20", "two_standards") + '[balances]\ncontracts = ["usdc"]\n',
        "balances.contracts[0]",
        "has the transfer events of two standards",
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
}
