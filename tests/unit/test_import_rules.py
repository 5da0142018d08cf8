"""The house (docs/architecture.md) stands as it is drawn: imports run one way, and every module is named there."""

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

# Room -> what it may import of the rooms that carry the house: cli -> schedule -> sync -> {chain, abi, store}.
ALLOWED = {
    "indexer.chain": set(),
    "indexer.abi": set(),
    "indexer.store": {"indexer.abi"},
    "indexer.manifest": {"indexer.abi"},
    "indexer.sync": {"indexer.chain", "indexer.abi", "indexer.store", "indexer.manifest"},
    "indexer.schedule": {"indexer.sync", "indexer.store", "indexer.manifest"},
    "api": {"indexer.store", "indexer.abi"},
}
ROOMS = set(ALLOWED) | {"indexer.cli", "indexer.demo"}
# The one place where the indexer knows the API, and it does so inside its function.
SERVE = "indexer.cli.serve"
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
    assert "indexer.store.transfer_forms" in came  # the walk leaves the API at all


def trail(module: str, came: dict[str, str]) -> str:
    return module if not came[module] else f"{trail(came[module], came)} -> {module}"


def drawn() -> dict[str, list[str]]:
    """Folder -> the modules that the document's table of it names."""
    rooms: dict[str, list[str]] = {}
    folder = None
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        if line.startswith("#"):
            heading = re.fullmatch(r"### `([a-z_/]+)/`", line)
            folder = heading and heading[1]
        elif folder and line.startswith("| `"):
            rooms.setdefault(folder, []).extend(re.findall(r"`([^`]+)`", line.split("|")[1]))
    return rooms


def test_the_document_names_every_module() -> None:
    there: dict[str, list[str]] = {}
    for path in FILES.values():
        if path.stem not in {"__init__", "__main__"}:
            there.setdefault(str(path.parent.relative_to(ROOT)), []).append(path.stem)
    named = drawn()
    for folder in sorted(there.keys() | named.keys()):
        assert sorted(named.get(folder, [])) == sorted(there.get(folder, [])), (
            f"docs/architecture.md: the table of `{folder}/` names other modules than there are"
        )
