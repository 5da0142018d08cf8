"""Collects the problems of one manifest, each with its key path and line."""

import re
from collections.abc import Mapping

from indexer.manifest.locate import KeyPath, nearest_line
from indexer.problems import ABSENT, Problem, show

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class ManifestReport:
    """The problems found so far."""

    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        self._lines = lines
        self._problems: list[Problem] = []

    def add(self, path: KeyPath, message: str, found: object = ABSENT, *, line: int | None = None) -> None:
        """Note a problem. What was found is shown redacted; leave it out where it may be a secret."""
        shown = None if found is ABSENT else show(found)
        problem = Problem(spell(path), message, shown, line or nearest_line(self._lines, path))
        if problem not in self._problems:  # what several chains of a contract share is checked for each of them
            self._problems.append(problem)

    def problems(self) -> tuple[Problem, ...]:
        """Return all problems in the order of the file."""
        return tuple(sorted(self._problems, key=lambda problem: problem.line or 0))


def spell(path: KeyPath) -> str:
    """Return a key path as one writes it: ``contracts.usdc.address[1]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text
