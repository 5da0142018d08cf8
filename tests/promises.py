"""The promises of docs/promises.md and the tests that carry their ids.

    python -m tests.promises              # write the column of tests of docs/promises.md anew
    python -m pytest --promise R-01       # run the tests that guard a promise

A test carries ids by ``@pytest.mark.promise("R-01", ...)``.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
DOCUMENT = TESTS.parent / "docs" / "promises.md"

_ROW = re.compile(r"\| (?P<id>[A-Z]-[0-9]{2}) \| (?P<promise>[^|]+) \| (?P<limits>[^|]*) \| (?P<tests>[^|]*) \|")


@dataclass(frozen=True, slots=True)
class Promise:
    """A row of the document.

    Attributes:
        id: such as R-01.
        promise: the sentence.
        limits: what it does not cover; empty: nothing that is known.
        tests: the tests that guard it, as the document names them.
    """

    id: str
    promise: str
    limits: str
    tests: tuple[str, ...]


def promised() -> list[Promise]:
    """The promises of the document, in its order."""
    return [
        Promise(row["id"], row["promise"].strip(), row["limits"].strip(), tuple(re.findall(r"`([^`]+)`", row["tests"])))
        for row in map(_ROW.fullmatch, DOCUMENT.read_text().splitlines())
        if row
    ]


def guards() -> dict[str, list[str]]:
    """By id the tests that carry it, ``file::test`` with the file below tests/, sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for test, ids in _marked(path):
            for one in ids:
                found.setdefault(one, []).append(f"{path.relative_to(TESTS)}::{test}")
    return {one: sorted(tests) for one, tests in found.items()}


def _marked(path: Path) -> Iterator[tuple[str, list[str]]]:
    text = path.read_text()
    for node in ast.walk(ast.parse(text)) if "mark.promise" in text else ():
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.promise":
                yield node.name, [ast.literal_eval(argument) for argument in call.args]


def written(text: str) -> str:
    """The document with the column of tests as the tests are marked."""
    carried = guards()

    def row(match: re.Match[str]) -> str:
        tests = ", ".join(f"`{test}`" for test in carried.get(match["id"], ()))
        return f"| {match['id']} | {match['promise']} | {match['limits']} | {tests} |"

    return "".join(
        row(match) + "\n" if (match := _ROW.fullmatch(line.rstrip("\n"))) else line
        for line in text.splitlines(keepends=True)
    )


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
