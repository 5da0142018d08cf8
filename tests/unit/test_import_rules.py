"""The house (docs/architecture.md) as it is drawn: imports run down, and each folder's page names its modules."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ("indexer", "api")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in HOUSE
    for path in sorted((ROOT / package).rglob("*.py"))
}

# Wing -> what it may import of the wings that carry the house: cli -> service -> sync -> {chain, abi, store}.
ALLOWED = {
    "indexer.chain": set(),
    "indexer.abi": set(),
    "indexer.store": {"indexer.abi"},
    "indexer.manifest": {"indexer.abi"},
    "indexer.sync": {"indexer.chain", "indexer.abi", "indexer.store", "indexer.manifest"},
    "indexer.programs": {"indexer.abi", "indexer.store"},
    "indexer.service.scheduler": {"indexer.sync", "indexer.store", "indexer.manifest"},
    "api": {"indexer.store", "indexer.abi"},
}
ROOMS = set(ALLOWED) | {"indexer.cli", "indexer.demo"}
# Inside a wing: its floors, the ground first. A room imports rooms of lower floors only.
FLOORS: dict[str, list[set[str]]] = {
    "indexer.chain": [
        {"records"},
        {"rpc"},
        {"reads", "proof"},
        {"logs"},
        {"client", "disagreement"},
        {"history"},
        {"portal"},
    ],
    "indexer.store": [
        {"lag"},
        {"database", "cache", "leases"},
        {"schema", "embedded", "call_permits", "credits"},
        {"catalog"},
        {"derived"},
        {"rows", "programs"},
        {"tokens", "integrity", "access"},
        {"head", "export"},
        {"apply"},
        {"status"},
    ],
    "indexer.sync": [{"setup", "rows", "snapshots", "tokens"}, {"head"}, {"history"}, {"audit"}],
}
# The one place where the indexer knows the API, and it does so inside its function.
SERVE = "indexer.cli.run"
# What the API's process must not pay for: web3 alone takes more than a second to import.
HEAVY = {"web3", "multicall", "eth_abi", "eth_utils", "sqlalchemy", "alembic", "indexer.sync", "indexer.chain"}


def imports(module: str, *, top: bool = False) -> Iterator[str]:
    """What a module imports, by full name; ``top``: only what it imports when it is imported itself."""
    tree = ast.parse(FILES[module].read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if top and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{module}: imports are written with their full name"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in FILES else node.module


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_knows_only_the_rooms_below_it(room: str) -> None:
    mine = [module for module in FILES if within(module, room)]
    assert mine, f"there is no {room}"
    wrong = [
        f"{module} imports {name}"
        for module in mine
        for name in imports(module)
        for other in ROOMS - ALLOWED[room] - {room}
        if within(name, other)
    ]
    assert not wrong, f"{room} may import {', '.join(sorted(ALLOWED[room])) or 'none of the rooms'}: {wrong}"


def test_the_indexer_does_not_know_the_api() -> None:
    found = {m for m in FILES if within(m, "indexer") for name in imports(m) if within(name, "api")}
    assert found == {SERVE}
    assert not [name for name in imports(SERVE, top=True) if within(name, "api")]


@pytest.mark.promise("A-11")
def test_the_api_imports_nothing_heavy_by_any_way() -> None:
    came = {module: "" for module in FILES if within(module, "api")}
    todo = list(came)
    while todo:
        module = todo.pop()
        for name in imports(module, top=True):
            assert not any(within(name, heavy) for heavy in HEAVY), f"{trail(module, came)} imports {name}"
            parts = name.split(".")
            for upper in (".".join(parts[: count + 1]) for count in range(len(parts))):
                if upper in FILES and upper not in came:
                    came[upper] = module
                    todo.append(upper)
    assert "indexer.store.catalog.transfer_standards" in came  # the walk leaves the API at all


def trail(module: str, came: dict[str, str]) -> str:
    return module if not came[module] else f"{trail(came[module], came)} -> {module}"


@pytest.mark.parametrize("wing", FLOORS)
def test_inside_a_wing_imports_run_down(wing: str) -> None:
    floor = {room: level for level, rooms in enumerate(FLOORS[wing]) for room in rooms}
    inside = [module for module in FILES if module.startswith(wing + ".")]
    assert {module.removeprefix(wing + ".").split(".")[0] for module in inside} == floor.keys()
    wrong = []
    for module in inside:
        room = module.removeprefix(wing + ".").split(".")[0]
        for name in imports(module):
            other = name.removeprefix(wing + ".").split(".")[0] if name.startswith(wing + ".") else room
            if other != room and floor[other] >= floor[room]:
                wrong.append(f"{module} imports {name}")
    assert not wrong


def test_production_imports_nothing_of_the_embedded_servers() -> None:
    allowed = ("indexer.store.embedded", "indexer.demo", "indexer.cli.run", "indexer.cli.context")
    found = [
        f"{module} imports {name}"
        for module in FILES
        if not any(within(module, room) for room in allowed)
        for name in imports(module)
        if within(name, "indexer.store.embedded")
    ]
    assert not found


def test_each_folders_page_names_its_modules() -> None:
    pages = {module: path for module, path in FILES.items() if path.stem == "__init__"}
    for module, path in pages.items():
        page = ast.get_docstring(ast.parse(path.read_text())) or ""
        named = set(re.findall(r"``([a-z_0-9]+)``", page))
        there = {other.stem for other in path.parent.glob("*.py")} - {"__init__", "__main__"}
        assert there <= named, f"the docstring of {module} does not name {sorted(there - named)}"


# Private words, for which the glossary has others.
WORDS = {
    *("asked", "bearer", "beside", "born", "desk", "dissent", "errand", "held", "outvote", "patience", "places"),
    *("right", "settle", "shop", "surroundings", "thin", "told"),
}


@pytest.mark.parametrize("wing", sorted({".".join(module.split(".")[:2]) for module in FILES if module.count(".") > 1}))
def test_a_modules_name_says_what_it_is_and_means_one_module_of_its_wing(wing: str) -> None:
    # The tables of a subject bear its name; api/sql and api/resources pair their modules by name.
    apart = {"indexer.store.schema.tables", "api.resources", "api.sql"}
    names = [
        module.rsplit(".", 1)[1]
        for module, path in FILES.items()
        if within(module, wing) and path.stem not in {"__init__", "__main__"} and module.rsplit(".", 1)[0] not in apart
    ]
    assert sorted(set(names)) == sorted(names)
    private = [name for name in names if WORDS & set(name.split("_"))]
    assert not private, "the glossary of the house has another word for it"


# Names that stand for classes of several modules still. None may be added; each that is gone is taken out.
AMBIGUOUS = {
    *("Answer", "Chain", "Contract", "Deployment", "Event", "Problem", "Series", "Source", "Tokens", "Verdict"),
    "Webhooks",
}


def test_the_name_of_a_class_means_one_class() -> None:
    modules: dict[str, set[str]] = {}
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                modules.setdefault(node.name, set()).add(module)
    twice = {name: sorted(found) for name, found in modules.items() if len(found) > 1}
    assert not {name: found for name, found in twice.items() if name not in AMBIGUOUS}
