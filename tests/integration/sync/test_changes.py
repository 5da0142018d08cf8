"""Changes while running: what applying a manifest says and does, and a service that takes a new one over."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from indexer.cli.context import difference, prepare
from indexer.manifest import load_manifest
from indexer.service.manifest_watcher import ManifestWatcher
from indexer.service.scheduler import Service
from indexer.settings import Settings
from indexer.store import status
from indexer.store.apply import drop
from indexer.store.cache import Cache
from indexer.store.catalog import catalog
from indexer.store.catalog.declaration import summary
from indexer.store.database import DatabaseError, create_engine
from indexer.store.rows import indexes
from indexer.sync.setup.deployment_block import DeploymentUnknownError
from tests.integration.sync.rig import rig

PATIENCE = 40.0

CHAIN = """
[chains.demo]
id = {chain_id}
rpc = ["${{RPC_URL}}"]
"""
COINS = """
[contracts.coins]
abi = "{artifacts}/DemoToken.json"
address = [{addresses}]
start_block = 1
events = [{events}]
{more}
"""


def url_of(history) -> str:
    return history.world.w3.provider.endpoint_uri


def chain_text(history) -> str:
    return CHAIN.format(chain_id=history.world.chain_id)


def coins(history, *names: str, events: str = '"Transfer"', more: str = "") -> str:
    from indexer.demo.contracts import ARTIFACTS

    addresses = ", ".join(f'"{history.world.addresses[name]}"' for name in names)
    return COINS.format(artifacts=ARTIFACTS.as_posix(), addresses=addresses, events=events, more=more)


@contextmanager
def indexed(text, history, migrated_url, tmp_path):
    with rig(text, tmp_path, url_of(history), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        yield one, follower
        follower.close()


def apply_again(one, history, tmp_path, text: str) -> list[str]:
    path = tmp_path / "indexer.toml"
    path.write_text(text)
    one.manifest = load_manifest(path, {"RPC_URL": url_of(history)})
    shown = difference(one.engine, one.manifest)
    done = prepare(one.engine, one.manifest)
    assert done == shown, "what was shown is not what was done"
    assert difference(one.engine, one.manifest) == []
    return summary(done)


def test_a_first_apply_of_many_events_is_one_line_a_contract(shared_history, database_url, tmp_path):
    from indexer.demo.world import manifest_text

    path = tmp_path / "indexer.toml"
    path.write_text(manifest_text(shared_history.world))
    manifest = load_manifest(path, {"RPC_URL": url_of(shared_history)})
    engine = create_engine(database_url)
    lines = summary(prepare(engine, manifest))
    assert len(lines) == 1 + len(manifest.contracts) + len(manifest.snapshots)
    assert (
        "+ contract coins: 2 events (Approval, Transfer); 4 addresses on demo from block 1; balances from block 1"
        in lines
    ), "\n".join(lines)
    engine.dispose()


@pytest.mark.promise("R-12")
def test_a_new_address_and_a_new_event_cost_only_their_own_history(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history)
    with indexed(text + coins(shared_history, "gold"), shared_history, migrated_url, tmp_path) as (one, follower):
        before = one.rows()["coins.Transfer"]
        wanted = text + coins(shared_history, "gold", "silver", events='"Transfer", "Approval"')
        lines = apply_again(one, shared_history, tmp_path, wanted)
        assert [line[:9] for line in lines] == ["+ coins: "]
        assert "1 event (Approval)" in lines[0]
        assert "history of Transfer" in lines[0]
        with one.engine.connect() as connection:
            places = {
                (source.event.api_name, source.place.addresses): bool(source.coverage)
                for source in catalog.load_sources(connection)
            }
        gold, silver = (shared_history.world.addresses[name].lower() for name in ("gold", "silver"))
        assert places == {
            ("Transfer", (gold,)): True,
            ("Transfer", (silver,)): False,
            ("Approval", tuple(sorted((gold, silver)))): False,
        }
        one.catch_up(follower)
        rows = one.rows()
        gold_bytes = bytes.fromhex(gold[2:])
        assert [row for row in rows["coins.Transfer"] if row[6] == gold_bytes] == before
        assert {row[6] for row in rows["coins.Transfer"]} == {gold_bytes, bytes.fromhex(silver[2:])}
        assert rows["coins.Approval"]


@pytest.mark.promise("M-02")
def test_what_is_removed_keeps_its_data_until_it_is_dropped(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history)
    both = coins(shared_history, "gold", events='"Transfer", "Approval"')
    other = coins(shared_history, "silver").replace("contracts.coins", "contracts.other")
    with indexed(text + both + other, shared_history, migrated_url, tmp_path) as (one, follower):
        before = one.rows()
        assert before["coins.Approval"]
        assert before["other.Transfer"]
        lines = apply_again(one, shared_history, tmp_path, text + coins(shared_history, "gold"))
        assert "- event coins.Approval: its data stays" in lines
        assert any(line.startswith("- contract other: its data stays") for line in lines), lines
        assert one.rows() == before

        def drop_it(name: str) -> None:
            with one.engine.connect() as connection:
                (found,) = drop.find(connection, name)
            drop.drop(one.engine, found)

        with pytest.raises(DatabaseError, match="is in the manifest that was applied last"):
            drop_it("coins.Transfer")
        drop_it("coins.Approval")
        drop_it("other")
        rows = one.rows()
        assert rows == {"coins.Transfer": before["coins.Transfer"]}
        assert one.query("SELECT count(*) FROM gapless.sources") == [(1,)]
        assert one.query("SELECT count(*) FROM pg_namespace WHERE nspname = 'other'") == [(0,)]
        # Wanted again, it begins anew.
        lines = apply_again(one, shared_history, tmp_path, text + both)
        one.catch_up(follower)
        assert one.rows()["coins.Approval"] == before["coins.Approval"]


def test_a_chain_is_dropped_with_all_that_is_known_of_it(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history)
    with indexed(text + coins(shared_history, "gold"), shared_history, migrated_url, tmp_path) as (one, follower):
        elsewhere = (text + coins(shared_history, "gold")).replace("chains.demo", "chains.other")
        elsewhere = elsewhere.replace(f"id = {shared_history.world.chain_id}", "id = 5")
        lines = apply_again(one, shared_history, tmp_path, elsewhere)
        assert "- chain demo: its data stays" in lines
        assert any("+ chain other" in line for line in lines)
        with one.engine.connect() as connection:
            (found,) = drop.find(connection, "demo")
        with pytest.raises(DatabaseError, match="still being followed"):
            drop.drop(one.engine, found)
        follower.close()
        drop.drop(one.engine, found)
        assert one.rows() == {"coins.Transfer": []}
        assert one.query("SELECT count(*) FROM gapless.blocks") == [(0,)]
        assert one.query("SELECT name FROM gapless.chains") == [("other",)]


def test_a_contract_that_leaves_one_of_its_chains_is_told(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history) + '[chains.second]\nid = 2\nrpc = ["http://127.0.0.1:1"]\n'
    both = text + coins(shared_history, "gold", more='chains = ["demo", "second"]')
    path = tmp_path / "indexer.toml"
    path.write_text(both)
    engine = create_engine(migrated_url)
    prepare(engine, load_manifest(path, {"RPC_URL": url_of(shared_history)}))
    path.write_text(text + coins(shared_history, "gold", more='chain = "demo"'))
    changes = prepare(engine, load_manifest(path, {"RPC_URL": url_of(shared_history)}))
    assert summary(changes) == ["- source coins.Transfer: on chain 2, its data stays"]
    engine.dispose()


def test_what_a_chain_that_was_left_would_include_is_no_difference(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history) + '[chains.second]\nid = 2\nrpc = ["http://127.0.0.1:1"]\n'
    path, engine = tmp_path / "indexer.toml", create_engine(migrated_url)

    def applied(where: str, include: str) -> list[str]:
        path.write_text(text + coins(shared_history, "gold", more=f'{where}\ninclude = ["{include}"]'))
        return summary(prepare(engine, load_manifest(path, {"RPC_URL": url_of(shared_history)})))

    applied('chains = ["demo", "second"]', "block")
    assert len(applied('chain = "demo"', "receipt")) == 2
    assert applied('chain = "demo"', "receipt") == []
    engine.dispose()


def test_a_changed_layout_of_a_known_event_is_refused_with_the_way_out(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history)
    with indexed(text + coins(shared_history, "gold"), shared_history, migrated_url, tmp_path) as (one, _):
        from indexer.demo.contracts import ARTIFACTS

        abi = (ARTIFACTS / "DemoToken.json").read_text()
        (tmp_path / "renamed.json").write_text(
            abi.replace('"name": "value"', '"name": "wad"').replace('"name":"value"', '"name":"wad"')
        )
        renamed = text + coins(shared_history, "gold").replace(ARTIFACTS.as_posix() + "/DemoToken", "renamed")
        lines = apply_again(one, shared_history, tmp_path, renamed)
        assert any("arguments are named otherwise" in line for line in lines), lines
        (transfer,) = (
            item for item in json.loads(abi)["abi"] if item["type"] == "event" and item["name"] == "Transfer"
        )
        for argument in transfer["inputs"]:
            argument["indexed"] = False
        (tmp_path / "other.json").write_text(json.dumps([transfer]))
        path = tmp_path / "indexer.toml"
        path.write_text(text + coins(shared_history, "gold").replace(ARTIFACTS.as_posix() + "/DemoToken", "other"))
        manifest = load_manifest(path, {"RPC_URL": url_of(shared_history)})
        with pytest.raises(DatabaseError, match="other indexed arguments") as refused:
            prepare(one.engine, manifest)
        assert "gapless drop coins.Transfer" in str(refused.value.hint)


def test_an_index_that_is_wanted_later_is_built_beside_all_other_work(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history)
    with indexed(text + coins(shared_history, "gold"), shared_history, migrated_url, tmp_path) as (one, _):

        def have() -> set[str]:
            with one.engine.connect() as connection:
                return indexes.columns_with_index(connection, "coins", "transfer")

        assert have() == {"from_address", "to_address", "tx_hash"}
        more = text + coins(shared_history, "gold", more='indexes = { Transfer = ["value"] }')
        assert summary([]) == []
        lines = apply_again(one, shared_history, tmp_path, more)
        assert lines == ["+ index coins.Transfer(value): built by the running indexer, beside all other work"]
        with one.engine.begin() as connection:
            (waiting,) = status.load_overview(connection).indexes
        assert (waiting["index"], waiting["state"]) == ("coins.Transfer(value)", "waiting")
        # One that a killed build left behind, invalid, is replaced.
        with one.engine.begin() as connection:
            connection.execute(
                sa.text("CREATE INDEX broken ON coins.transfer (chain_id, value, block_number, log_index)")
            )
            connection.execute(
                sa.text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'coins.broken'::regclass")
            )
            assert [index.state for index in indexes.amiss(connection)] == ["broken"]
        # A transaction that writes does not wait for the build, nor the build for ever for it.
        assert indexes.build(one.engine, threading.Event()) == 1
        assert have() == {"from_address", "to_address", "tx_hash", "value"}
        lines = apply_again(one, shared_history, tmp_path, text + coins(shared_history, "gold"))
        assert lines == ["- index coins.Transfer(value): dropped by the running indexer"]
        assert indexes.build(one.engine, threading.Event()) == 1
        assert have() == {"from_address", "to_address", "tx_hash"}
        assert indexes.build(one.engine, threading.Event()) == 0
        # So is the one that finds the rows of a transaction, which all tables have unless the manifest says otherwise.
        without = text + coins(shared_history, "gold", more="tx_hash_index = false")
        assert apply_again(one, shared_history, tmp_path, without) == [
            "- index coins.Transfer(tx_hash): dropped by the running indexer"
        ]
        assert indexes.build(one.engine, threading.Event()) == 1
        assert have() == {"from_address", "to_address"}
        assert apply_again(one, shared_history, tmp_path, text + coins(shared_history, "gold")) == [
            "+ index coins.Transfer(tx_hash): built by the running indexer, beside all other work"
        ]
        assert indexes.build(one.engine, threading.Event()) == 1
        assert have() == {"from_address", "to_address", "tx_hash"}


# -- gapless plan ------------------------------------------------------------------------------------------------------


def test_plan_says_what_is_missing_and_changes_nothing(shared_history, database_url, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from indexer.cli import app
    from indexer.demo.world import manifest_text

    path = tmp_path / "indexer.toml"
    path.write_text(manifest_text(shared_history.world))
    monkeypatch.chdir(tmp_path)
    for name, value in (("DATABASE_URL", database_url), ("RPC_URL", url_of(shared_history))):
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["plan", "--json"])
    assert result.exit_code == 0, result.output
    (plan,) = json.loads(result.output[result.output.index("[") :])
    finalized = shared_history.last - 64
    assert plan["finalized"] == finalized
    missing = {gap["event"]: gap for gap in plan["gaps"]}
    assert missing["coins.Transfer"]["ranges"] == [{"from": 1, "to": finalized}]
    assert missing["pair.Swap"]["waits_for_factory"]
    assert not missing["exchange.PairCreated"]["waits_for_factory"]
    (fetch,) = plan["fetches"]
    logs = shared_history.world.w3.eth.get_logs({"fromBlock": 1, "toBlock": finalized})
    assert 0.5 < fetch["logs"] / len(logs) < 1.5
    assert fetch["requests"] >= 1
    assert fetch["bytes"] > 1000
    result = CliRunner().invoke(app, ["plan"])
    assert "coins.Transfer" in result.output
    engine = create_engine(database_url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT to_regnamespace('gapless')")).scalar_one() is None
    engine.dispose()


# -- gapless check --online --------------------------------------------------------------------------------------------


def test_check_online_warns_of_no_code_and_of_another_contracts_abi(shared_history, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from indexer.cli import app
    from indexer.demo.contracts import ARTIFACTS

    def check(text: str) -> str:
        (tmp_path / "indexer.toml").write_text(chain_text(shared_history) + text)
        result = CliRunner().invoke(app, ["check", "--online"])
        assert result.exit_code == 0, result.output
        return result.output

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RPC_URL", url_of(shared_history))
    right = coins(shared_history, "gold")
    assert "The nodes know nothing against it." in check(right)
    gold = shared_history.world.addresses["gold"]
    output = check(right.replace(gold, "0x" + "12" * 20))
    assert "Warning: coins on demo: there is no code at 0x1212" in output
    wrong = right.replace(f"{ARTIFACTS.as_posix()}/DemoToken", f"{ARTIFACTS.as_posix()}/Factory").replace(
        "Transfer", "PairCreated"
    )
    output = check(wrong)
    assert "none of its events was seen" in output
    assert f"gapless abi fetch {gold.lower()}" in output
    silent = right.replace("start_block = 1", f"start_block = {shared_history.last + 100}")
    assert "is beyond the head" in check(silent)


# -- a service that runs ----------------------------------------------------------------------------------------------


@contextmanager
def service(text: str, history, database_url: str, tmp_path):
    path = tmp_path / "indexer.toml"
    path.write_text(text)

    def load():
        return load_manifest(path, {"RPC_URL": url_of(history)})

    manifest = load()
    engine = create_engine(database_url, pool_size=20)
    prepare(engine, manifest)
    reload = threading.Event()
    one = Service(
        *(engine, Cache(None), manifest, Settings(_env_file=None)),
        watch=ManifestWatcher(manifest, load),
        prepare=lambda given: prepare(engine, given),
        reload=reload,
    )
    one.start()
    try:
        yield engine, path, reload, one
    finally:
        one.stop()
        engine.dispose()


def until(engine, statement: str, expected) -> None:
    deadline = time.monotonic() + PATIENCE
    found = None
    while time.monotonic() < deadline:
        try:
            with engine.connect() as connection:
                found = connection.execute(sa.text(statement)).scalar_one()
        except sa.exc.ProgrammingError:
            found = None
        if found == expected or (callable(expected) and found is not None and expected(found)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{statement} is {found}")


@pytest.mark.promise("M-05")
def test_a_running_indexer_takes_a_changed_manifest_over(shared_history, migrated_url, tmp_path, caplog):
    text = chain_text(shared_history)
    caplog.set_level("INFO")
    with service(text + coins(shared_history, "gold"), shared_history, migrated_url, tmp_path) as (
        engine,
        path,
        _,
        one,
    ):
        until(engine, "SELECT count(*) FROM coins.transfer", lambda n: n > 0)
        followers = "SELECT sum(follower_epoch) FROM gapless.chains"
        until(engine, followers, 1)
        other = coins(shared_history, "silver").replace("contracts.coins", "contracts.other")
        path.write_text(
            text
            + coins(shared_history, "gold")
            + other
            + '\n[snapshots.supply]\ncontract = "other"\ncalls = ["totalSupply()"]\nevery = "10 blocks"\n'
        )
        until(engine, "SELECT count(*) FROM other.transfer", lambda n: n > 0)
        until(engine, "SELECT count(*) FROM other.supply", lambda n: n > 0)
        # The chain itself was not touched: it is followed by whoever followed it.
        until(engine, followers, 1)
        assert "+ contract other" in caplog.text
        # An invalid one is told, and the old one stays in force.
        path.write_text("[chains.demo]\nid = 1\n")
        wait_for(lambda: "the new manifest is refused, the one before stays in force" in caplog.text)
        until(engine, "SELECT count(*) FROM gapless.contracts WHERE active", 2)
        # The snapshot goes, and its job with it; a chain that is changed is begun anew.
        path.write_text(text.replace("id =", "poll_interval = 0.2\nid =") + coins(shared_history, "gold"))
        until(engine, "SELECT count(*) FROM gapless.contracts WHERE active", 1)
        until(engine, followers, 2)
        wait_for(lambda: "started following chain demo" in caplog.text)
        assert not [job for job in one._scheduler.get_jobs() if job.id.startswith("snapshot")]


def test_hangup_reads_the_manifest_again(shared_history, migrated_url, tmp_path, caplog):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    caplog.set_level("INFO")
    with service(text, shared_history, migrated_url, tmp_path) as (_, _, reload, _):
        reload.set()
        wait_for(lambda: "the manifest was read again" in caplog.text)


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.promise("M-05")
def test_a_chain_that_comes_later_is_followed_beside_the_others(make_world, migrated_url, tmp_path):
    first = make_world(transactions=60, blocks=90)
    second = make_world(transactions=60, blocks=90, seed=2)
    text = chain_text(first)
    with service(text + coins(first, "gold"), first, migrated_url, tmp_path) as (engine, path, _, _):
        until(engine, "SELECT count(*) FROM coins.transfer", lambda n: n > 0)
        # Both anvils have one chain id, and one contract's addresses: another id is only a name to the second's rows.
        second.world.w3.provider.make_request("anvil_setChainId", [777])
        url = url_of(second)
        path.write_text(
            text
            + f'[chains.later]\nid = 777\nrpc = ["{url}"]\n'
            + coins(first, "gold", more='chains = ["demo", "later"]')
        )
        until(engine, "SELECT count(*) FROM coins.transfer WHERE chain_id = 777", lambda n: n > 0)


# -- start_block = "auto" ---------------------------------------------------------------------------------------------


def test_auto_finds_the_block_of_the_deployment_once(anvil, migrated_url, tmp_path, monkeypatch):
    from indexer.demo.contracts import artifact

    anvil.mine(30)
    w3 = anvil.w3
    sent = w3.eth.send_transaction(
        {
            "from": w3.eth.accounts[0],
            "data": "0x" + artifact("DemoToken").creation("T", "T", 18).hex(),
            "gas": 4_000_000,
        }
    )
    receipt = w3.eth.wait_for_transaction_receipt(sent)
    anvil.mine(100)
    text = f"""
[chains.demo]
id = {w3.eth.chain_id}
rpc = ["${{RPC_URL}}"]
[contracts.coin]
abi = "{artifact("DemoToken").path.as_posix()}"
address = "{receipt["contractAddress"]}"
start_block = "auto"
"""
    path = tmp_path / "indexer.toml"
    path.write_text(text)
    manifest = load_manifest(path, {"RPC_URL": anvil.url})
    engine = create_engine(migrated_url)
    prepare(engine, manifest)
    starts = "SELECT DISTINCT start_block FROM gapless.sources"
    with engine.connect() as connection:
        assert connection.execute(sa.text(starts)).scalars().all() == [receipt["blockNumber"]]
    # Never asked twice: nobody answers any more.
    asked = load_manifest(path, {"RPC_URL": "http://127.0.0.1:1"})
    assert prepare(engine, asked) == []
    path.write_text(text.replace(receipt["contractAddress"], "0x" + "12" * 20))
    with pytest.raises(DeploymentUnknownError, match="there is no code at 0x1212"):
        prepare(engine, load_manifest(path, {"RPC_URL": anvil.url}))
    engine.dispose()
