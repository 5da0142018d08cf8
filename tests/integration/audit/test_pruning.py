"""Old rows go in bounded steps, with all that is said of their blocks; what was counted from them is refused."""

from __future__ import annotations

import re

import pytest

from api.app import create_app
from api.context import create_context
from api.settings import ApiSettings
from indexer.cli.context import prepare
from indexer.demo.world import manifest_text
from indexer.store.apply import prune
from indexer.store.catalog import catalog
from indexer.store.database import DatabaseError
from indexer.sync.audit import table_checks
from tests.integration.api.conftest import Client
from tests.integration.audit.conftest import execute, node_url, run
from tests.integration.sync.rig import write_manifest

BEFORE = 150
MOST = 4
OLD = "FROM gapless.{} WHERE block_number < %s AND event_id = ANY(%s)"


class KilledError(Exception):
    """In place of a kill within a step."""


def found(one, name: str, before: int = BEFORE, chain: str | None = None) -> list[prune.Prunable]:
    with one.engine.connect() as connection:
        return prune.find(connection, name, chain, before)


def manifest_from(one, history, tmp_path, block: int, *contracts: str, left_out: str = "") -> None:
    """Applies a manifest that wants some contracts from a block on, and others not at all."""
    sections = re.split(r"(?m)^(?=\[)", manifest_text(history.world))
    wanted = {f"[contracts.{name}]" for name in contracts}
    starting = re.compile(r"start_block = \d+")
    sections = [
        starting.sub(f"start_block = {block}", text) if text.split("\n")[0] in wanted else text for text in sections
    ]
    text = "".join(text for text in sections if text.split("\n")[0] != f"[contracts.{left_out}]")
    one.manifest = write_manifest(text, tmp_path, node_url(history))
    prepare(one.engine, one.manifest)


def since(rows: dict[str, list[tuple]], block: int, *labels: str) -> dict[str, list[tuple]]:
    """The rows that a prune of some events leaves."""
    return {
        label: [row for row in these if row[1] >= block] if label.startswith(labels) else these
        for label, these in rows.items()
    }


@pytest.mark.promise("R-17")
def test_old_rows_go_with_all_that_is_said_of_their_blocks(indexed, shared_history, tmp_path, monkeypatch):
    labels = ("zoo.", "coins.Approval")
    with indexed.engine.connect() as connection:
        ids = [i for i, event in catalog.load_events(connection).items() if event.label.startswith(labels)]
    execute(
        indexed,
        "INSERT INTO gapless.foreign_shapes (event_id, chain_id, block_number, topics, addresses) "
        "SELECT %s, %s, n, 4, ARRAY[decode(repeat('ab', 20), 'hex')] FROM generate_series(1, 30) n",
        *(ids[-1], indexed.chain.chain_id),
    )
    execute(indexed, "DELETE FROM gapless.digests")
    table_checks.take_digests(indexed.engine, indexed.chain.chain_id)
    before = indexed.rows()
    manifest_from(indexed, shared_history, tmp_path, BEFORE, "zoo", "coins")
    assert indexed.query("SELECT count(*) > 20 " + OLD.format("undecoded_logs"), BEFORE, ids) == [(True,)]

    monkeypatch.setattr(prune, "ROWS", MOST)
    real, steps, most = prune._step, iter(range(1, 1000)), []

    def step(connection, given, first):
        done = real(connection, given, first)
        most.append(done[1])
        if next(steps) == 12:
            raise KilledError
        return done

    monkeypatch.setattr(prune, "_step", step)

    def prune_all() -> None:
        for one in [*found(indexed, "zoo"), *found(indexed, "coins.Approval")]:
            prune.prune(indexed.engine, one)

    with pytest.raises(KilledError):
        prune_all()
    half = indexed.rows()
    assert since(before, BEFORE, *labels) != half != before
    assert run(indexed).findings == [], "what a killed prune leaves is whole"
    prune_all()
    after = indexed.rows()
    assert after == since(before, BEFORE, *labels)
    assert max(most) <= MOST
    assert len(most) > 50
    for table in ("undecoded_logs", "foreign_shapes"):
        assert indexed.query("SELECT count(*) " + OLD.format(table), BEFORE, ids) == [(0,)]
    assert indexed.query(
        "SELECT count(*) FROM gapless.sources WHERE event_id = ANY(%s) "
        "AND (coverage && int8multirange(int8range(0, %s)) OR verified && int8multirange(int8range(0, %s)))",
        *(ids, BEFORE, BEFORE),
    ) == [(0,)]  # fmt: skip

    report = run(indexed)
    assert report.findings == []
    assert report.digest.without == 0
    filled = indexed.backfill().run()
    follower = indexed.follower()
    indexed.catch_up(follower)
    follower.close()
    assert not filled.blocks, "nothing is fetched again"
    assert indexed.rows() == after
    # A row that was changed afterwards is noticed: the digests of what is left are true ones.
    execute(indexed, "UPDATE zoo.unsigned SET tx_index = tx_index + 1 WHERE block_number < 200")
    assert {finding.kind for finding in run(indexed).findings} == {"digest"}


def test_the_manifest_may_want_them_again(indexed, shared_history, tmp_path):
    before = indexed.rows()
    manifest_from(indexed, shared_history, tmp_path, BEFORE, "zoo")
    (one,) = found(indexed, "zoo.Texts")
    assert prune.prune(indexed.engine, one) == sum(row[1] < BEFORE for row in before["zoo.Texts"]) > 0
    manifest_from(indexed, shared_history, tmp_path, 1, "zoo")
    follower = indexed.follower()
    indexed.catch_up(follower)
    follower.close()
    assert indexed.rows() == before
    assert run(indexed).findings == []


def test_the_api_says_what_is_not_there(indexed, shared_history, tmp_path):
    manifest_from(indexed, shared_history, tmp_path, BEFORE, left_out="zoo")
    (one,) = found(indexed, "zoo.Texts")
    url = indexed.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    context = create_context(ApiSettings(api_unindexed_window=100), url, None)
    try:
        api = Client(create_app(context))
        asked = "/v1/contracts/zoo/events/Texts?from_block=1&order=asc"
        assert api.get(asked)["meta"]["complete"]
        prune.prune(indexed.engine, one)
        answer = api.get(asked)
        assert [answer["meta"][name] for name in ("complete", "missing")] == [False, [[1, BEFORE - 1]]]
        assert min(row["block_number"] for row in answer["data"]) >= BEFORE
    finally:
        context.close()


def test_of_several_chains_one_is_named_and_the_rows_of_the_others_stay(indexed, shared_history, tmp_path):
    manifest_from(indexed, shared_history, tmp_path, BEFORE, "zoo")
    other = indexed.chain.chain_id + 1
    execute(indexed, "INSERT INTO gapless.chains (chain_id, name) VALUES (%s, 'moon')", other)
    execute(
        indexed,
        "INSERT INTO gapless.sources (chain_id, event_id, place, start_block, active) "
        "SELECT %s, s.event_id, s.place, s.start_block, true FROM gapless.sources s "
        "JOIN gapless.events e ON e.id = s.event_id WHERE e.table_name = 'texts'",
        other,
    )
    columns = "block_number, block_time, tx_hash, tx_index, log_index, contract_address"
    texts = [name for (name,) in indexed.query(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'zoo.texts'::regclass AND attnum > 7 ORDER BY attnum"
    )]  # fmt: skip
    columns = ", ".join((columns, *texts))
    execute(indexed, f"INSERT INTO zoo.texts (chain_id, {columns}) SELECT %s, {columns} FROM zoo.texts", other)
    count = "SELECT count(*) FILTER (WHERE block_number < %s), count(*) FROM zoo.texts WHERE chain_id = %s"
    ((old, every),) = indexed.query(count, BEFORE, other)
    assert 0 < old < every
    with pytest.raises(DatabaseError, match=r"zoo\.Texts is indexed on .*moon") as error:
        found(indexed, "zoo.Texts")
    assert "say which with --chain" in str(error.value.hint)
    (one,) = found(indexed, "zoo.Texts", chain=indexed.chain.name)
    assert prune.prune(indexed.engine, one) == old
    assert indexed.query(count, BEFORE, indexed.chain.chain_id) == [(0, every - old)]
    assert indexed.query(count, BEFORE, other) == [(old, every)]


def test_what_must_not_go_is_refused(indexed, shared_history, tmp_path):
    def refused(name: str, before: int = BEFORE, chain: str | None = None) -> tuple[str, str]:
        with pytest.raises(DatabaseError) as error:
            found(indexed, name, before, chain)
        return str(error.value), str(error.value.hint)

    def is_refused(name: str, said: str, **arguments) -> None:
        error, hint = refused(name, **arguments)
        assert said in error
        assert hint

    rows = indexed.rows()
    is_refused("zoo", "the manifest wants it from block 1 on, so it would be fetched again")
    is_refused("nothing", "no contract or event nothing")
    is_refused("zoo.Nobody", "no contract or event zoo.Nobody")
    is_refused("zoo", "is indexed on demo, not on moon", chain="moon")
    manifest_from(indexed, shared_history, tmp_path, 260, "zoo", "coins", "exchange", "pair")
    is_refused("zoo", "can still be reorganised (the newest final one: 237)", before=250)
    is_refused("exchange", "announces the children of a factory")
    is_refused("coins", "the balances of coins follow from the rows that would go")
    assert "counted anew from start_block on" in refused("coins.Transfer")[1]
    (event,) = (one.event.event_id for one in found(indexed, "zoo.Texts"))
    execute(
        indexed,
        "INSERT INTO gapless.derived (name, kind, generation, definition, columns, key, lookup_ids) "
        "VALUES ('texts', 'rows', 1, '{}', '[]', '{}', ARRAY[%s])",
        event,
    )
    is_refused("zoo", "the rows of the derived table texts follow")
    execute(indexed, "DELETE FROM gapless.derived")
    execute(
        indexed,
        "INSERT INTO gapless.programs (name, chain_id, code_hash, event_ids, tables, start_block, through_block, live, "
        "served) VALUES ('reader', %s, '', ARRAY[%s], '[]', 1, 1, true, true)",
        *(indexed.chain.chain_id, event),
    )
    is_refused("zoo", "the rows of the program reader follow")
    execute(indexed, "UPDATE gapless.programs SET live = false")
    assert found(indexed, "zoo"), "one that is ended reads them no more"
    assert indexed.rows() == rows, "nothing of a contract is pruned where an event of it must not be"
