"""A factory's children follow from the rows of the announcing events, in any order of writes and changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from indexer.cli.context import prepare
from indexer.store.apply import drop
from indexer.sync import audit as auditing
from indexer.sync.audit.repair import Repair
from indexer.sync.history.backfill import Selection
from tests.integration.sync.rig import Rig, rig
from tests.integration.sync.test_factories import SPEAKER, Stage, argument, event

ABIS = {
    "first": [event("Made", argument("child", "address"), argument("other", "address"))],
    "second": [event("Built", argument("key", "tuple", [argument("pool", "address"), argument("fee", "uint24")]))],
    "child": [event("Spoke", argument("number", "uint256"))],
}
MADE, BUILT, SPOKE = "Made(address,address)", "Built((address,uint24))", "Spoke(uint256)"
FIRST, SECOND = (bytes([number]) * 20 for number in (0xA1, 0xA2))
ONE, TWO, THREE, FOUR = (bytes([0xC0 + number]) * 20 for number in range(4))
NOBODY = bytes(20)

START = """
[chains.local]
id = {chain_id}
rpc = ["${{RPC_URL}}"]
finality = 8

[contracts.first]
abi = "first.json"
address = "0x{first}"

[contracts.second]
abi = "second.json"
address = "0x{second}"
"""
RULES = {
    "child": '{ contract = "first", event = "Made", argument = "child" }',
    "other": '{ contract = "first", event = "Made", argument = "other" }',
    "pool": '{ contract = "second", event = "Built", argument = "key.pool" }',
}


def child(*rules: str) -> str:
    """A contract with some rules, of one event each."""
    return f"\n[contracts.child]\nabi = 'child.json'\nfactory = [{', '.join(RULES[rule] for rule in rules)}]\n"


class Story:
    """What was said on a chain, and what follows from it for any rules."""

    def __init__(self, anvil, tmp_path) -> None:
        self.stage = Stage(anvil)
        for address in (FIRST, SECOND, ONE, TWO, THREE, FOUR):
            anvil.rpc("anvil_setCode", "0x" + address.hex(), SPEAKER)
        for name, abi in ABIS.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(abi))
        self.start = START.format(chain_id=anvil.w3.eth.chain_id, first=FIRST.hex(), second=SECOND.hex())
        self.url = anvil.url
        self.tmp_path = tmp_path
        self.anvil = anvil
        self.said: list[tuple[int, bytes, str, Any]] = []

    def block(self, *sayings: tuple[bytes, str, Any]) -> int:
        number = self.stage.block(*sayings)
        self.said += [(number, *saying) for saying in sayings]
        return number

    def made(self, one: bytes, other: bytes = NOBODY) -> tuple[bytes, str, Any]:
        return FIRST, "Made(address,address)", (one, other)

    def built(self, one: bytes) -> tuple[bytes, str, Any]:
        return SECOND, BUILT, (one, 3)

    def spoke(self, one: bytes, number: int) -> tuple[bytes, str, Any]:
        return one, SPOKE, number

    def forget(self, above: int) -> None:
        """The branch above a block is gone."""
        self.said = [one for one in self.said if one[0] <= above]

    def truth(self, rules: Sequence[str]) -> tuple[dict[bytes, int], list[tuple[int, bytes, int]]]:
        found: dict[bytes, int] = {}
        for number, emitter, signature, value in self.said:
            announced = []
            if (emitter, signature) == (FIRST, MADE):
                announced = [value[position] for position, rule in enumerate(("child", "other")) if rule in rules]
            elif (emitter, signature) == (SECOND, BUILT) and "pool" in rules:
                announced = [value[0]]
            for address in announced:
                found[address] = min(number, found.get(address, number))
        rows = [
            (number, emitter, value)
            for number, emitter, signature, value in self.said
            if signature == SPOKE and emitter in found and number >= found[emitter]
        ]
        return found, rows

    def check(self, one: Rig, rules: Sequence[str]) -> None:
        """Everything is covered and as it was said, and an audit agrees."""
        assert one.is_complete()
        found, rows = self.truth(rules)
        assert dict(one.query("SELECT address, block_number FROM gapless.children")) == found
        assert [(row[1], row[6], int(row[7])) for row in one.rows()["child.Spoke"]] == rows
        report = auditing.audit(one.engine, one.chain.chain_id, one.chain.name, auditing.Request(), client=one.client)
        assert report.findings == []

    def rig(self, text: str, database_url: str) -> Any:
        return rig(self.start + text, self.tmp_path, self.url, database_url)

    def apply(self, one: Rig, text: str) -> None:
        one.apply(self.start + text, self.tmp_path, self.url)


@pytest.fixture
def story(anvil, tmp_path) -> Story:
    return Story(anvil, tmp_path)


def tell(story: Story) -> None:
    """Children of all three rules, some of them announced more than once, the earliest by another rule each time."""
    story.anvil.mine(2)
    story.block(story.spoke(ONE, 1), story.built(TWO))
    story.block(story.spoke(TWO, 2), story.built(ONE), story.spoke(ONE, 3))
    story.block(story.made(ONE, THREE), story.spoke(THREE, 4))
    story.anvil.mine(3)
    story.block(story.made(THREE, TWO), story.built(THREE), story.spoke(ONE, 5), story.spoke(TWO, 6))
    story.block(story.made(TWO, ONE), story.made(TWO), story.spoke(TWO, 7))
    story.anvil.mine(20)
    story.block(story.spoke(ONE, 8), story.spoke(TWO, 9), story.spoke(THREE, 10), story.made(ONE, TWO))


EVERY = ("child", "other", "pool")
ORDERS = [("child", "pool"), ("pool", "child"), ("other", "child"), EVERY]


@pytest.mark.promise("R-11")
@pytest.mark.parametrize("rules", ORDERS, ids="-".join)
@pytest.mark.parametrize("late", [False, True], ids=["with_its_factory", "after_it"])
def test_a_child_is_discovered_by_the_earliest_of_all_rules(story, migrated_url, rules, late):
    tell(story)
    with story.rig("" if late else child(*rules), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        if late:
            story.apply(one, child(*rules))
            one.catch_up(follower)
        story.check(one, rules)
        story.block(story.made(NOBODY, THREE), story.built(TWO), story.spoke(THREE, 11))
        one.catch_up(follower)
        story.check(one, rules)
        follower.close()


def test_rules_that_are_taken_out_and_put_back(story, migrated_url):
    tell(story)
    with story.rig(child("child", "pool"), migrated_url) as one:
        follower = one.follower()
        for rules in (("child", "pool"), ("child",), ("child", "pool"), ("other",), ("pool", "child")):
            story.apply(one, child(*rules))
            one.catch_up(follower)
            story.check(one, rules)
            story.block(story.made(ONE, TWO), story.spoke(ONE, 20), story.spoke(TWO, 21))
        story.apply(one, "")
        one.catch_up(follower)
        story.block(story.built(THREE), story.spoke(THREE, 22), story.spoke(TWO, 23))
        story.anvil.mine(12)
        one.catch_up(follower)
        story.apply(one, child("pool", "child"))
        one.catch_up(follower)
        story.check(one, ("pool", "child"))
        follower.close()


def test_rules_that_come_back_at_once_cost_nothing(story, migrated_url):
    tell(story)
    with story.rig(child("child"), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        story.apply(one, child("pool"))
        assert one.backfill().plan().gaps != []
        assert dict(one.query("SELECT address, block_number FROM gapless.children")) == story.truth(("pool",))[0]
        story.apply(one, child("child"))
        assert one.backfill().plan().gaps == [], "what is covered by these rules was right and stays so"
        one.catch_up(follower)
        story.check(one, ("child",))
        follower.close()


@pytest.mark.promise("H-10")
@pytest.mark.parametrize("again", ["below_the_common_block", "above_it", "never"])
def test_a_reorganisation_that_removes_the_earliest_announcement(story, migrated_url, again):
    tell(story)
    rules = ("child", "pool")
    with story.rig(child(*rules), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        if again == "below_the_common_block":
            story.block(story.built(FOUR))
        common = story.anvil.mine(1)
        snapshot = story.anvil.rpc("evm_snapshot")
        story.block(story.made(FOUR), story.spoke(FOUR, 30))
        story.block(story.built(FOUR), story.spoke(FOUR, 31))
        one.catch_up(follower)
        story.check(one, rules)
        story.anvil.rpc("evm_revert", snapshot)
        story.forget(common)
        story.block(story.spoke(FOUR, 32))
        if again == "above_it":
            story.block(story.built(FOUR), story.spoke(FOUR, 33))
        story.block(story.spoke(FOUR, 34))
        story.anvil.mine(2)
        one.catch_up(follower)
        assert one.query("SELECT count(*) FROM gapless.reorgs") == [(1,)]
        story.check(one, rules)
        follower.close()


def test_a_repair_that_takes_an_announcement_away_takes_the_child_with_it(story, migrated_url):
    tell(story)
    with story.rig(child("pool"), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        with one.engine.begin() as connection:
            # As if a node had made up an announcement, and so a child: its logs are there from the beginning.
            for statement in (
                "INSERT INTO second.built SELECT chain_id, 1, block_time, tx_hash, tx_index, 7, contract_address, "
                "jsonb_build_object('pool', '0x' || encode(%s, 'hex'), 'fee', 3) FROM second.built LIMIT 1",
                "UPDATE gapless.children SET block_number = 1, log_index = 7 WHERE address = %s",
            ):
                connection.exec_driver_sql(statement, (ONE,))
        Repair(one.engine, one.client, one.chain.chain_id, one.chain.name).range("second", 0, 4)
        one.catch_up(follower)
        story.check(one, ("pool",))
        follower.close()


def test_a_repair_that_finds_an_announcement_fills_in_what_the_child_said(story, migrated_url):
    tell(story)
    with story.rig(child("pool"), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        with one.engine.begin() as connection:
            # As if a node had left the announcement out: the child's logs were not looked for.
            for statement in (
                "DELETE FROM second.built WHERE key ->> 'pool' = '0x' || encode(%s, 'hex')",
                "DELETE FROM gapless.children WHERE address = %s",
                "DELETE FROM child.spoke WHERE contract_address = %s",
            ):
                connection.exec_driver_sql(statement, (ONE,))
        finalized = one.query("SELECT finalized_number FROM gapless.chains")[0][0]
        Repair(one.engine, one.client, one.chain.chain_id, one.chain.name).range("second", 0, finalized)
        one.catch_up(follower)
        story.check(one, ("pool",))
        follower.close()


def test_a_factory_whose_filter_is_changed_while_two_write(story, migrated_url):
    """The announcements that are wanted now are others; each of two backfills displaces a part of the old ones."""
    indexed = [argument("child", "address") | {"indexed": True}, argument("other", "address")]
    (story.tmp_path / "first.json").write_text(json.dumps([event("Made", *indexed)]))
    # The first argument is a topic:
    # calldatacopy(0, 64, calldatasize - 64); log2(0, calldatasize - 64, calldataload(0), calldataload(32))
    code = "0x604036036040600037" + "602035600035" + "604036036000a200"
    story.anvil.rpc("anvil_setCode", "0x" + FIRST.hex(), code)
    tell(story)
    told = list(story.said)
    with story.rig(child("child", "other"), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        story.check(one, ("child", "other"))
        narrow = story.start.replace(
            "[contracts.second]", f'filters = {{ Made = {{ child = ["0x{TWO.hex()}"] }} }}\n\n[contracts.second]'
        )
        one.apply(narrow + child("child", "other"), story.tmp_path, story.url)
        # Backwards: the later part is displaced before the earlier one, by another process.
        finalized = one.query("SELECT finalized_number FROM gapless.chains")[0][0]
        for part in ((7, finalized), (0, 6)):
            one.backfill(selection=Selection("first", None, part)).run()
        one.catch_up(follower)
        story.said = [s for s in told if s[2] != MADE or s[3][0] == TWO]
        story.check(one, ("child", "other"))
        follower.close()


def test_an_event_that_is_dropped_takes_its_children_with_it(story, migrated_url):
    tell(story)
    with story.rig(child("child", "pool"), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        first, second = (story.start.index(f"[contracts.{name}]") for name in ("first", "second"))
        text = story.start[:first] + story.start[second:]
        one.apply(text + child("pool"), story.tmp_path, story.url)
        with one.engine.connect() as connection:
            (found,) = drop.find(connection, "first")
        drop.drop(one.engine, found)
        one.catch_up(follower)
        story.check(one, ("pool",))
        story.apply(one, child("pool", "child"))
        one.catch_up(follower)
        story.check(one, ("pool", "child"))
        follower.close()


def test_an_announcement_whose_row_postgres_refuses_is_one(story, migrated_url):
    """The row is kept raw, and what it announces is a child: also for a rule that is declared later."""
    tell(story)
    with story.rig("", migrated_url) as one:
        with one.engine.begin() as connection:
            # A column that takes no row of ONE.
            connection.exec_driver_sql(
                "CREATE FUNCTION gapless.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "IF NEW.key ->> 'pool' = '0x" + ONE.hex() + "' THEN RAISE EXCEPTION USING ERRCODE = '22000'; END IF; "
                "RETURN NEW; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE INSERT ON second.built FOR EACH ROW EXECUTE FUNCTION gapless.refuse()"
            )
        follower = one.follower()
        one.catch_up(follower)
        assert one.query("SELECT count(*), min(announced ->> 'key.pool') FROM gapless.undecoded_logs") == [
            (1, "0x" + ONE.hex())
        ]
        story.apply(one, child("pool"))
        one.catch_up(follower)
        assert one.query("SELECT count(*) FROM gapless.children WHERE address = %s", ONE) == [(1,)]
        found, rows = story.truth(("pool",))
        assert [(row[1], row[6], int(row[7])) for row in one.rows()["child.Spoke"]] == rows
        assert dict(one.query("SELECT address, block_number FROM gapless.children")) == found
        follower.close()


def test_a_component_that_is_renamed_keeps_its_name_in_the_table_and_the_rule_reads_it(story, migrated_url):
    tell(story)
    with story.rig(child("pool"), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        (story.tmp_path / "second.json").write_text(
            json.dumps(
                [event("Built", argument("id", "tuple", [argument("vault", "address"), argument("fee", "uint24")]))]
            )
        )
        renamed = child("pool").replace('"key.pool"', '"id.vault"')
        story.apply(one, renamed)
        assert one.is_complete(), "nothing is fetched anew"
        story.block(story.built(FOUR), story.spoke(FOUR, 40))
        one.catch_up(follower)
        story.check(one, ("pool",))
        assert one.query("SELECT DISTINCT jsonb_object_keys(key) FROM second.built ORDER BY 1") == [("fee",), ("pool",)]
        # And for a rule that is declared only now.
        story.apply(one, "")
        one.catch_up(follower)
        story.apply(one, renamed)
        one.catch_up(follower)
        story.check(one, ("pool",))
        follower.close()


def test_nothing_is_read_of_children_while_nothing_is_missing(story, migrated_url):
    tell(story)
    with story.rig(child(*EVERY), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        before = _reads(one)
        for _ in range(3):
            one.backfill().run()
            follower.tick()
            assert prepare(one.engine, one.manifest) == []
        assert _reads(one) == before
        follower.close()


def _reads(one: Rig) -> Any:
    one.query("SELECT pg_stat_clear_snapshot()")
    with one.engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    return one.query(
        "SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0) FROM pg_stat_user_tables WHERE relname = 'children'"
    )
