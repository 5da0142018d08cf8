"""Edits of a manifest, one applied after the other: each is planned, or refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from indexer.errors import ProblemsError
from indexer.manifest import load_manifest
from indexer.store.apply import drop
from indexer.store.apply.apply import apply, compare
from indexer.store.catalog.declaration import Declaration, summary
from indexer.store.database import DatabaseError, create_engine
from indexer.sync.setup.declaration import declaration

GOLD, SILVER, MILL = ("0x" + digit * 40 for digit in "123")


def event(name: str, *inputs: str) -> dict[str, Any]:
    """``event("Built", "pool address indexed")``."""
    split = [one.split() for one in inputs]
    return {
        "type": "event",
        "name": name,
        "anonymous": False,
        "inputs": [{"name": n, "type": t, "indexed": bool(more)} for n, t, *more in split],
    }


TRANSFER = event("Transfer", "from address indexed", "to address indexed", "value uint256")
APPROVAL = event("Approval", "owner address indexed", "spender address indexed", "value uint256")
SUPPLY = {
    "type": "function",
    "name": "totalSupply",
    "inputs": [],
    "outputs": [{"name": "", "type": "uint256"}],
    "stateMutability": "view",
}
ABIS: Mapping[str, list[Any]] = {
    "token": [TRANSFER, APPROVAL, SUPPLY],
    "renamed": [event("Transfer", "src address indexed", "dst address indexed", "wad uint256"), APPROVAL, SUPPLY],
    "otherwise": [event("Transfer", "from address", "to address", "value uint256"), APPROVAL, SUPPLY],
    "mill": [event("Built", "pool address", "kind uint8")],
    "mill_renamed": [event("Built", "well address", "kind uint8")],
    "mill_turned": [event("Built", "kind address", "pool uint8")],
    "two_rules": [event("Built", "pool address", "kind uint8"), event("Opened", "pool address")],
}


@dataclass
class Place:
    """A database, and a folder with the manifest and its ABIs."""

    engine: Engine
    folder: Path
    applied: list[str] = field(default_factory=list)

    def declaration(self, text: str) -> Declaration:
        path = self.folder / "indexer.toml"
        path.write_text(text)
        return declaration(load_manifest(path, {"RPC_URL": "http://127.0.0.1:9"}))

    def apply(self, text: str) -> list[str]:
        wanted = self.declaration(text)
        shown = compare(self.engine, wanted).changes
        done = apply(self.engine, wanted, patience=5)
        assert done == shown, "what was shown is not what was done"
        assert not compare(self.engine, wanted), "what was applied is applied"
        return summary(done)

    def query(self, text: str) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            result = connection.exec_driver_sql(text)
            return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def place(migrated_url: str, tmp_path: Path) -> Iterator[Place]:
    for name, document in ABIS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    engine = create_engine(migrated_url)
    yield Place(engine, tmp_path)
    engine.dispose()


def chain(name: str = "main", number: int = 1) -> str:
    return f'[chains.{name}]\nid = {number}\nrpc = ["${{RPC_URL}}"]\n'


def contract(name: str = "usdc", abi: str = "token", where: str = f'address = "{GOLD}"', **more: str) -> str:
    lines = [f'abi = "{abi}.json"', where, *(f"{key} = {value}" for key, value in {"start_block": "1", **more}.items())]
    return f"[contracts.{name}]\n" + "\n".join(lines) + "\n"


def factory(argument: str, of: str = "mill", announced: str = "Built") -> str:
    return f'{{ contract = "{of}", event = "{announced}", argument = "{argument}" }}'


def mill(argument: str = "pool", abi: str = "mill") -> str:
    return contract("mill", abi, f'address = "{MILL}"') + contract("pool", where=f"factory = {factory(argument)}")


def filters(*values: str) -> dict[str, str]:
    return {"filters": f"{{ Transfer = {{ to = [{', '.join(repr(one) for one in values)}] }} }}"}


COVERED = "UPDATE gapless.sources SET coverage = '{[1,100)}'"

PLANNED = [
    pytest.param(
        chain() + mill(), chain() + mill("well", "mill_renamed"), ["~ contract mill: "], True, id="announcing argument"
    ),
    pytest.param(
        chain("a", 1) + chain("b", 2) + contract(chain='"a"'),
        chain("b", 1) + chain("a", 2) + contract(chain='"b"'),
        ["~ chain b: was called a", "~ chain a: was called b"],
        True,
        id="two chains swap their names",
    ),
    pytest.param(
        chain("a", 1) + contract(),
        chain("a", 5) + contract(),
        ["- chain a: its data stays", "~ chain a: its name is another chain's now", "+ chain a: id 5"],
        False,
        id="a chain's name is used for another",
    ),
    pytest.param(
        chain("a") + contract(), chain("b") + contract(), ["~ chain b: was called a"], True, id="chain renamed"
    ),
    pytest.param(
        chain() + contract(**filters(GOLD, SILVER)), chain() + contract(**filters(SILVER, GOLD)), [], True, id="values"
    ),
    pytest.param(
        chain() + contract(filters=f"{{ Transfer = [{{ to = '{GOLD}' }}, {{ from = '{GOLD}' }}] }}"),
        chain() + contract(filters=f"{{ Transfer = [{{ from = '{GOLD}' }}, {{ to = '{GOLD}' }}] }}"),
        [],
        True,
        id="alternatives",
    ),
    pytest.param(
        chain() + contract(where=f'address = ["{GOLD}", "{SILVER}"]'),
        chain() + contract(where=f'address = ["{SILVER}", "{GOLD}"]'),
        [],
        True,
        id="addresses",
    ),
    pytest.param(
        chain()
        + contract("mill", "two_rules", f'address = "{MILL}"')
        + contract("pool", where=f"factory = [{factory('pool')}, {factory('pool', announced='Opened')}]"),
        chain()
        + contract("mill", "two_rules", f'address = "{MILL}"')
        + contract("pool", where=f"factory = [{factory('pool', announced='Opened')}, {factory('pool')}]"),
        [],
        True,
        id="rules",
    ),
    pytest.param(
        chain() + contract(), chain() + contract(abi="renamed"), ["~ contract usdc: "], True, id="arguments renamed"
    ),
    pytest.param(
        chain() + contract() + contract("other"),
        chain() + contract("other"),
        ["- contract usdc: its data stays"],
        True,
        id="taken out",
    ),
    pytest.param(
        chain() + contract() + contract("other"), chain() + contract("other") + contract(), [], True, id="order"
    ),
]


@pytest.mark.parametrize(("before", "after", "lines", "keeps"), PLANNED)
def test_an_edit_is_planned(place: Place, before: str, after: str, lines: list[str], keeps: bool) -> None:
    place.apply(before)
    place.query(COVERED)
    said = place.apply(after)
    assert len(said) >= len(lines)
    for line in lines:
        assert any(one.startswith(line) for one in said), said
    if not lines:
        assert said == []
    lost = place.query("SELECT count(*) FROM gapless.sources WHERE coverage = '{}'")
    assert (lost == [(0,)]) == keeps, "history that is there is fetched again" if keeps else "nothing is new"


REFUSED = [
    pytest.param(chain() + contract(), chain() + contract("USDC"), "would have the schema usdc", id="letters' case"),
    pytest.param(
        chain() + contract("other"), chain() + contract("vault"), "a schema vault.* did not make", id="another's schema"
    ),
    pytest.param(
        chain() + contract(), chain() + contract(abi="otherwise"), "other indexed arguments", id="another layout"
    ),
    pytest.param(
        chain() + contract(events='["Transfer"]'),
        chain() + contract(),
        "a table usdc.approval, and there is one already",
        id="another's table",
    ),
    pytest.param(
        chain() + contract(events='["Transfer"]'),
        chain() + contract(events='["Transfer"]') + '[snapshots.mine]\ncontract = "usdc"\ncalls = ["totalSupply()"]\n'
        'every = "10 blocks"\n',
        "a table usdc.mine, and there is one already",
        id="another's table, for a snapshot",
    ),
]


@pytest.mark.parametrize(("before", "after", "why"), REFUSED)
def test_an_edit_is_refused_with_a_sentence(place: Place, before: str, after: str, why: str) -> None:
    place.apply(before)
    place.query("CREATE SCHEMA vault; CREATE TABLE vault.secrets (id integer)")
    if "usdc" in before:
        place.query("CREATE TABLE IF NOT EXISTS usdc.approval (id integer); CREATE VIEW usdc.mine AS SELECT 1 AS one")
    stood = place.query("SELECT version FROM gapless.catalog")
    wanted = place.declaration(after)
    for attempt in (compare, apply):
        with pytest.raises(DatabaseError, match=why) as refused:
            attempt(place.engine, wanted)
        assert refused.value.hint
    assert place.query("SELECT version FROM gapless.catalog") == stood
    assert place.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'vault'") == [(1,)]


def test_balances_that_are_wanted_again_go_on_where_they_were(place: Place) -> None:
    kept = chain() + contract() + '[balances]\ncontracts = ["usdc"]\n'
    place.apply(kept)
    place.query("UPDATE gapless.ledgers SET through_block = 50")
    assert place.apply(chain() + contract()) == ["- balances usdc: its data stays"]
    assert place.apply(kept) == ["+ balances usdc: on from block 51"]
    assert place.query("SELECT live, served, through_block FROM gapless.ledgers") == [(True, True, 50)]
    # What rows it has counted were replaced meanwhile: it begins anew.
    place.apply(chain() + contract())
    place.query("UPDATE gapless.ledgers SET remark = 'no longer kept, and rows that it counted were replaced'")
    assert place.apply(kept) == ["+ balances usdc: from block 1"]


@pytest.mark.promise("M-04")
def test_an_apply_that_changes_nothing_writes_nothing(place: Place) -> None:
    place.apply(chain() + contract())
    before = place.query("SELECT xmin::text FROM gapless.events UNION ALL SELECT xmin::text FROM gapless.sources")
    assert place.apply(chain() + contract()) == []
    now = place.query("SELECT xmin::text FROM gapless.events UNION ALL SELECT xmin::text FROM gapless.sources")
    assert now == before


@pytest.mark.promise("M-04")
def test_what_a_killed_apply_has_created_is_gone_on_with(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexer.store.apply import apply as module

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    wanted = place.declaration(chain() + contract() + contract("other"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            apply(place.engine, wanted)
    assert place.query("SELECT count(*) FROM gapless.sources") == [(0,)]
    assert place.query("SELECT count(*) FROM gapless.events WHERE active") == [(0,)]
    assert place.apply(chain() + contract())[0].startswith("+ chain main")
    assert place.query("SELECT count(*) FROM gapless.events WHERE active") == [(2,)]


def random_manifest(random: Random) -> str:
    """A manifest of a few chains and contracts, that has much in common with the one before."""
    numbers = random.sample([1, 2, 3], random.randint(1, 2))
    names = random.sample(["a", "b", "c"], len(numbers))
    text = "".join(chain(name, number) for name, number in zip(names, numbers, strict=True))
    where = [
        f'address = "{GOLD}"',
        f'address = ["{SILVER}", "{GOLD}"]',
        f'address = "{SILVER}"',
        'address = "any"',
    ]
    chances = {"usdc": 0.6, "vault": 0.5, "dai": 0.5, "USDC": 0.05}
    tokens = [name for name, chance in chances.items() if random.random() < chance]
    for name in tokens:
        more = {"chain": f'"{random.choice(names)}"', "start_block": str(random.choice([1, 5]))}
        if random.random() < 0.3:
            more["events"] = random.choice(['["Transfer"]', '["Approval"]', '["Approval", "Transfer"]'])
        if random.random() < 0.3 and "events" not in more:
            more |= filters(*random.sample([GOLD, SILVER, MILL], random.randint(1, 3)))
        if random.random() < 0.3:
            more["include"] = random.choice(['["block"]', '["transaction", "receipt"]'])
        text += contract(
            name, random.choices(["token", "renamed", "otherwise"], [6, 3, 1])[0], random.choice(where), **more
        )
    if random.random() < 0.5:
        abi = random.choice(["mill", "mill_renamed", "two_rules", "mill_turned"])
        argument = {"mill_renamed": "well", "mill_turned": "kind"}.get(abi, "pool")
        own = {"chain": f'"{names[0]}"'}
        text += contract("mill", abi, f'address = "{MILL}"', **own)
        rules = [factory(argument), *([factory("pool", announced="Opened")] if abi == "two_rules" else [])]
        random.shuffle(rules)
        text += contract("pool", where=f"factory = [{', '.join(rules)}]", **own)
        tokens.append("pool")
    if tokens and random.random() < 0.5:
        kept = ", ".join(f'"{name}"' for name in random.sample(tokens, random.randint(1, len(tokens))))
        text += f"[balances]\ncontracts = [{kept}]\n"
    if tokens and random.random() < 0.4:
        text += f'[snapshots.supply]\ncontract = "{random.choice(tokens)}"\ncalls = ["totalSupply()"]\n'
        text += f'every = "{random.choice([10, 20])} blocks"\n'
    return text


@pytest.mark.promise("M-02")
@pytest.mark.parametrize("seed", range(4))
def test_any_manifest_after_any_other_is_planned_or_refused(place: Place, seed: int) -> None:
    random = Random(seed)
    applied, refusals = 0, list[DatabaseError]()
    for _ in range(30):
        text = random_manifest(random)
        try:
            place.apply(text)
            applied += 1
        except ProblemsError:
            continue
        except DatabaseError as error:
            refusals.append(error)
            continue
        place.query("UPDATE gapless.sources SET coverage = coverage + '{[1,50)}' WHERE active")
        check_places(place)
        if random.random() < 0.2:
            drop_one(place, random)
    assert applied > 5
    assert all(error.hint for error in refusals)
    assert not [error for error in refusals if "contradicts what is in the database" in str(error)], "not foreseen"


def drop_one(place: Place, random: Random) -> None:
    with place.engine.connect() as connection:
        gone = [one for one in drop.retired(connection) if one.kind != "chain"]
    if gone:
        drop.drop(place.engine, random.choice(gone))


def check_places(place: Place) -> None:
    """The wheres of an event's active sources are disjoint."""
    from indexer.store.catalog import catalog

    with place.engine.connect() as connection:
        sources = catalog.load_sources(connection)
        assert connection.execute(sa.text("SELECT count(*) FROM gapless.transfers")).scalar_one() == 0
    for at, one in enumerate(sources):
        for other in sources[:at]:
            if (one.event.event_id, one.chain_id) == (other.event.event_id, other.chain_id):
                assert not one.place.overlaps(other.place)
