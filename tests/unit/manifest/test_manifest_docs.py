"""docs/manifest.md: its examples are right, and it leaves no key out."""

import re

import pytest
from manifest_desk import ETHEREUM, REPOSITORY, Desk

from indexer.manifest import document

TEXT = (REPOSITORY / "docs/manifest.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example(desk: Desk, number: int) -> None:
    example = EXAMPLES[number]
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example), "")
    environ = {name: f"https://{name.lower()}.example/SECRETKEY" for name in [*variables, "RPC_URL"]}
    manifest = desk.load(example if "[chains." in example else ETHEREUM + example, environ)
    assert manifest.contracts


def _keys(part: type[document.DocumentPart]) -> list[str]:
    """As they are written: some are words of Python."""
    return [field.alias or key for key, field in part.model_fields.items()]


@pytest.mark.parametrize("part", document.DocumentPart.__subclasses__(), ids=lambda part: part.__name__)
def test_every_key_is_described(part: type[document.DocumentPart]) -> None:
    missing = [key for key in _keys(part) if not re.search(rf"`[^`\n]*\b{key}\b", TEXT)]
    assert missing == []


def test_every_key_is_used_in_an_example() -> None:
    examples = "\n".join(EXAMPLES)
    keys = {key for part in document.DocumentPart.__subclasses__() for key in _keys(part)}
    assert {key for key in keys if not re.search(rf"\b{key}\b", examples)} == set()
