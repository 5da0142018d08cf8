"""What CONTRIBUTING.md says of the repository holds: one version, decisions with their parts, hooks as installed."""

import json
import re
import tomllib
from pathlib import Path

import yaml

from indexer import __version__

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs" / "decisions"
PARTS = ("Context", "Decision", "Rejected", "Measured")


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "indexer.__version__"}
    assert json.loads((ROOT / "clients/typescript/package.json").read_text())["version"] == __version__


def test_the_changelog_has_an_entry_for_the_version() -> None:
    assert re.search(rf"^## {re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_every_decision_has_its_parts_and_is_listed() -> None:
    listed = re.findall(r"^\| \[(\d{4})\]\((\S+)\) \| (.+) \|$", (DECISIONS / "README.md").read_text(), re.M)
    pages = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert [name for _, name, _ in listed] == pages
    for number, name, title in listed:
        text = (DECISIONS / name).read_text()
        assert name.startswith(number)
        assert text.startswith(f"# {number}: {title}\n"), f"{name} and the list have other titles"
        lacking = [part for part in PARTS if not re.search(rf"^\*\*{part}\b[^*]*\*\*", text, re.M)]
        assert not lacking, f"{name} lacks {lacking}"


def test_the_hooks_run_what_make_installs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}, "nothing is downloaded for a commit"
    programs = {hook["entry"].split()[0] for repo in hooks["repos"] for hook in repo["hooks"]}
    assert programs == {".venv/bin/ruff", ".venv/bin/mypy"}


def test_links_of_the_guides_lead_somewhere() -> None:
    guides = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "docs/promises.md", *DECISIONS.glob("*.md")]
    for guide in guides:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", guide.read_text()):
            assert (guide.parent / target).exists(), f"{guide.relative_to(ROOT)} links to {target}"
