"""Audits of an indexed chain: silent where nothing is wrong, and loud about each thing that is."""

from __future__ import annotations

from random import Random

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import EndpointConfig
from indexer.store.catalog import ledgers
from indexer.store.integrity import checks
from indexer.sync.tokens.balances import catch_up
from tests.integration.audit.conftest import execute, node_url, run
from tests.integration.sync.rig import QUICK


def kinds(report) -> set[str]:
    return {finding.kind for finding in report.findings}


def finalized(one) -> int:
    return one.query("SELECT finalized_number FROM gapless.chains")[0][0]


def a_row(one, table: str = "coins.transfer", where: str = "true"):
    """Block and log index of some finalized row."""
    rows = one.query(
        f"SELECT block_number, log_index FROM {table} WHERE block_number <= %s AND {where} ORDER BY 1, 2",
        finalized(one),
    )
    return rows[len(rows) // 2]


def test_nothing_is_wrong(indexed):
    report = run(indexed, deep=True, other=indexed.client)
    assert not report.findings
    assert report.digest.rows > 500
    assert report.digest.without == report.digest.incomparable == 0
    assert report.against.blocks == report.deep.proven == finalized(indexed)
    assert report.deep.links == report.deep.proven - 1
    assert not report.deep.unproven
    assert report.against.logs > 500


@pytest.mark.promise("P-05")
def test_it_says_what_it_looked_at_and_what_it_has_not_proven(indexed):
    report = run(indexed)
    assert not report.findings
    assert report.unproven == report.scope.tip, "nothing is proven by tables that agree with themselves"
    assert report.scope.looked_at()["coins"] == ((1, report.scope.tip),)
    assert report.unsure == []
    proven = run(indexed, deep=True)
    assert proven.unproven == proven.scope.tip - finalized(indexed)
    assert run(indexed).unproven == proven.unproven
    execute(
        indexed,
        "INSERT INTO gapless.deployment_blocks (chain_id, address, block_number, checked_from) "
        "SELECT chain_id, decode(substr(place->'addresses'->>0, 3), 'hex'), start_block, 40 FROM gapless.sources "
        "WHERE place->>'kind' = 'addresses' ON CONFLICT DO NOTHING",
    )
    (sentence, *_) = run(indexed, contract="coins").unsure
    assert "whether it spoke before block 40 was not asked" in sentence


def test_what_was_proven_is_kept_and_not_proven_again(indexed):
    run(indexed, deep=True, sample=20, random=Random(1))
    rows = indexed.query("SELECT verified = '{}', verified <@ coverage FROM gapless.sources")
    assert (True, True) not in rows
    (blocks,) = indexed.query(
        "SELECT sum(upper(r) - lower(r)) FROM (SELECT range_agg(verified) v FROM gapless.sources) x, unnest(v) r"
    )[0]
    assert blocks == 20
    report = run(indexed, deep=True, within=(1, 50))
    assert report.proven_before > 0
    assert report.proven_before + report.deep.proven == 50
    assert run(indexed, deep=True, within=(1, 50)).deep.proven == 0
    assert run(indexed, deep=True, again=True, within=(1, 50)).deep.proven == 50


@pytest.mark.promise("P-01")
def test_a_gap(indexed):
    execute(indexed, "UPDATE gapless.sources SET coverage = coverage - '{[7,10)}'::int8multirange WHERE id = 1")
    (gap,) = [f for f in run(indexed).findings if f.kind == "gap"]
    assert (gap.first, gap.last, gap.count, gap.source_id) == (7, 9, 3, 1)


@pytest.mark.promise("P-01")
def test_rows_that_nobody_covered(indexed):
    block, _ = a_row(indexed)
    execute(
        indexed,
        "UPDATE gapless.sources SET coverage = coverage - int8multirange(int8range(%s, %s)) "
        "WHERE event_id = (SELECT e.id FROM gapless.events e JOIN gapless.contracts c ON c.id = contract_id "
        "WHERE c.name = 'coins' AND e.name = 'Transfer')",
        block,
        block + 1,
    )
    report = run(indexed, contract="coins")
    assert kinds(report) >= {"gap", "outside"}
    (outside,) = [f for f in report.findings if f.kind == "outside"]
    assert (outside.first, outside.last, outside.label) == (block, block, "coins.Transfer")
    assert not run(indexed, contract="portraits").findings


def test_rows_of_an_address_that_is_not_indexed(indexed):
    block, log = a_row(indexed)
    execute(
        indexed,
        "UPDATE coins.transfer SET contract_address = decode(repeat('ab', 20), 'hex') "
        "WHERE block_number = %s AND log_index = %s",
        block,
        log,
    )
    report = run(indexed)
    assert kinds(report) == {"outside", "digest"}


def test_rows_above_the_tip(indexed):
    execute(
        indexed,
        "UPDATE coins.transfer SET block_number = 100000 WHERE (block_number, log_index) = "
        "(SELECT block_number, log_index FROM coins.transfer ORDER BY block_number DESC LIMIT 1)",
    )
    (finding,) = [f for f in run(indexed).findings if f.kind == "outside"]
    assert finding.first == finding.last == 100_000


@pytest.mark.promise("P-01")
def test_a_log_that_is_there_twice(indexed):
    execute(indexed, "ALTER TABLE coins.transfer DROP CONSTRAINT transfer_pkey")
    block, log = a_row(indexed)
    execute(
        indexed,
        "INSERT INTO coins.transfer SELECT * FROM coins.transfer WHERE block_number = %s AND log_index = %s",
        block,
        log,
    )
    report = run(indexed)
    (twice,) = [f for f in report.findings if f.kind == "duplicate"]
    assert (twice.first, twice.last, twice.label) == (block, block, "coins.Transfer")


@pytest.mark.promise("P-01")
def test_a_block_that_is_gone_or_had_another_time(indexed):
    block, _ = a_row(indexed)
    execute(indexed, "DELETE FROM gapless.blocks WHERE number = %s", block)
    found = {f.detail.partition(" ")[2].partition(" ")[2] for f in run(indexed).findings if f.kind == "dangling"}
    assert found == {"of a block that is not kept"}
    other, _ = a_row(indexed, where=f"block_number > {block}")
    execute(indexed, "UPDATE gapless.blocks SET time = time + interval '1 second' WHERE number = %s", other)
    report = run(indexed, deep=True, within=(other, other))
    assert kinds(report) == {"dangling", "proof"}
    assert "proven one" in next(f.detail for f in report.findings if f.kind == "proof")


@pytest.mark.parametrize("change", ["missing", "invented", "late"])
def test_children_follow_from_their_factorys_events(indexed, change):
    (address,) = indexed.query("SELECT address FROM gapless.children LIMIT 1")[0]
    statement = {
        "missing": "DELETE FROM gapless.children WHERE address = %s",
        "invented": "INSERT INTO gapless.children SELECT chain_id, contract_id, "
        "decode(repeat('cd', 20), 'hex'), block_number, log_index, factory_address "
        "FROM gapless.children WHERE address = %s",
        "late": "UPDATE gapless.children SET block_number = block_number + 100 WHERE address = %s",
    }[change]
    execute(indexed, statement, address)
    report = run(indexed)
    (child,) = [f for f in report.findings if f.kind == "child"]
    assert (("cd" * 20) if change == "invented" else address.hex()) in child.detail
    # Rows of an address that was no child then are strangers too.
    assert ("outside" in kinds(report)) == (change != "invented")


CHANGES = {
    "value": "UPDATE coins.transfer SET value = value + 1 WHERE block_number = %s AND log_index = %s",
    "hash": "UPDATE coins.transfer SET tx_hash = contract_address WHERE block_number = %s AND log_index = %s",
    "gone": "DELETE FROM coins.transfer WHERE block_number = %s AND log_index = %s",
    "null": "UPDATE coins.transfer SET to_address = NULL WHERE block_number = %s AND log_index = %s",
}


@pytest.mark.promise("P-02")
@pytest.mark.parametrize("change", CHANGES)
def test_a_row_that_was_changed_is_seen_by_the_digest_and_found_by_comparison(indexed, change):
    block, log = a_row(indexed)
    assert execute(indexed, CHANGES[change], block, log) == 1
    (digest,) = run(indexed).findings
    assert digest.kind == "digest"
    assert digest.first <= block <= digest.last
    report = run(indexed, other=indexed.client, deep=True, within=(block - 5, block + 5))
    assert kinds(report) == {"digest", "against", "proof"}
    for finding in report.findings:
        if finding.kind != "digest":
            assert (finding.first, finding.last, finding.label) == (block, block, "coins.Transfer")
            assert f"block {block} log {log}" in finding.detail
    (verified,) = indexed.query(
        "SELECT verified @> %s::bigint FROM gapless.sources s JOIN gapless.events e ON e.id = event_id "
        "JOIN gapless.contracts c ON c.id = contract_id WHERE c.name = 'coins' AND e.name = 'Transfer'",
        block,
    )[0]
    assert not verified


def test_a_row_that_nobody_said(indexed):
    block, log = a_row(indexed)
    execute(
        indexed,
        "INSERT INTO coins.transfer SELECT chain_id, block_number, block_time, tx_hash, tx_index, 999, "
        "contract_address, from_address, to_address, value FROM coins.transfer "
        "WHERE block_number = %s AND log_index = %s",
        block,
        log,
    )
    report = run(indexed, deep=True, within=(block, block))
    assert kinds(report) == {"digest", "proof"}
    assert f"block {block} log 999 should not be there" in report.findings[-1].detail


def test_an_undecoded_log_that_was_lost(indexed):
    (event, block) = indexed.query(
        "SELECT event_id, block_number FROM gapless.undecoded_logs WHERE NOT has_row AND block_number <= %s LIMIT 1",
        finalized(indexed),
    )[0]
    execute(indexed, "DELETE FROM gapless.undecoded_logs WHERE event_id = %s AND block_number = %s", event, block)
    report = run(indexed, deep=True, within=(block, block))
    assert kinds(report) == {"digest", "proof"}
    assert any("should be among the undecoded" in f.detail for f in report.findings)


def test_a_block_with_another_hash(indexed):
    block, _ = a_row(indexed)
    execute(indexed, "UPDATE gapless.blocks SET hash = decode(repeat('ee', 32), 'hex') WHERE number = %s", block)
    report = run(indexed, deep=True, other=indexed.client)
    assert kinds(report) == {"proof", "against"}
    assert all((f.first, f.event_id) == (block, None) for f in report.findings)


def test_findings_are_kept_until_the_next_audit_of_the_same_thing(indexed):
    block, log = a_row(indexed)
    execute(indexed, CHANGES["value"], block, log)
    run(indexed, deep=True, within=(block - 5, block))
    run(indexed, deep=True, within=(block - 5, block))
    stored = indexed.query("SELECT kind, first_block FROM gapless.findings ORDER BY kind")
    assert [kind for kind, _ in stored] == ["digest", "proof"]
    # An audit of other blocks leaves them; one of the same blocks, which agree now, does not.
    run(indexed, deep=True, again=True, within=(block - 5, block - 1))
    assert len(indexed.query("SELECT FROM gapless.findings")) == 2
    execute(
        indexed, "UPDATE coins.transfer SET value = value - 1 WHERE block_number = %s AND log_index = %s", block, log
    )
    assert not run(indexed, deep=True, within=(block - 5, block)).findings
    assert not indexed.query("SELECT FROM gapless.findings")


def test_a_chain_that_cannot_be_proven_has_no_findings(indexed, shared_history):
    class Elsewhere(ChainClient):
        def block(self, number_or_hash, full=False):
            found = super().block(number_or_hash, full)
            return found | {"l1BlockNumber": "0x1", "mixHash": "0x" + "11" * 32}

    client = Elsewhere("demo", indexed.chain.chain_id, [EndpointConfig(node_url(shared_history))], settings=QUICK)
    report = run(indexed, deep=True, sample=5, client=client)
    assert not report.findings
    assert report.deep.unproven == {"the header's fields do not hash to the block's hash": 5}
    client.close()


def test_receipts_one_by_one_where_the_node_has_no_other_way(indexed, shared_history):
    class Older(ChainClient):
        asked = 0

        def receipts(self, number):
            from indexer.chain.records.errors import NoEndpointError

            type(self).asked += 1
            raise NoEndpointError("nobody has eth_getBlockReceipts")

    client = Older("demo", indexed.chain.chain_id, [EndpointConfig(node_url(shared_history))], settings=QUICK)
    report = run(indexed, deep=True, within=(1, 12), client=client)
    assert not report.findings
    assert report.deep.proven == 12
    assert Older.asked <= 4  # those that were under way together
    client.close()


def test_of_a_sample_only_its_own_blocks_are_read(indexed):
    """On a long chain what lies between them would not fit into memory."""
    with indexed.engine.connect() as connection:
        stored = checks.blocks(connection, indexed.chain.chain_id, [1, finalized(indexed)])
    assert stored.keys() == {1, finalized(indexed)}
    assert stored[1][0] == indexed.client.header(1).hash


def test_balances_that_are_begun_anew_during_an_audit_are_not_asked_for(indexed, monkeypatch):
    load = ledgers.load
    looks = []

    def gone(connection, chain_id):
        looks.append(chain_id)
        return load(connection, chain_id) if len(looks) < 3 else []

    catch_up(indexed.engine, indexed.chain.chain_id)
    monkeypatch.setattr(ledgers, "load", gone)
    report = run(indexed, deep=True, within=(1, 1))
    assert set(report.holders.unasked) == {"coins", "portraits", "items"}


def test_blocks_that_are_not_indexed_yet(indexed):
    """Nothing can be said of them, but for rows that should not be there."""
    report = run(indexed, within=(10**6, 2 * 10**6), deep=True)
    assert report.findings == []
    execute(
        indexed,
        "UPDATE coins.transfer SET block_number = 1000001 WHERE (block_number, log_index) = "
        "(SELECT block_number, log_index FROM coins.transfer ORDER BY block_number DESC LIMIT 1)",
    )
    for _ in range(2):
        assert kinds(run(indexed, within=(10**6, 2 * 10**6))) == {"outside"}
    assert indexed.query("SELECT count(*) FROM gapless.findings WHERE repaired_at IS NULL") == [(1,)]
