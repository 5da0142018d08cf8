"""``gapless plan``: what it foretells of ``include`` and of the past of snapshots is what these take afterwards."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import LaggingError
from indexer.cli import app
from indexer.demo.contracts import ARTIFACTS
from indexer.demo.world import MULTICALL3
from indexer.programs import module
from indexer.programs.runner import ProgramRunner
from indexer.store.catalog import catalog
from indexer.store.programs import standstills
from indexer.store.rows import failed_ranges
from indexer.sync.history import derived_history
from indexer.sync.snapshots.series import Snapshots
from tests.integration.sync.test_changes import chain_text, coins, indexed, url_of
from tests.integration.sync.test_include import includer
from tests.integration.sync.test_snapshots import snapshot

PAIRS = """
[contracts.exchange]
abi = "{artifacts}/Factory.json"
address = "{factory}"
start_block = 1
[contracts.pair]
abi = "{artifacts}/Pair.json"
factory = {{ contract = "exchange", event = "PairCreated", argument = "pair" }}
events = ["Sync"]
include = ["receipt"]
[snapshots.reserves]
contract = "pair"
calls = ["totalSupply()", "token1()"]
every = "10 blocks"
start_block = 1
"""


def pairs(history) -> str:
    return PAIRS.format(artifacts=ARTIFACTS.as_posix(), factory=history.world.addresses["factory"])


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Runs the command on a manifest."""

    def run(text: str, history, database_url: str, *arguments: str):
        (tmp_path / "indexer.toml").write_text(text)
        monkeypatch.chdir(tmp_path)
        for name, value in (("DATABASE_URL", database_url), ("RPC_URL", url_of(history))):
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, ["plan", *arguments])
        assert result.exit_code == 0, result.output
        if not arguments:
            return result.output
        (found,) = json.loads(result.output[result.output.index("[") :])
        return found

    return run


@contextmanager
def counted(one):
    """The requests that were sent meanwhile, in a list of one."""
    (endpoint,) = one.client.pool.endpoints
    before = endpoint.status().http_requests
    found: list[int] = []
    yield found
    found.append(endpoint.status().http_requests - before)


@pytest.mark.parametrize("words", ['"receipt"', '"block", "transaction"', '"block", "transaction", "receipt"'])
def test_what_include_takes(shared_history, migrated_url, tmp_path, plan, words):
    more = f"include = [{words}]\nend_block = {shared_history.last - 64}"
    text = chain_text(shared_history) + coins(shared_history, "gold", "silver", more=more)
    foretold = plan(text, shared_history, migrated_url, "--json")
    (told,) = foretold["includes"]
    assert told["contract"] == "coins"
    assert told["include"] == sorted(json.loads(f"[{words}]"))
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        with counted(one) as requests:
            includer(one).run()
        ((blocks, transactions, receipts),) = one.query("""
            SELECT (SELECT count(*) FROM gapless.block_details), (SELECT count(value) FROM gapless.transactions),
                   (SELECT count(gas_used) FROM gapless.transactions)
        """)
        assert (blocks, transactions, receipts) != (0, 0, 0)
        for name, count in (("blocks", blocks), ("transactions", transactions), ("receipts", receipts)):
            assert 0.7 * count <= told[name] <= 1.3 * count, (name, count, told)
        assert told["questions"] >= max(blocks, told["requests"])
        assert 0.5 * requests[0] - 1 <= told["requests"] <= 1.5 * requests[0] + 1
    # Nothing is left to do, and nothing is foretold.
    assert plan(text, shared_history, migrated_url, "--json")["includes"] == []
    said = plan(text, shared_history, migrated_url)
    assert "nothing is missing up to the finalized block" in said


def test_what_is_named_later_is_foretold_for_events_that_are_there(shared_history, migrated_url, tmp_path, plan):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        logs = one.query("SELECT count(DISTINCT (block_number, tx_index)) FROM coins.transfer")[0][0]
    later = chain_text(shared_history) + coins(shared_history, "gold", more='include = ["transaction"]')
    foretold = plan(later, shared_history, migrated_url, "--json")
    assert foretold["gaps"] == []
    (told,) = foretold["includes"]
    assert (told["blocks"], told["receipts"]) == (0, 0)
    assert 0.5 * logs <= told["transactions"] <= 1.1 * logs
    said = plan(later, shared_history, migrated_url)
    assert "coins" in said
    assert "transaction" in said


def test_what_the_past_of_a_snapshot_takes(shared_history, migrated_url, tmp_path, plan):
    text = chain_text(shared_history) + coins(shared_history, "gold", "silver")
    text += snapshot("supply", '"totalSupply()", "decimals()"', "10 blocks", more="start_block = 25")
    text += snapshot("now", '"totalSupply()"', "10 blocks")
    finalized = shared_history.last - 64
    points = len(range(30, finalized + 1, 10))
    (told,) = plan(text, shared_history, migrated_url, "--json")["snapshots"]
    assert told["snapshot"] == "coins.supply"
    assert (told["points"], told["calls"]) == (points, points * 4)
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["supply"])
        with counted(one) as requests:
            taken = taker.take_past()
        assert taken < points
        each = told["requests"] / points
        # The first of them finds out whether Multicall3 is there.
        assert each * taken <= requests[0] <= each * taken + 2
        (left,) = plan(text, shared_history, migrated_url, "--json")["snapshots"]
        assert left["points"] == points - taken
        while taker.take_past():
            pass
    assert plan(text, shared_history, migrated_url, "--json")["snapshots"] == []
    assert "supply" not in plan(text, shared_history, migrated_url)


def test_a_past_by_the_clock_is_searched_for(shared_history, migrated_url, tmp_path, plan):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    text += snapshot("supply", '"totalSupply()"', "10 seconds", more="start_block = 25")
    w3 = shared_history.world.w3
    finalized = shared_history.last - 64
    times = [w3.eth.get_block(number)["timestamp"] for number in (25, finalized)]
    (told,) = plan(text, shared_history, migrated_url, "--json")["snapshots"]
    due = times[1] // 10 - (times[0] - 1) // 10
    assert told["points"] == min(due, finalized - 25 + 1)
    assert told["requests"] > 3 * told["points"]
    cron = text.replace('"10 seconds"', '"cron * * * * *"')
    (told,) = plan(cron, shared_history, migrated_url, "--json")["snapshots"]
    assert abs(told["points"] - (times[1] - times[0]) // 60) <= 1


def test_without_multicall3_every_call_is_a_question(make_world, migrated_url, tmp_path, plan):
    history = make_world(transactions=40, blocks=90)
    history.world.w3.provider.make_request("anvil_setCode", [MULTICALL3, "0x"])
    text = chain_text(history) + coins(history, "gold", "silver")
    text += snapshot("supply", '"totalSupply()"', "10 blocks", more="start_block = 1")
    (told,) = plan(text, history, migrated_url, "--json")["snapshots"]
    points = (history.last - 64) // 10
    assert (told["points"], told["calls"]) == (points, 2 * points)
    # Both calls of a point travel in one batch, as do those that go through Multicall3.
    assert told["requests"] == 3 * points


def test_children_and_queries_as_far_as_they_are_known(shared_history, migrated_url, tmp_path, plan):
    text = chain_text(shared_history) + pairs(shared_history)
    told = plan(text, shared_history, migrated_url, "--json")
    assert told["includes"][0]["waits_for_factory"]
    (series,) = told["snapshots"]
    assert series["calls"] == 0
    assert "no children are known yet" in series["remark"]
    assert "no children are known yet" in " ".join(plan(text, shared_history, migrated_url).split())
    rows = 'for_each = "SELECT DISTINCT to_address AS who FROM coins.transfer LIMIT 3"\nstart_block = 1'
    text += coins(shared_history, "gold")
    text += snapshot("holdings", '{ call = "balanceOf(address)", args = ["$who"] }', "10 blocks", more=rows)
    wrong = rows.replace("to_address", "nobody")
    text += snapshot("wrong", '{ call = "balanceOf(address)", args = ["$who"] }', "10 blocks", more=wrong)
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        births = [row[0] for row in one.query("SELECT block_number FROM gapless.children")]
    told = {series["snapshot"]: series for series in plan(text, shared_history, migrated_url, "--json")["snapshots"]}
    finalized = shared_history.last - 64
    exact = sum(2 * (birth <= number) for number in range(10, finalized + 1, 10) for birth in births)
    assert 0.9 * exact <= told["pair.reserves"]["calls"] <= 1.1 * exact
    assert told["coins.holdings"]["calls"] == 3 * told["coins.holdings"]["points"]
    assert told["coins.wrong"]["calls"] == 0
    assert 'column "nobody" does not exist' in told["coins.wrong"]["remark"]


def test_an_old_state_that_no_node_knows_is_said_beforehand(shared_history, migrated_url, tmp_path, plan):
    text = chain_text(shared_history).replace('"${RPC_URL}"', '{ url = "${RPC_URL}", archive = false }')
    text += coins(shared_history, "gold")
    text += snapshot("supply", '"totalSupply()"', "10 blocks", more="start_block = 20")
    (told,) = plan(text, shared_history, migrated_url, "--json")["snapshots"]
    assert "no endpoint knows the state of block 20" in told["remark"]
    assert told["points"] > 10


def test_a_node_that_lost_its_old_states_spoils_no_plan(shared_history, migrated_url, plan, monkeypatch):
    # Anvil after a restart; the client waits for it to come so far, as for a node that lags.
    def code(*_):
        raise LaggingError("BlockOutOfRangeError: block height is 301 but requested was 20")

    monkeypatch.setattr(ChainClient, "code", code)
    text = chain_text(shared_history) + coins(shared_history, "gold")
    text += snapshot("supply", '"totalSupply()"', "10 blocks", more="start_block = 20")
    found = plan(text, shared_history, migrated_url, "--json")
    assert found["fetches"]
    assert "no endpoint knows the state of block 20" in found["snapshots"][0]["remark"]


def test_what_nodes_did_not_give_is_shown_as_that_and_is_no_ordinary_gap(shared_history, migrated_url, tmp_path, plan):
    text = chain_text(shared_history) + coins(shared_history, "gold", events='"Transfer", "Approval"')
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _), one.engine.begin() as connection:
        connection.execute(sa.text("UPDATE gapless.sources SET coverage = '{[100,)}'"))
        ids = {source.event.api_name: source.source_id for source in catalog.load_sources(connection)}
        transfer, approval = ids["Transfer"], ids["Approval"]
        failed_ranges.note(connection, [transfer], (10, 19), "history has been pruned for this block")
        failed_ranges.note(connection, [approval], (30, 39), "is due again")
        failed_ranges.retry_now(connection, one.chain.chain_id)
        failed_ranges.note(connection, [transfer], (10, 19), "history has been pruned for this block")
    found = plan(text, shared_history, migrated_url, "--json")
    (unread,) = found["unread"]
    assert (unread["event"], unread["from"], unread["to"], unread["failures"]) == ("coins.Transfer", 10, 19, 2)
    assert unread["reason"] == "history has been pruned for this block"
    missing = {gap["event"]: [(part["from"], part["to"]) for part in gap["ranges"]] for gap in found["gaps"]}
    assert missing == {"coins.Transfer": [(1, 9), (20, 99)], "coins.Approval": [(1, 99)]}
    fetched = sum(len(fetch["events"]) * fetch["blocks"] for fetch in found["fetches"])
    assert fetched == 99 + 89
    said = plan(text, shared_history, migrated_url)
    assert "history that nodes did not give" in said
    assert "10-19" in said


PROGRAM = """
from indexer.programs import Program, Table, address, key


class Seen(Table):
    token: address = key()
    moves: int = 0


program = Program(tables=[Seen])


@program.on("coins.Transfer")
def moved(event, db):
    db.get_or_new(Seen, token=event.address).moves += 1
"""
FOLLOWS = """
[derived.received]
from = "coins.Transfer"
key = {{ holder = "{column}" }}
count = "moves"
[derived.recent]
sql = "SELECT chain_id, holder, moves FROM derived.received"
key = ["chain_id", "holder"]
[programs.seen]
module = "seen.py"
"""


def test_what_derived_tables_and_programs_have_left(shared_history, migrated_url, tmp_path, plan):
    (tmp_path / "seen.py").write_text(PROGRAM)
    finalized = shared_history.last - 64
    declared = chain_text(shared_history) + coins(shared_history, "gold")
    text = declared + FOLLOWS.format(column="to_address")

    def told() -> dict[str, tuple[int, int, str | None]]:
        found = plan(text, shared_history, migrated_url, "--json")["derived"]
        return {one["name"]: (one["blocks"], one["waiting_for_events"], one["remark"]) for one in found}

    wanted = finalized - plan(declared, shared_history, migrated_url, "--json")["gaps"][0]["ranges"][0]["from"] + 1
    assert told() == {
        "received": (wanted, wanted, "a new build begins"), "seen": (wanted, wanted, "its first build begins"),
    }  # fmt: skip
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        # Nothing was counted behind backfill: that is left, and no difference between manifest and database.
        (blocks, waiting, remark) = told()["received"]
        assert (blocks > 0, waiting, remark) == (True, 0, None)
        assert told()["seen"] == (wanted, 0, "its first build begins")
        assert CliRunner().invoke(app, ["apply", "--dry-run"]).exit_code == 0
        derived_history.catch_up(one.engine, one.chain.chain_id)
        runner = ProgramRunner(one.engine, "seen", module.load(tmp_path / "seen.py"), one.chain.chain_id)
        while runner.step() == "moved":
            pass
        assert told() == {}
        assert "derived tables and programs" not in plan(text, shared_history, migrated_url)

        text = declared + FOLLOWS.format(column="from_address")
        (tmp_path / "seen.py").write_text(PROGRAM + "# other\n")
        assert told() == {
            "received": (wanted, 0, "a new build begins beside the one that is served"),
            "seen": (wanted, 0, "its code is another one: a new build begins beside the one that is served"),
        }
        assert CliRunner().invoke(app, ["apply", "--dry-run"]).exit_code == 3
        said = " ".join(plan(text, shared_history, migrated_url).split())
        assert "what derived tables and programs have left" in said
        with one.engine.begin() as connection:
            standstills.note(connection, "seen", [one.chain.chain_id], "it fails")
        assert told()["seen"][2] == "it stood still: it fails; its code is another one since"


def test_what_it_costs_by_endpoint(shared_history, migrated_url, plan):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    plain = plan(text, shared_history, migrated_url, "--json")
    (each,) = plain["credits"]
    assert each["credits"] == sum(plain["calls"].values()) > 0, "a call is a call"
    assert "costs" not in plan(text, shared_history, migrated_url)
    more = ", credits_per_day = 5_000_000, credits = { default = 5, eth_getLogs = 75 }"
    more += ', price_per_million_credits = "2 EUR"'
    priced = text.replace('"${RPC_URL}"', '{ url = "${RPC_URL}"' + more + " }")
    assert priced != text
    (each,) = plan(priced, shared_history, migrated_url, "--json")["credits"]
    calls = plain["calls"]
    assert each["credits"] == 75 * calls["eth_getLogs"] + 5 * calls["eth_getBlockByNumber"]
    assert each["days"] == 1
    shown = plan(priced, shared_history, migrated_url)
    assert "what all of this costs" in shown
    assert "EUR" in shown
