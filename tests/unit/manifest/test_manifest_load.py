"""What a right manifest becomes."""

import pickle
from typing import Any

import pytest
from eth_hash.auto import keccak
from manifest_desk import ENVIRON, ETHEREUM, REPOSITORY, USDC, Desk

from indexer.manifest import load_manifest
from indexer.manifest.model import Deployment, Finality, Manifest
from indexer.sync.setup.network import endpoint_configs

BASE = '[chains.base]\nid = 8453\nrpc = ["${SECOND_RPC_URL}"]\n'
ERC20 = f'[contracts.usdc]\nabi = "abis/erc20.json"\naddress = "{USDC}"\n'
WITH_USDC = ETHEREUM + ERC20
FACTORY = """
[contracts.factory]
abi = "abis/uniswap_v2_factory.json"
address = "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f"
start_block = 10000835
[contracts.pair]
abi = "abis/uniswap_v2_pair.json"
factory = { contract = "factory", event = "PairCreated", argument = "pair" }
"""


def only_deployment(manifest: Manifest, contract: str = "usdc") -> Deployment:
    (deployment,) = manifest.contracts[contract].deployments
    return deployment


def test_the_shipped_manifest_is_right() -> None:
    manifest = load_manifest(REPOSITORY / "indexer.toml", ENVIRON)
    assert "usdc" in manifest.contracts
    assert only_deployment(manifest).addresses == (bytes.fromhex(USDC[2:]),)


def test_a_contract_with_the_defaults(desk: Desk) -> None:
    manifest = desk.load(WITH_USDC)
    contract = manifest.contracts["usdc"]
    assert contract.schema_name == "usdc"
    assert [event.name for event in contract.events] == ["Transfer", "Approval"]
    assert contract.abi_path == desk.folder / "abis/erc20.json"
    assert (contract.indexes, contract.include, contract.tx_hash_index) == ({}, frozenset(), True)
    assert only_deployment(manifest) == Deployment(
        chain="ethereum",
        chain_id=1,
        kind="addresses",
        addresses=(bytes.fromhex(USDC[2:]),),
        factories=(),
        start_block=0,
        end_block=None,
        filters={},
    )
    assert contract.deployment("ethereum") == only_deployment(manifest)
    assert contract.deployment("base") is None
    assert manifest.contracts_on("ethereum") == (contract,)
    assert manifest.contracts_on("base") == ()


def test_endpoints_carry_their_key_but_do_not_show_it(desk: Desk) -> None:
    manifest = desk.load(
        """
        [chains.ethereum]
        id = 1
        rpc = [
          "${RPC_URL}",
          { url = "${SECOND_RPC_URL}x?y=${RPC_URL}", priority = 2, requests_per_second = 10, archive = true },
          "http://127.0.0.1:8545",
        ]
        """
        + ERC20
    )
    first, second, third = manifest.chains["ethereum"].endpoints
    assert first.url.reveal() == ENVIRON["RPC_URL"]
    assert second.url.reveal() == f"https://user:SECRETKEY@two.example/x?y={ENVIRON['RPC_URL']}"
    assert (second.priority, second.requests_per_second, second.archive) == (2, 10, True)
    assert third.url.reveal() == "http://127.0.0.1:8545"
    assert "SECRETKEY" not in repr(manifest) + str(manifest)
    assert "https://eth.example/***" in repr(manifest)


def test_what_an_endpoint_may_cost(desk: Desk) -> None:
    manifest = desk.load(
        """
        [chains.ethereum]
        id = 1
        rpc = [
          { url = "${RPC_URL}", credits_per_day = 10_000_000, price_per_million_credits = "0.40 USD" },
          { url = "http://127.0.0.1:8545", credits = { default = 20, eth_getLogs = 75 } },
        ]
        """
        + ERC20
    )
    first, second = manifest.chains["ethereum"].endpoints
    assert (first.credits_per_day, first.credits) == (10_000_000, ())
    assert first.price is not None
    assert (str(first.price.amount), first.price.currency) == ("0.40", "USD")
    assert (second.credits_per_day, second.price) == (None, None)
    assert endpoint_configs(manifest.chains["ethereum"])[1].prices.of(["eth_getLogs", "eth_call"]) == 95


def test_headers_of_an_endpoint_come_from_the_environment_and_are_not_shown(desk: Desk) -> None:
    manifest = desk.load(
        """
        [chains.ethereum]
        id = 1
        rpc = [{ url = "http://127.0.0.1:8545", headers = { Authorization = "Bearer ${RPC_URL}", X-A = "${RPC_URL}" } }]
        """
        + ERC20
    )
    (endpoint,) = manifest.chains["ethereum"].endpoints
    assert {name: value.reveal() for name, value in endpoint.headers} == {
        "Authorization": f"Bearer {ENVIRON['RPC_URL']}",
        "X-A": ENVIRON["RPC_URL"],
    }
    assert "Bearer" not in repr(manifest) + str(manifest)
    (config,) = endpoint_configs(manifest.chains["ethereum"])
    assert config.headers["Authorization"].startswith("Bearer ")
    assert "Bearer" not in repr(config)


@pytest.mark.parametrize(
    "address",
    [
        "0x5aaEB6053f3e94c9b9a09f33669435E7ef1bEAeD",  # EIP-1191, Rootstock
        "0x5aAeb6053F3e94c9b9A09F33669435E7EF1BEaEd",  # EIP-1191, its test network
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",  # EIP-55
    ],
)
def test_checksums_of_rootstock_are_right_too(desk: Desk, address: str) -> None:
    manifest = desk.load(ETHEREUM + f'[contracts.one]\nabi = "abis/erc20.json"\naddress = "{address}"\n')
    assert only_deployment(manifest, "one").addresses == (bytes.fromhex(address[2:]),)


@pytest.mark.parametrize(
    ("written", "finality"),
    [
        ("", Finality("tag", 0)),
        ('finality = "finalized"', Finality("tag", 0)),
        ("finality = 12", Finality("blocks", 12)),
        ("finality = 0", Finality("blocks", 0)),
        ("finality = { blocks = 64 }", Finality("blocks", 64)),
        ("finality = { seconds = 900 }", Finality("seconds", 900)),
    ],
)
def test_finality(desk: Desk, written: str, finality: Finality) -> None:
    chain = desk.load(ETHEREUM + written + "\n" + ERC20).chains["ethereum"]
    assert chain.finality == finality


def test_a_chain_with_everything(desk: Desk) -> None:
    chain = desk.load(f"{ETHEREUM}poll_interval = 2\nbloom_checks = false\n{ERC20}").chains["ethereum"]
    assert (chain.name, chain.chain_id, chain.poll_interval, chain.bloom_checks) == ("ethereum", 1, 2.0, False)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", "sample"),
        ('check_history = "bloom"', "bloom"),
        ('check_history = "none"', "none"),
        ("bloom_checks = false", "none"),
        ('bloom_checks = false\ncheck_history = "none"', "none"),
    ],
)
def test_how_much_of_history_is_compared_with_blooms(desk: Desk, written: str, read: str) -> None:
    assert desk.load(f"{ETHEREUM}{written}\n{ERC20}").chains["ethereum"].check_history == read


def test_sources_of_history_keep_their_keys_to_themselves(desk: Desk) -> None:
    history = """history = [
        "sqd:${PORTAL_URL}", "sqd:https://open.example/datasets/eth-main",
        { url = "sqd:${OTHER}", verify = "all", requests_per_second = 2, headers = { X = "Bearer ${KEY}" } },
    ]
    """
    environ = ENVIRON | {
        "PORTAL_URL": "https://a.example/SECRETKEY",
        "OTHER": "http://b.example/x",
        "KEY": "SECRETKEY",
    }
    chain = desk.load(ETHEREUM + history + ERC20, environ).chains["ethereum"]
    first, second, third = chain.history
    assert [one.url.reveal() for one in chain.history] == [
        "https://a.example/SECRETKEY", "https://open.example/datasets/eth-main", "http://b.example/x",
    ]  # fmt: skip
    assert (first.verify, first.requests_per_second, second.verify) == ("sample", None, "sample")
    assert (third.verify, third.requests_per_second) == ("all", 2.0)
    assert [(name, value.reveal()) for name, value in third.headers] == [("X", "Bearer SECRETKEY")]
    assert "SECRETKEY" not in repr(chain)


def test_addresses_keep_their_order_and_need_no_checksum_in_one_case(desk: Desk) -> None:
    addresses = ["0x" + "cd" * 20, "0x" + "AB" * 20, USDC]
    manifest = desk.load(ETHEREUM + f'[contracts.many]\nabi = "abis/erc20.json"\naddress = {addresses}\n')
    assert only_deployment(manifest, "many").addresses == (b"\xcd" * 20, b"\xab" * 20, bytes.fromhex(USDC[2:]))


def test_events_by_name_selector_and_signature_come_in_the_order_of_the_abi(desk: Desk) -> None:
    selector = keccak(b"Moved(address,uint256)")[:4].hex()
    contract = desk.load(
        f"""{ETHEREUM}
        [contracts.odd]
        abi = "abis/odd.json"
        address = "{USDC}"
        events = ["Counted", "Moved(address, bytes32)", "Moved~{selector}"]
        """
    ).contracts["odd"]
    assert [event.signature for event in contract.events] == [
        "Moved(address,uint256)",
        "Moved(address,bytes32)",
        "Counted(uint256,bool)",
    ]


def test_no_events_at_all_for_a_contract_that_is_only_read(desk: Desk) -> None:
    manifest = desk.load(
        f'{WITH_USDC}events = []\n[snapshots.supply]\ncontract = "usdc"\ncalls = ["totalSupply()"]\nevery = "1 block"\n'
    )
    assert manifest.contracts["usdc"].events == ()


def test_a_factory_gives_its_children_chain_and_start(desk: Desk) -> None:
    manifest = desk.load(ETHEREUM + BASE + FACTORY.replace("start_block", 'chain = "base"\nstart_block'))
    child = only_deployment(manifest, "pair")
    assert (child.chain, child.chain_id, child.kind, child.start_block) == ("base", 8453, "factory", 10000835)
    (rule,) = child.factories
    assert (rule.contract, rule.event.name, rule.argument, rule.path) == ("factory", "PairCreated", "pair", (2,))


def test_a_child_may_start_later_and_end(desk: Desk) -> None:
    child = only_deployment(desk.load(ETHEREUM + FACTORY + "start_block = 11000000\nend_block = 11000000\n"), "pair")
    assert (child.start_block, child.end_block) == (11000000, 11000000)


def test_factories_of_factories_in_any_order_of_the_file(desk: Desk) -> None:
    manifest = desk.load(
        ETHEREUM
        + """
        [contracts.grandchild]
        abi = "abis/erc20.json"
        factory = [
          { contract = "child", event = "Created", argument = "key.currency0" },
          { contract = "child", event = "Unnamed", argument = "arg1" },
        ]
        [contracts.child]
        abi = "abis/odd.json"
        factory = { contract = "root", event = "PairCreated", argument = "pair" }
        events = ["Created", "Unnamed"]
        [contracts.root]
        abi = "abis/uniswap_v2_factory.json"
        address = "any"
        start_block = 7
        """
    )
    grandchild = only_deployment(manifest, "grandchild")
    assert [(rule.argument, rule.path) for rule in grandchild.factories] == [("key.currency0", (0, 0)), ("arg1", (1,))]
    assert grandchild.start_block == 7
    assert only_deployment(manifest, "root").kind == "any"


def test_auto_start_passes_to_the_children(desk: Desk) -> None:
    manifest = desk.load(ETHEREUM + FACTORY.replace("10000835", '"auto"'))
    assert only_deployment(manifest, "factory").start_block == "auto"
    assert only_deployment(manifest, "pair").start_block == "auto"


def test_one_contract_on_several_chains_shares_what_is_not_said_anew(desk: Desk) -> None:
    manifest = desk.load(
        ETHEREUM
        + BASE
        + f"""
        [contracts.usdc]
        abi = "abis/erc20.json"
        start_block = 100
        end_block = 900
        filters = {{ Transfer = {{ to = "{USDC}" }} }}
        [contracts.usdc.chains.base]
        address = "any"
        start_block = 5
        filters = {{}}
        [contracts.usdc.chains.ethereum]
        address = "{USDC}"
        """
    )
    ethereum, base = manifest.contracts["usdc"].deployments
    assert (ethereum.chain, ethereum.kind, ethereum.start_block, ethereum.end_block) == (
        "ethereum",
        "addresses",
        100,
        900,
    )
    assert (base.chain, base.kind, base.start_block, base.end_block) == ("base", "any", 5, 900)
    assert list(ethereum.filters) == ["Transfer"]
    assert base.filters == {}


def test_an_address_on_one_chain_replaces_the_factory_of_all(desk: Desk) -> None:
    manifest = desk.load(
        ETHEREUM
        + BASE
        + FACTORY.replace("start_block", 'chains = ["ethereum", "base"]\nstart_block')
        + f'[contracts.pair.chains]\nethereum = {{}}\nbase = {{ address = "{USDC}" }}\n'
    )
    ethereum, base = manifest.contracts["pair"].deployments
    assert (ethereum.kind, base.kind) == ("factory", "addresses")


def test_the_same_address_on_a_list_of_chains(desk: Desk) -> None:
    manifest = desk.load(ETHEREUM + BASE + ERC20 + 'chains = ["base", "ethereum"]\n')
    assert [deployment.chain_id for deployment in manifest.contracts["usdc"].deployments] == [1, 8453]


def test_filters_become_topics(desk: Desk) -> None:
    other = "0x" + "00" * 19 + "01"
    manifest = desk.load(
        f'{WITH_USDC}filters = {{ Transfer = [{{ to = ["{USDC}", "{other}"] }}, {{ from = "{USDC}" }}] }}\n'
    )
    to, sender = only_deployment(manifest).filters["Transfer"]
    word = bytes(12) + bytes.fromhex(USDC[2:])
    assert to.topics == (None, (word, bytes(31) + b"\x01"))
    assert to.arguments == {"to": (USDC.lower(), other)}
    assert sender.topics == ((word,), None)


@pytest.mark.parametrize(
    ("written", "topics"),
    [
        ("{ number = 5, flag = true }", ((bytes(31) + b"\x05",), (bytes(31) + b"\x01",))),
        ('{ number = ["115792089237316195423570985008687907853269984665640564039457584007913129639935"] }',
         ((b"\xff" * 32,), None)),
    ],
)  # fmt: skip
def test_filters_on_numbers_and_flags(desk: Desk, written: str, topics: Any) -> None:
    manifest = desk.load(
        f'{ETHEREUM}[contracts.odd]\nabi = "abis/odd.json"\naddress = "any"\nevents = ["Counted"]\n'
        f"filters = {{ Counted = {written} }}\n"
    )
    (alternative,) = only_deployment(manifest, "odd").filters["Counted"]
    assert alternative.topics == topics


def test_indexes_and_includes(desk: Desk) -> None:
    contract = desk.load(
        f'{WITH_USDC}indexes = {{ Transfer = ["value", "from", "value"] }}\ninclude = ["receipt", "block"]\n'
    ).contracts["usdc"]
    assert contract.indexes == {"Transfer": ("value",)}, "an indexed argument has an index anyway"
    assert contract.include == {"receipt", "block"}


TRADING = """
[contracts.factory]
abi = "abis/uniswap_v2_factory.json"
address = "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f"
{more}
[contracts.pair]
abi = "abis/uniswap_v2_pair.json"
factory = {{ contract = "factory", event = "PairCreated", argument = "pair" }}
events = ["Sync"]
"""
CREATED = "PairCreated(address,address,address,uint256)"


@pytest.mark.parametrize(("more", "tokens", "named"), [
    ("", "", {"token0", "token1"}),
    ('token_arguments = { PairCreated = ["token1"] }', "", {"token1"}),
    ("token_arguments = { PairCreated = [] }", "", set()),
    ("", "[tokens]\nenabled = false", set()),
    ("", '[tokens]\nchains = ["ethereum"]', {"token0", "token1"}),
    ("", "[tokens]\nchains = []", set()),
    ("", '[tokens]\ncontracts = ["factory"]', {"token0", "token1"}),
    ("", "[tokens]\ncontracts = []", set()),
])  # fmt: skip
def test_what_pairs_trade_are_tokens(desk: Desk, more: str, tokens: str, named: set[str]) -> None:
    manifest = desk.load(ETHEREUM + TRADING.format(more=more) + tokens)
    assert manifest.token_arguments_on("ethereum") == {("factory", CREATED, name) for name in named}
    assert manifest.token_arguments_on("base") == frozenset()
    assert not any(contract == "factory" for contract, _ in manifest.tokens)


@pytest.mark.parametrize(
    ("every", "schedule"),
    [
        ("1 block", ("blocks", 1, None)),
        ("100 blocks", ("blocks", 100, None)),
        ("5 minutes", ("seconds", 300, None)),
        ("1 day", ("seconds", 86400, None)),
        ("cron 0 */6 * * mon-fri", ("cron", 0, "0 */6 * * mon-fri")),
    ],
)
def test_schedules(desk: Desk, every: str, schedule: tuple[str, int, str | None]) -> None:
    snapshot = desk.load(
        f'{WITH_USDC}[snapshots.supply]\ncontract = "usdc"\ncalls = ["totalSupply()"]\nevery = "{every}"\n'
    ).snapshots["supply"]
    assert (snapshot.every.kind, snapshot.every.amount, snapshot.every.cron) == schedule
    assert snapshot.every.text == every
    assert (snapshot.contract, snapshot.chains, snapshot.start_block) == ("usdc", ("ethereum",), None)


def test_calls_with_arguments(desk: Desk) -> None:
    snapshot = desk.load(
        f"""{ETHEREUM}
        [contracts.odd]
        abi = "abis/odd.json"
        address = "{USDC}"
        [snapshots.reads]
        contract = "odd"
        every = "1 hour"
        start_block = 5
        for_each = "SELECT who FROM odd.moved;"
        calls = [
          {{ call = "sum(int8, bool, uint256[2])", args = [-128, true, ["1{"0" * 30}", 2]] }},
          {{ call = "find", args = [["$who", 3000], "0xAB", "text"], name = "found" }},
          {{ call = "at(uint256)", args = ["$number"] }},
        ]
        """
    ).snapshots["reads"]
    sum_, find, at = snapshot.calls
    assert sum_.args == (-128, True, (10**30, 2))
    assert sum_.function.signature == "sum(int8,bool,uint256[2])"
    assert (find.args, find.name) == ((("$who", 3000), b"\xab", "text"), "found")
    assert at.args == ("$number",)
    assert snapshot.for_each == "SELECT who FROM odd.moved"
    assert snapshot.start_block == 5


def test_tokens_and_balances_by_default(desk: Desk) -> None:
    manifest = desk.load(
        WITH_USDC + 'events = ["Approval"]\n' + FACTORY + '[contracts.odd]\nabi = "abis/odd.json"\naddress = "any"\n'
        'events = ["Counted"]\n'
    )
    assert manifest.tokens == {("usdc", "ethereum"), ("pair", "ethereum")}
    assert manifest.balances == frozenset()


def test_balances_of_all_that_can_have_them(desk: Desk) -> None:
    filtered = f'[contracts.filtered]\nabi = "abis/erc20.json"\naddress = "any"\nfilters.Transfer.to = "{USDC}"\n'
    manifest = desk.load(WITH_USDC + FACTORY + filtered + "[tokens]\nenabled = false\n[balances]\n")
    assert manifest.tokens == frozenset()
    assert manifest.balances == {("usdc", "ethereum"), ("pair", "ethereum")}
    assert manifest.daily_balances == frozenset()


def test_days_of_balances_are_kept_of_the_named_contracts(desk: Desk) -> None:
    manifest = desk.load(WITH_USDC + FACTORY + '[balances]\ndaily = ["usdc"]\n')
    assert manifest.daily_balances == {("usdc", "ethereum")}
    assert desk.load(WITH_USDC + '[balances]\nenabled = false\ndaily = ["usdc"]\n').daily_balances == frozenset()


def test_balances_of_named_contracts(desk: Desk) -> None:
    manifest = desk.load(WITH_USDC + FACTORY + '[balances]\ncontracts = ["usdc"]\nchains = ["ethereum"]\n')
    assert manifest.balances == {("usdc", "ethereum")}


def test_equal_files_make_equal_manifests_which_can_go_to_another_process(desk: Desk) -> None:
    text = WITH_USDC + FACTORY
    assert desk.load(text) == desk.load(text) == pickle.loads(pickle.dumps(desk.load(text)))
    assert desk.load(text) != desk.load(text + "end_block = 20000000\n")


def test_windows_line_ends_and_a_byte_order_mark(desk: Desk) -> None:
    path = desk.write("")
    path.write_bytes(b"\xef\xbb\xbf" + WITH_USDC.replace("\n", "\r\n").encode())
    assert list(load_manifest(path, ENVIRON).contracts) == ["usdc"]
