"""docs/promises.md names what Gapless promises: each promise has a test that carries its id, and no test another id."""

import re
from pathlib import Path

from tests.promises import DOCUMENT, guards, promised, written

ROOT = Path(__file__).resolve().parents[2]
CITING = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md")), *sorted((ROOT / "tests").rglob("*.md"))]


def test_every_promise_has_a_test() -> None:
    carried = guards()
    assert promised(), "docs/promises.md has no rows"
    unguarded = [one.id for one in promised() if one.id not in carried]
    assert not unguarded, f"no test carries @pytest.mark.promise with {unguarded}"


def test_every_id_of_a_test_is_promised() -> None:
    known = {one.id for one in promised()}
    unknown = {one: tests for one, tests in guards().items() if one not in known}
    assert not unknown, f"docs/promises.md has no such promise: {unknown}"


def test_ids_are_unique_and_in_order() -> None:
    ids = [one.id for one in promised()]
    assert len(ids) == len(set(ids))
    for family in dict.fromkeys(one[0] for one in ids):
        numbers = [int(one[2:]) for one in ids if one[0] == family]
        assert numbers == sorted(numbers), f"family {family} is not in order"
    assert len([*dict.fromkeys(one[0] for one in ids)]) == len(re.findall(r"^## ", DOCUMENT.read_text(), re.MULTILINE))


def test_the_document_names_the_tests_that_carry_its_ids() -> None:
    text = DOCUMENT.read_text()
    assert written(text) == text, "tests were marked or renamed: run `python -m tests.promises`"


def test_what_is_cited_is_promised() -> None:
    known = {one.id for one in promised()}
    families = "".join({one[0] for one in known})
    for path in CITING:
        cited = set(re.findall(rf"(?<![\w-])([{families}]-[0-9]{{2}})(?![\w-])", path.read_text()))
        assert cited <= known, f"{path.relative_to(ROOT)} cites {sorted(cited - known)}"
