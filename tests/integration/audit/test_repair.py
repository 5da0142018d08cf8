"""Whatever an audit finds, a repair settles: afterwards the tables are what they were, and the next audit is silent."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from indexer.chain.client import ChainClient
from indexer.chain.records.validation import CheckedLogs
from indexer.chain.rpc.config import EndpointConfig
from indexer.demo.world import manifest_text
from indexer.sync.audit.redecode import redecode
from indexer.sync.audit.repair import Repair
from indexer.sync.history.backfill import Backfill
from tests.integration.audit.conftest import execute, node_url, run
from tests.integration.audit.test_audit import CHANGES, a_row, finalized
from tests.integration.sync.rig import QUICK
from tests.integration.sync.test_catalog_at_commit import until_one_waits


def repair(one, **arguments) -> Repair:
    client = arguments.pop("client", one.client)
    return Repair(one.engine, client, one.chain.chain_id, one.chain.name, **arguments)


def versions(one):
    return one.query("SELECT version, rewrite_version FROM gapless.events ORDER BY id")


def digests(one):
    return one.query("SELECT source_id, first_block, rows, digest FROM gapless.digests ORDER BY 1, 2")


TAMPERING = {
    **CHANGES,
    "address": "UPDATE coins.transfer SET contract_address = decode(repeat('ab', 20), 'hex') "
    "WHERE block_number = %s AND log_index = %s",
    "time": "UPDATE coins.transfer SET block_time = block_time + interval '1s' "
    "WHERE block_number = %s AND log_index = %s",
    "moved": "UPDATE coins.transfer SET log_index = 998 WHERE block_number = %s AND log_index = %s",
    "block": "DELETE FROM gapless.blocks WHERE number = %s AND %s >= 0",
    "block time": "UPDATE gapless.blocks SET time = time - interval '1s' WHERE number = %s AND %s >= 0",
    "gap": "UPDATE gapless.sources SET coverage = coverage - int8multirange(int8range(%s, 238)) "
    "WHERE id = 6 AND %s >= 0",
    "digest": "UPDATE gapless.digests SET digest = digest + 1 WHERE first_block <= %s AND %s >= 0",
}


@pytest.mark.parametrize("change", TAMPERING)
def test_what_was_changed_is_as_it_was(indexed, change):
    rows, sums, before = indexed.rows(), digests(indexed), versions(indexed)
    block, log = a_row(indexed)
    assert execute(indexed, TAMPERING[change], block, log) >= 1
    if change == "gap":
        execute(indexed, "DELETE FROM portraits.transfer WHERE block_number BETWEEN %s AND 237", block)
    assert run(indexed).findings
    outcome = repair(indexed).findings()
    assert not outcome.left
    assert not run(indexed).findings
    assert indexed.rows() == rows
    if change not in ("gap", "digest"):
        assert digests(indexed) == sums
    changed = [i for i, (a, b) in enumerate(zip(before, versions(indexed), strict=True)) if a != b]
    assert len(changed) == (change not in ("block", "block time", "digest"))
    assert not indexed.query("SELECT FROM gapless.findings WHERE repaired_at IS NULL")


@pytest.mark.parametrize("change", ["missing", "invented", "late"])
def test_children(indexed, change):
    rows, children = indexed.rows(), indexed.query("SELECT * FROM gapless.children ORDER BY address")
    address = children[0][2]
    statement = {
        "missing": "DELETE FROM gapless.children WHERE address = %s",
        "invented": "UPDATE gapless.children SET address = decode(repeat('cd', 20), 'hex') WHERE address = %s",
        "late": "UPDATE gapless.children SET block_number = 200 WHERE address = %s",
    }[change]
    execute(indexed, statement, address)
    # As if it had never been known: its logs were not indexed either.
    execute(
        indexed,
        "DELETE FROM pair.swap WHERE contract_address = %s AND block_number < 200 AND block_number > 1",
        address,
    )
    execute(indexed, "DELETE FROM gapless.digests")
    assert {f.kind for f in run(indexed).findings} >= {"child"}
    outcome = repair(indexed).findings()
    assert not outcome.left
    assert indexed.query("SELECT * FROM gapless.children ORDER BY address") == children
    # What the follower indexed without knowing the child is covered no more, and the follower's to fetch.
    assert {(f.kind, f.first) for f in run(indexed).findings} == {("gap", finalized(indexed) + 1)}
    follower = indexed.follower()
    indexed.catch_up(follower)
    follower.close()
    assert indexed.rows() == rows
    assert not run(indexed).findings


@pytest.mark.promise("P-03")
def test_a_range_by_hand_touches_nothing_else(indexed):
    rows = indexed.rows()
    block, log = a_row(indexed)
    execute(indexed, CHANGES["gone"], block, log)
    execute(indexed, "UPDATE coins.transfer SET value = 0 WHERE block_number = 1")
    outcome = repair(indexed).range("coins", block - 1, block + 1)
    assert (outcome.blocks, outcome.checked) == (1, 3)
    now = indexed.rows()
    assert [row for row in now["coins.Transfer"] if row[1] > 1] == [row for row in rows["coins.Transfer"] if row[1] > 1]
    # The other change is still told of, though the digest covers both.
    assert {f.kind for f in run(indexed).findings} == {"digest"}
    (verified,) = indexed.query(
        "SELECT verified @> %s::bigint FROM gapless.sources s JOIN gapless.events e ON e.id = event_id "
        "WHERE e.name = 'Transfer' ORDER BY s.id LIMIT 1",
        block,
    )[0]
    assert verified


TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


class Forgetful(ChainClient):
    """A node that has lost a log, and cannot say more than what its index holds."""

    lost: int = -1
    provable = True

    def scan(self, *arguments, **options):
        for chunk in super().scan(*arguments, **options):
            kept = [
                log
                for log in chunk.logs
                if log.block_number != self.lost or len(log.topics) != 3 or log.topics[0] != TRANSFER
            ]
            chunk.read = CheckedLogs(kept, {}, {})
            yield chunk

    def block(self, number_or_hash, full=False):
        found = super().block(number_or_hash, full)
        return found if self.provable else found | {"mixHash": "0x" + "22" * 32}


@pytest.fixture
def forgetful(indexed, shared_history):
    client = Forgetful("demo", indexed.chain.chain_id, [EndpointConfig(node_url(shared_history))], settings=QUICK)
    yield client
    client.close()


@pytest.mark.promise("P-03")
def test_nothing_is_deleted_on_the_word_of_a_node_that_lost_a_log(indexed, forgetful):
    rows = indexed.rows()
    forgetful.lost, _ = a_row(indexed)
    within = (forgetful.lost - 1, forgetful.lost + 1)
    # The proof says what the index does not.
    assert repair(indexed, client=forgetful).range("coins", *within).blocks == 0
    assert indexed.rows() == rows
    # Where nothing can be proven, a second endpoint has to agree.
    forgetful.provable = False
    outcome = repair(indexed, client=forgetful).range("coins", *within)
    assert outcome.left
    assert "second endpoint" in outcome.left[0]
    assert repair(indexed, client=forgetful, other=indexed.client).range("coins", *within).left
    assert indexed.rows() == rows
    agreed = repair(indexed, client=forgetful, other=forgetful).range("coins", *within)
    assert not agreed.left
    assert len(indexed.rows()["coins.Transfer"]) < len(rows["coins.Transfer"])


@pytest.mark.promise("P-04")
def test_a_log_that_the_index_lost_is_found_by_proof_and_repaired_by_it(indexed, forgetful):
    """The node's index lost it while we were reading: only receipts know better, for the audit and for the repair."""
    rows = indexed.rows()
    block, _ = a_row(indexed)
    forgetful.lost = block
    execute(indexed, "DELETE FROM coins.transfer WHERE block_number = %s", block)
    execute(indexed, "DELETE FROM gapless.digests")
    assert not run(indexed, contract="coins", other=forgetful, within=(block, block)).findings
    assert {f.kind for f in run(indexed, deep=True, within=(block, block)).findings} == {"proof"}
    assert repair(indexed, client=forgetful).findings().blocks == 1
    assert indexed.rows() == rows


def test_a_finalized_block_with_another_hash_is_left_to_a_person(indexed):
    block, log = a_row(indexed)
    execute(indexed, "UPDATE gapless.blocks SET hash = decode(repeat('ee', 32), 'hex') WHERE number = %s", block)
    execute(indexed, CHANGES["value"], block, log)
    rows = indexed.rows()
    run(indexed, deep=True, within=(block, block))
    outcome = repair(indexed).findings()
    assert any(f"block {block}" in line and "nothing was touched" in line for line in outcome.left)
    assert indexed.rows() == rows
    assert indexed.query("SELECT FROM gapless.findings WHERE repaired_at IS NULL")


def test_blocks_above_finalized_are_the_followers(indexed):
    outcome = repair(indexed).range("coins", finalized(indexed) + 1, finalized(indexed) + 5)
    assert outcome.checked == 0
    assert "not finalized" in outcome.left[0]


def leave_raw(indexed, key) -> None:
    """Keeps a log raw in place of its row, as an older decoder had left it that could not read it."""
    (log,) = [
        log
        for log in indexed.client.raw("eth_getLogs", [{"fromBlock": hex(key[0]), "toBlock": hex(key[0])}])
        if int(log["logIndex"], 16) == key[1]
    ]
    execute(
        indexed,
        "INSERT INTO gapless.undecoded_logs SELECT e.id, t.chain_id, t.block_number, t.log_index, t.block_time, "
        "t.tx_hash, t.tx_index, t.contract_address, %s, %s, 'an older reason', false "
        "FROM coins.transfer t, gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id "
        "WHERE c.name = 'coins' AND e.name = 'Transfer' AND (block_number, log_index) = (%s, %s)",
        [bytes.fromhex(topic[2:]) for topic in log["topics"]],
        bytes.fromhex(log["data"][2:]),
        *key,
    )
    execute(indexed, CHANGES["gone"], *key)


def test_redecoding_moves_rows_in_once(indexed):
    rows, sums = indexed.rows(), digests(indexed)
    # As an older decoder had left them: two logs that only today's can read.
    taken = indexed.query(
        "SELECT block_number, log_index FROM coins.transfer WHERE block_number BETWEEN 2 AND 200 ORDER BY 1, 2 LIMIT 2"
    )
    for key in taken:
        leave_raw(indexed, key)
    execute(indexed, "DELETE FROM gapless.digests")
    assert not Backfill(indexed.engine, indexed.client, indexed.chain.chain_id).run().blocks
    from indexer.sync.audit import table_checks

    table_checks.take_digests(indexed.engine, indexed.chain.chain_id)
    done = redecode(indexed.engine)
    assert done.rows == {"coins.Transfer": 2}
    assert sum(done.still.values()) > 0  # the hostile ones, still
    assert indexed.rows() == rows
    assert digests(indexed) == sums
    assert not redecode(indexed.engine, "coins").rows
    assert not run(indexed, deep=True, within=(taken[0][0], taken[1][0])).findings


def test_a_finding_that_reaches_above_finalized_stays_open_for_that_part(indexed):
    """As when a child was not known: what the follower indexed without it is repaired once it is final."""
    last = finalized(indexed)
    execute(indexed, "UPDATE gapless.chains SET finalized_number = %s", last - 20)
    block, log = indexed.query(
        "SELECT block_number, log_index FROM coins.transfer WHERE block_number BETWEEN %s AND %s LIMIT 1",
        last - 19,
        last,
    )[0]
    rows = indexed.rows()
    execute(indexed, CHANGES["gone"], block, log)
    execute(
        indexed,
        "INSERT INTO gapless.findings (chain_id, event_id, source_id, kind, first_block, last_block, count, detail) "
        "SELECT s.chain_id, e.id, s.id, 'proof', %s, %s, 1, 'indexed while a child was not known' "
        "FROM gapless.sources s JOIN gapless.events e ON e.id = s.event_id JOIN gapless.contracts c "
        "ON c.id = e.contract_id WHERE c.name = 'coins' AND e.name = 'Transfer'",
        last - 25,
        last,
    )
    assert "not finalized" in repair(indexed).findings().left[0]
    assert indexed.query("SELECT FROM gapless.findings WHERE repaired_at IS NULL")
    assert "not finalized" in repair(indexed).range("coins", last - 25, last).left[0]
    execute(indexed, "UPDATE gapless.chains SET finalized_number = %s", last)
    assert not repair(indexed).findings().left
    assert not indexed.query("SELECT FROM gapless.findings WHERE repaired_at IS NULL")
    assert indexed.rows() == rows


def test_redecoding_what_a_retired_source_left_keeps_its_digests_in_step(indexed, shared_history, tmp_path):
    key = a_row(indexed)
    leave_raw(indexed, key)
    execute(indexed, "DELETE FROM gapless.digests")
    from indexer.sync.audit import table_checks

    table_checks.take_digests(indexed.engine, indexed.chain.chain_id)
    text = manifest_text(shared_history.world).replace('contracts = ["coins", ', "contracts = [")
    text = re.sub(r"(?m)^daily = .*$", "", text)
    place = 'abi = "' + text.partition("[contracts.coins]")[2].partition('abi = "')[2].partition("\n")[0]
    without = text.replace(place, place + '\nevents = ["Approval"]', 1)
    indexed.apply(without, tmp_path, node_url(shared_history))
    assert redecode(indexed.engine).rows == {"coins.Transfer": 1}
    indexed.apply(text, tmp_path, node_url(shared_history))
    assert [f for f in run(indexed).findings if f.kind == "digest"] == []


def test_gaps_of_a_factory_and_its_children_are_all_filled(indexed):
    """The children's waits for the factory's, wherever it stands among the findings."""
    rows = indexed.rows()
    sources = indexed.query(
        "SELECT s.id, c.schema_name || '.' || e.table_name FROM gapless.sources s JOIN gapless.events e "
        "ON e.id = s.event_id JOIN gapless.contracts c ON c.id = e.contract_id WHERE c.name IN ('exchange', 'pair')"
    )
    for source_id, table in sources:
        first = 100 if table.startswith("exchange") else 90
        execute(indexed, f"DELETE FROM {table} WHERE block_number BETWEEN %s AND 150", first)
        execute(
            indexed,
            "UPDATE gapless.sources SET coverage = coverage - int8multirange(int8range(%s, 151)) WHERE id = %s",
            first,
            source_id,
        )
    execute(indexed, "DELETE FROM gapless.digests")
    assert {f.kind for f in run(indexed).findings} >= {"gap"}
    assert not repair(indexed).findings().left
    assert not run(indexed).findings
    assert indexed.rows() == rows


def test_a_gap_that_cannot_be_filled_yet_is_not_called_repaired(indexed):
    last = finalized(indexed)
    execute(
        indexed,
        "UPDATE gapless.sources SET coverage = coverage - int8multirange(int8range(%s, NULL)) WHERE id = 6",
        last - 3,
    )
    (label,) = indexed.query(
        "SELECT c.schema_name || '.' || e.table_name FROM gapless.sources s JOIN gapless.events e ON e.id = s.event_id "
        "JOIN gapless.contracts c ON c.id = e.contract_id WHERE s.id = 6"
    )[0]
    execute(indexed, f"DELETE FROM {label} WHERE block_number >= %s", last - 3)
    execute(indexed, "DELETE FROM gapless.digests")
    (gap,) = run(indexed).findings
    assert gap.last > last
    outcome = repair(indexed).findings()
    assert outcome.filled == 4
    assert len(outcome.left) == 1
    assert indexed.query("SELECT FROM gapless.findings WHERE repaired_at IS NULL")


def test_no_writer_waits_behind_a_repair_that_waits(indexed):
    """A transaction that has written to a table stays open: the repair waits for it, and nobody for the repair."""
    execute(indexed, TAMPERING["address"], *a_row(indexed))
    run(indexed)
    url = indexed.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as first, psycopg.connect(url) as second, ThreadPoolExecutor(1) as pool:
        first.execute("LOCK TABLE coins.transfer IN ROW EXCLUSIVE MODE")
        repairing = pool.submit(repair(indexed).findings)
        try:
            until_one_waits(indexed)
            second.execute("SET lock_timeout = '20s'")
            second.execute("LOCK TABLE coins.transfer IN ROW EXCLUSIVE MODE")
        finally:
            first.rollback()
            second.rollback()
        assert repairing.result(60).repaired
    assert run(indexed).findings == []
