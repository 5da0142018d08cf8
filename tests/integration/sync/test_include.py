"""``include``: blocks, transactions and receipts of events, compared with what web3 says of the same node."""

from __future__ import annotations

import random

import pytest

from indexer.store.catalog import catalog
from indexer.store.rows import transactions as included
from indexer.store.rows import writer
from indexer.sync.history.transactions import Includer
from tests.integration.sync.rig import normal, rig
from tests.integration.sync.test_changes import apply_again, chain_text, coins, indexed, url_of

BLOCKS = """
    SELECT block_number, block_hash, extract(epoch FROM block_time)::bigint, miner, gas_limit, gas_used, base_fee,
           transaction_count, size FROM gapless.block_details ORDER BY block_number
"""
TRANSACTIONS = """
    SELECT block_number, tx_index, tx_hash, sender, recipient, type, value, nonce, gas_limit, status, gas_used,
           effective_gas_price FROM gapless.transactions ORDER BY block_number, tx_index
"""


def expected(w3, rows, *, transaction: bool, receipt: bool):
    """What web3 says of the transactions and blocks of some event rows."""
    found = []
    for number, index in sorted({(row[1], row[4]) for row in rows}):
        block = w3.eth.get_block(number)
        tx = w3.eth.get_transaction(block["transactions"][index])
        r = w3.eth.get_transaction_receipt(tx["hash"])
        to = None if tx["to"] is None else bytes.fromhex(tx["to"][2:])
        found.append(
            (
                number, index, bytes(tx["hash"]), bytes.fromhex(tx["from"][2:]), to, tx["type"],
                *((tx["value"], tx["nonce"], tx["gas"]) if transaction else (None,) * 3),
                *((r["status"], r["gasUsed"], r["effectiveGasPrice"]) if receipt else (None,) * 3),
            )
        )  # fmt: skip
    return found


def includer(one) -> Includer:
    return Includer(one.engine, one.client, one.chain.chain_id)


def rows_of(one, statement: str):
    return [tuple(normal(value) for value in row) for row in one.query(statement)]


@pytest.mark.promise("R-14")
def test_what_is_included_is_what_web3_says(shared_history, migrated_url, tmp_path):
    w3 = shared_history.world.w3
    more = 'include = ["block", "transaction", "receipt"]'
    text = chain_text(shared_history) + coins(shared_history, "gold", "silver", more=more)
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        events = one.rows()["coins.Transfer"]
        assert includer(one).run() > 10
        assert rows_of(one, TRANSACTIONS) == expected(w3, events, transaction=True, receipt=True)
        blocks = [w3.eth.get_block(number) for number in sorted({row[1] for row in events})]
        assert rows_of(one, BLOCKS) == [
            (
                b["number"], bytes(b["hash"]), b["timestamp"], bytes.fromhex(b["miner"][2:]), b["gasLimit"],
                b["gasUsed"], b["baseFeePerGas"], len(b["transactions"]), b["size"],
            )
            for b in blocks
        ]  # fmt: skip
        # All of the coverage is done, and nothing is asked twice.
        covered = "SELECT gapless.covered(coverage, end_block, tip_number) FROM gapless.sources JOIN gapless.chains "
        covered += "USING (chain_id)"
        assert one.query(f"SELECT included = ({covered}) FROM gapless.deployments") == [(True,)]
        assert includer(one).run() == 0


@pytest.mark.parametrize("include", ["transaction", "receipt"])
def test_only_what_is_named_is_fetched_and_the_rest_when_it_is(shared_history, migrated_url, tmp_path, include):
    w3 = shared_history.world.w3
    text = chain_text(shared_history) + coins(shared_history, "gold", more=f'include = ["{include}"]')
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        events = one.rows()["coins.Transfer"]
        includer(one).run()
        only = {"transaction": include == "transaction", "receipt": include == "receipt"}
        assert rows_of(one, TRANSACTIONS) == expected(w3, events, **only)
        assert rows_of(one, BLOCKS) == []
        both = text.replace(f'["{include}"]', '["receipt", "transaction"]')
        assert apply_again(one, shared_history, tmp_path, both) == ["~ contract coins: include: receipt, transaction"]
        includer(one).run()
        assert rows_of(one, TRANSACTIONS) == expected(w3, events, transaction=True, receipt=True)


def test_a_new_event_brings_its_transactions(shared_history, migrated_url, tmp_path):
    w3 = shared_history.world.w3
    text = chain_text(shared_history)
    more = 'include = ["receipt"]'
    with indexed(text + coins(shared_history, "gold", more=more), shared_history, migrated_url, tmp_path) as (
        one,
        follower,
    ):
        includer(one).run()
        wider = text + coins(shared_history, "gold", events='"Transfer", "Approval"', more=more)
        apply_again(one, shared_history, tmp_path, wider)
        one.catch_up(follower)
        includer(one).run()
        rows = one.rows()
        assert rows_of(one, TRANSACTIONS) == expected(
            w3, rows["coins.Transfer"] + rows["coins.Approval"], transaction=False, receipt=True
        )


def test_a_row_that_comes_while_its_blocks_are_asked_for_brings_its_transaction(
    shared_history, migrated_url, tmp_path, monkeypatch
):
    text = chain_text(shared_history) + coins(shared_history, "gold", more='include = ["receipt"]')
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        with one.engine.begin() as connection:
            # The first row of a transaction's only one, kept aside like a log that cannot be decoded yet.
            connection.exec_driver_sql("""
                CREATE TABLE aside AS SELECT * FROM coins.transfer WHERE tx_hash = (
                    SELECT tx_hash FROM coins.transfer GROUP BY tx_hash ORDER BY min(block_number) LIMIT 1)
            """)
            connection.exec_driver_sql("DELETE FROM coins.transfer WHERE tx_hash IN (SELECT tx_hash FROM aside)")
        work, fetch = includer(one), Includer._fetch

        def late(self, incomplete):
            found = fetch(self, incomplete)
            with one.engine.begin() as connection:
                # What redecode does, in its order.
                connection.exec_driver_sql("INSERT INTO coins.transfer SELECT * FROM aside")
                connection.exec_driver_sql("DROP TABLE aside")
                (event,) = catalog.load_events(connection).values()
                number = connection.exec_driver_sql("SELECT min(block_number) FROM coins.transfer").scalar_one()
                included.forget(connection, one.chain.chain_id, event.contract_id, ((number, number),))
                writer.bump_versions(connection, [event.event_id], rewritten=True)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(Includer, "_fetch", late)
            work.stop.is_set = iter((False, True)).__next__  # one part only
            work.run()
        includer(one).run()
        events = one.rows()["coins.Transfer"]
        assert rows_of(one, TRANSACTIONS) == expected(shared_history.world.w3, events, transaction=False, receipt=True)


def test_a_node_without_block_receipts_is_asked_one_by_one(shared_history, migrated_url, tmp_path, monkeypatch):
    from indexer.chain.reads import transactions as surroundings
    from indexer.chain.records.errors import FatalError

    text = chain_text(shared_history) + coins(shared_history, "gold", more='include = ["receipt"]')
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        real, refused = surroundings.Reader.read, []

        def read(self, endpoint, context, *, whole_receipts=True):
            if whole_receipts:
                refused.append(1)
                raise FatalError("the method does not exist", scope="method", host=endpoint.host)
            real(self, endpoint, context, whole_receipts=False)

        monkeypatch.setattr(surroundings.Reader, "read", read)
        includer(one).run()
        assert refused == [1]
        assert rows_of(one, TRANSACTIONS) == expected(
            shared_history.world.w3, one.rows()["coins.Transfer"], transaction=False, receipt=True
        )


@pytest.mark.promise("R-14")
def test_a_reorganisation_takes_what_was_included_with_it(make_world, migrated_url, tmp_path):
    from indexer.demo.traffic import burst

    history = make_world(transactions=80, blocks=20)
    w3 = history.world.w3
    more = 'include = ["block", "transaction", "receipt"]'
    with rig(
        chain_text(history) + coins(history, "gold", "silver", more=more), tmp_path, url_of(history), migrated_url
    ) as one:
        follower = one.follower()
        one.catch_up(follower)
        includer(one).run()
        before = rows_of(one, TRANSACTIONS)
        snapshot = w3.provider.make_request("evm_snapshot", [])["result"]
        burst(history.world, random.Random(5), 60, 12)
        one.catch_up(follower)
        includer(one).run()
        longer = rows_of(one, TRANSACTIONS)
        assert len(longer) > len(before)
        w3.provider.make_request("evm_revert", [snapshot])
        burst(history.world, random.Random(6), 60, 14)
        one.catch_up(follower)
        assert one.query("SELECT count(*) FROM gapless.reorgs") == [(1,)]
        # Before anything is fetched again, nothing of the old branch is left, and its blocks are not called done.
        assert rows_of(one, TRANSACTIONS) == before
        includer(one).run()
        events = one.rows()["coins.Transfer"]
        after = rows_of(one, TRANSACTIONS)
        assert after == expected(w3, events, transaction=True, receipt=True)
        assert after != longer
        assert {row[0] for row in rows_of(one, BLOCKS)} == {row[1] for row in events}
        follower.close()


def test_a_branch_that_came_while_blocks_were_asked_for_brings_its_transactions(
    make_world, migrated_url, tmp_path, monkeypatch
):
    from indexer.demo.world import mining_by_hand, request

    history = make_world(transactions=20, blocks=10)
    w3, gold = history.world.w3, history.world.contract("gold")
    sender, recipient = history.world.accounts[:2]

    def mine(*transfers: int) -> None:
        for count in transfers:
            for _ in range(count):
                gold.functions.transfer(recipient, 1).transact({"from": sender})
            request(w3, "anvil_mine", "0x1")

    text = chain_text(history) + coins(history, "gold", more='include = ["receipt"]')
    with rig(text, tmp_path, url_of(history), migrated_url) as one, mining_by_hand(w3):
        gold.functions.mint(sender, 1000).transact({"from": sender})
        request(w3, "anvil_mine", "0x1")
        follower = one.follower()
        one.catch_up(follower)
        includer(one).run()
        mine(1)
        kept = request(w3, "evm_snapshot")
        mine(0, 0)
        one.catch_up(follower)
        work, fetch = includer(one), Includer._fetch

        def late(self, incomplete):
            found = fetch(self, incomplete)
            # The block that was asked for stays, what was silent behind it is not any more.
            request(w3, "evm_revert", kept)
            mine(0, 1, 0)
            one.catch_up(follower)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(Includer, "_fetch", late)
            work.stop.is_set = iter((False, True)).__next__  # one part only
            work.run()
        assert one.query("SELECT count(*) FROM gapless.reorgs") == [(1,)]
        includer(one).run()
        events = one.rows()["coins.Transfer"]
        assert rows_of(one, TRANSACTIONS) == expected(w3, events, transaction=False, receipt=True)
        follower.close()


def test_what_no_node_knows_of_history_holds_the_head_up_in_nothing(
    shared_history, migrated_url, tmp_path, monkeypatch
):
    from indexer.chain.records.errors import LaggingError, ProviderError
    from indexer.sync.history import transactions as include

    text = chain_text(shared_history) + coins(shared_history, "gold", more='include = ["receipt"]')
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        events = one.rows()["coins.Transfer"]
        border = sorted(row[1] for row in events)[len(events) // 2]
        real = one.client.transaction_details

        def pruned(wanted):
            if any(each.number < border for each in wanted):
                raise LaggingError("it does not have the block", host="https://full.example/***")
            return real(wanted)

        monkeypatch.setattr(include, "MOST_BLOCKS", 1)
        monkeypatch.setattr(one.client, "transaction_details", pruned)
        with pytest.raises(ProviderError):
            includer(one).run()
        kept = [row for row in events if row[1] >= border]
        assert rows_of(one, TRANSACTIONS) == expected(shared_history.world.w3, kept, transaction=False, receipt=True)


def test_a_long_history_is_not_read_from_end_to_end_for_every_part_of_it(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history)
    text += coins(shared_history, "gold", events='"Transfer", "Approval"', more='include = ["receipt"]')
    blocks = 20_000
    with rig(text, tmp_path, url_of(shared_history), migrated_url) as one:
        with one.engine.begin() as connection:
            for table in ("transfer", "approval"):
                connection.exec_driver_sql(f"""
                    INSERT INTO coins.{table}
                    SELECT 31337, n, to_timestamp(n), decode(lpad(to_hex(n), 64, '0'), 'hex'), 0, {len(table) - 7},
                           decode(repeat('11', 20), 'hex'), decode(repeat('22', 20), 'hex'),
                           decode(repeat('33', 20), 'hex'), n
                    FROM generate_series(1, {blocks}) n
                """)
            connection.exec_driver_sql(f"""
                INSERT INTO gapless.blocks (chain_id, number, hash, time)
                SELECT 31337, n, decode(lpad(to_hex(n), 64, '0'), 'hex'), to_timestamp(n)
                FROM generate_series(1, {blocks}) n
            """)
            connection.exec_driver_sql(f"UPDATE gapless.sources SET coverage = '{{[1,{blocks + 1})}}'")
        with one.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
        with one.engine.connect() as connection:
            before = rows_read(connection)
            task = included.next_task(connection, one.chain.chain_id, 200)
            connection.rollback()
            assert rows_read(connection) - before < 3_000
        assert task is not None
        assert task.block_range == (blocks - 199, blocks)
        assert [bearer.number for bearer in task.incomplete] == list(range(blocks - 199, blocks + 1))


def rows_read(connection) -> int:
    """Of event tables and their indexes, by all that was asked so far."""
    connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    connection.rollback()
    tables = "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'coins'"
    indexes = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'coins'"
    return int(connection.exec_driver_sql(f"SELECT ({tables}) + ({indexes})").scalar_one())
