"""The errors that a person is meant to read, and problems of what a person wrote, reported all at once.

Everything that Gapless raises on purpose derives from :class:`GaplessError`. The command line prints such an error
without a traceback; a traceback therefore always means a defect. :class:`ProblemsError` holds everything that is wrong
with a manifest or an environment.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from indexer.redact import redact

_SHOWN = 100


class GaplessError(Exception):
    """Something went wrong in a way that was foreseen.

    Attributes:
        hint: what the reader can do about it, or None where the message says it already.
        exit_status: what the command line exits with.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Absent:
    """Stands for "there is no value to show"."""


ABSENT = Absent()


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        key: where, as a person would write it: ``contracts.usdc.address[1]``; empty for the whole file.
        message: what is wrong, and what is allowed.
        found: the value found, ready to be shown (redacted, cut), or None.
        line: the line of the file, counted from 1, or None where there is none.
    """

    key: str
    message: str
    found: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = ": ".join(part for part in (f"line {self.line}" if self.line else "", self.key) if part)
        found = f" (found {self.found})" if self.found is not None else ""
        return f"{where}: {self.message}{found}" if where else f"{self.message}{found}"


class ProblemsError(GaplessError):
    """Something a person wrote is wrong; holds every problem that was found, not only the first."""

    exit_status = 2

    def __init__(self, subject: str, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"{subject} has {count}:", *(f"  {problem}" for problem in problems)]
        super().__init__("\n".join(lines), hint=hint)


def show(value: object) -> str:
    """Return a value as an error message may show it: redacted, and cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a date of TOML, say
        text = str(value)
    text = redact(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a misspelt one was probably meant to be, or None."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean x?"``, or nothing where no known word is near."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near is not None else ""


def listed(words: Iterable[str]) -> str:
    """Return the words as a list to read, or ``"none"``."""
    return ", ".join(words) or "none"
