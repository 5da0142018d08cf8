"""From a real node to typed tables, compared field by field with what web3 itself says of the same node."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from indexer.abi.columns import storage
from indexer.abi.model import parse_abi
from indexer.abi.types import Array, Tuple, Type
from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import EndpointConfig
from indexer.demo.world import manifest_text
from indexer.manifest.model import Contract
from indexer.sync.head.chain_identity import ChainHaltedError
from indexer.sync.history.backfill import Backfill
from tests.integration.sync.rig import QUICK, Rig, normal, rig


@pytest.fixture
def indexed(shared_history, migrated_url, tmp_path):
    with rig(manifest_text(shared_history.world), tmp_path, _url(shared_history), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        yield one
        follower.close()


@pytest.fixture
def indexed_ghosts(shared_history):
    """The rows of the zoo's anonymous event, as the node has them: its only logs that bear no known first topic."""
    w3 = shared_history.world.w3
    zoo = shared_history.world.contract("zoo")
    known = {event.topic0 for event in parse_abi(list(zoo.abi)).events if not event.anonymous}
    logs = w3.eth.get_logs({"fromBlock": 0, "toBlock": "latest", "address": zoo.address})
    return [
        (log["blockNumber"], log["logIndex"])
        for log in logs
        if not log["topics"] or bytes(log["topics"][0]) not in known
    ]


def _url(history) -> str:
    return history.world.w3.provider.endpoint_uri


def _addresses(one: Rig, contract: Contract) -> list[str]:
    deployment = contract.deployments[0]
    if deployment.kind == "addresses":
        return ["0x" + address.hex() for address in deployment.addresses]
    return [
        "0x" + bytes(address).hex()
        for (address,) in one.query(
            "SELECT address FROM gapless.children JOIN gapless.contracts c ON c.id = contract_id WHERE c.name = %s",
            contract.name,
        )
    ]


def _opinion_of_web3(w3: Any, contract: Contract, addresses: list[str]) -> tuple[dict[str, list[Any]], set[Any]]:
    """By event: what web3's get_logs and process_log make of the same logs; and the places of those it cannot read."""
    from eth_abi.exceptions import DecodingError
    from web3.exceptions import InvalidEventABI, LogTopicError, MismatchedABI

    found: dict[str, list[Any]] = {contract.abi.api_name(event): [] for event in contract.events}
    events = {
        contract.abi.api_name(event): w3.eth.contract(abi=[event.item]).events[event.name]()
        for event in contract.events
    }
    logs = w3.eth.get_logs(
        {"fromBlock": 0, "toBlock": "latest", "address": [w3.to_checksum_address(a) for a in addresses]}
    )
    times: dict[int, datetime] = {}
    unreadable: set[Any] = set()
    known = {event.topic0 for event in contract.events if not event.anonymous}
    for log in logs:
        for event in contract.events:
            name = contract.abi.api_name(event)
            topic0 = bytes(log["topics"][0]) if log["topics"] else None
            if event.anonymous != (topic0 not in known) or (not event.anonymous and topic0 != event.topic0):
                continue
            try:
                decoded = events[name].process_log(log)
            except (LogTopicError, MismatchedABI, InvalidEventABI, DecodingError, OverflowError, UnicodeDecodeError):
                unreadable.add((log["blockNumber"], log["logIndex"]))
                continue
            number = log["blockNumber"]
            if number not in times:
                times[number] = datetime.fromtimestamp(w3.eth.get_block(number)["timestamp"], UTC)
            found[name].append((log, times[number], decoded["args"]))
    return found, unreadable


@pytest.mark.promise("R-01")
def test_every_row_equals_the_opinion_of_web3(indexed, shared_history):
    w3 = shared_history.world.w3
    rows, chain_id = indexed.rows(), w3.eth.chain_id
    compared: Counter[str] = Counter()
    for contract in indexed.manifest.contracts.values():
        opinion, unreadable = _opinion_of_web3(w3, contract, _addresses(indexed, contract))
        for event in contract.events:
            name = contract.abi.api_name(event)
            ours, theirs = rows[f"{contract.name}.{name}"], opinion[name]
            # What only we can read (tails that are not padded, as old compilers wrote them) has no other opinion.
            ours = [row for row in ours if (row[1], row[5]) not in unreadable]
            assert len(ours) == len(theirs), f"{contract.name}.{name}"
            for row, (log, time, arguments) in zip(ours, theirs, strict=True):
                fixed = (
                    chain_id, log["blockNumber"], time, bytes(log["transactionHash"]),
                    log["transactionIndex"], log["logIndex"], bytes.fromhex(log["address"][2:]),
                )  # fmt: skip
                assert row[:7] == fixed
                if len(arguments) == len(event.inputs):  # else it has unnamed ones, which web3 throws together
                    expected = [_stored(arguments[p.name], p) for p in event.inputs]
                    assert [normal(value) for value in row[7:]] == expected, f"{contract.name}.{name} {event.signature}"
                    compared[event.signature] += 1
    assert sum(compared.values()) > 1000
    assert {signature for signature in compared if "((" in signature or "[][" in signature}, "no nested types were seen"


def _stored(value: Any, parameter: Any) -> Any:
    """A value of web3's as the tables keep it."""
    pg_type, _ = storage(parameter.type)
    return normal(_as_json(value, parameter.type)) if pg_type == "jsonb" and not parameter.is_hashed else normal(value)


def _as_json(value: Any, of: Type) -> Any:
    if isinstance(of, Array):
        return [_as_json(item, of.item) for item in value]
    if isinstance(of, Tuple):
        return {component.name: _as_json(value[component.name], component.type) for component in of.components}
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return str(value) if of.size > 48 else value
    return "0x" + value.hex().removeprefix("0x") if isinstance(value, bytes) else value


@pytest.mark.promise("R-01")
def test_everything_wanted_is_covered_and_nothing_else(indexed, shared_history):
    (covered,) = indexed.query("SELECT count(*) FILTER (WHERE NOT isempty(coverage)), count(*) FROM gapless.sources")
    assert covered[0] == covered[1]
    assert indexed.is_complete()
    tip, finalized = indexed.query("SELECT tip_number, finalized_number FROM gapless.chains")[0]
    assert tip == shared_history.last
    assert finalized == shared_history.last - 64


@pytest.mark.promise("R-03")
def test_a_second_run_asks_for_nothing(indexed):
    progress = indexed.backfill().run()
    assert (progress.blocks, progress.requests) == (0, 0)


def test_an_anonymous_event_alone_claims_no_log_of_a_named_one(shared_history, migrated_url, tmp_path, indexed_ghosts):
    """Whoever else is indexed beside it: nothing but the ABI tells its logs from the others."""
    text = manifest_text(shared_history.world)
    alone = text.replace("[contracts.zoo]\n", '[contracts.zoo]\nevents = ["Ghost"]\n')
    assert alone != text
    with rig(alone, tmp_path, _url(shared_history), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        assert [(row[1], row[5]) for row in one.rows()["zoo.Ghost"]] == indexed_ghosts
        assert one.query(
            "SELECT count(*) FROM gapless.undecoded_logs u JOIN gapless.events e ON e.id = u.event_id "
            "WHERE e.name = 'Ghost'"
        ) == [(0,)]
        follower.close()


def test_backfill_writes_nothing_from_another_chain(indexed, make_world, tmp_path):
    """Whoever is behind the URL now has the right chain id and blocks that nobody has stored: that is not enough."""
    stranger = make_world(seed=7, blocks=400)
    before = indexed.query("SELECT coverage FROM gapless.sources ORDER BY id")
    with indexed.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE gapless.sources SET coverage = coverage - '{[20,30)}'::int8multirange")
    uncovered = indexed.query("SELECT coverage FROM gapless.sources ORDER BY id")
    assert uncovered != before
    client = ChainClient("demo", 31337, [EndpointConfig(_url(stranger))], settings=QUICK)
    with pytest.raises(ChainHaltedError, match="was indexed"):
        Backfill(indexed.engine, client, 31337).run()
    client.close()
    assert indexed.query("SELECT coverage FROM gapless.sources ORDER BY id") == uncovered
