"""The manifest's TOML: read, the line of every key and value found, all problems told with their lines.

Python's ``tomllib`` reads a document but does not say where things stand, and an error without its line makes its
reader search. The scanner here runs only over text that ``tomllib`` has accepted: it need not judge it, only walk it.
Behind a table or key that is there twice the reading goes on, so that all else is checked too.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from indexer.errors import ABSENT, Problem, show

KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
    (?P<skip>[ \t\r]+ | \#[^\n]*)
  | (?P<newline>\n)
  | (?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
  | (?P<punctuation>[\[\]{},=])
  | (?P<word>[^\s\[\]{},=#"']+)
    """,
    re.VERBOSE | re.DOTALL,
)

_BARE = re.compile(r"[A-Za-z0-9_-]+")

_POSITION = re.compile(r" \(at line (\d+), column \d+\)$")
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")
_HEADER = re.compile(r"\s*\[")


def locate(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every table, key and array element of a valid TOML document, by its path.

    Tables of an array (``[[chains]]``) and elements of an array are numbered from 0.
    """
    return _Walk(text).run()


def nearest_line(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of a path, or of the nearest thing that holds it."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return None


class _Walk:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        line = 1
        for match in _TOKEN.finditer(text):
            kind = match.lastgroup or ""
            if kind != "skip":
                self._tokens.append((kind, match.group(), line))
            line += match.group().count("\n")
        self._tokens.append(("end", "", line))
        self._at = 0
        self._lines: dict[KeyPath, int] = {}
        self._array_tables: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._peek() != "end":
            if self._peek() == "newline":
                self._at += 1
            elif self._text() == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _peek(self) -> str:
        return self._tokens[self._at][0]

    def _text(self) -> str:
        return self._tokens[self._at][1]

    def _line(self) -> int:
        return self._tokens[self._at][2]

    def _header(self) -> KeyPath:
        line = self._line()
        many = self._tokens[self._at + 1][1] == "["
        self._at += 2 if many else 1
        path = self._numbered(self._key())
        self._at += 2 if many else 1
        if many:
            number = self._array_tables.get(path, -1) + 1
            self._array_tables[path] = number
            path = (*path, number)
        for length in range(1, len(path) + 1):
            self._mark(path[:length], line)
        return path

    def _numbered(self, key: tuple[str, ...]) -> KeyPath:
        """Return the path of a header's key, in which an array of tables stands for its newest table."""
        path: KeyPath = ()
        for place, part in enumerate(key):
            path = (*path, part)
            if place < len(key) - 1 and path in self._array_tables:
                path = (*path, self._array_tables[path])
        return path

    def _key(self) -> tuple[str, ...]:
        """Read a key, dotted or not: ``a.b."c d"``; its words may hold the dots."""
        parts: list[str] = []
        while self._peek() in ("word", "string"):
            text = self._text()
            if self._peek() == "string":
                parts.append(str(tomllib.loads(f"x = {text}")["x"]))
            else:
                parts.extend(part for part in text.split(".") if part)
            self._at += 1
        return tuple(parts)

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = (*table, *self._key())
        for length in range(len(table) + 1, len(path) + 1):
            self._mark(path[:length], line)
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        opening = self._text()
        self._at += 1
        if opening == "[":
            number = 0
            while self._text() != "]":
                if self._peek() == "newline" or self._text() == ",":
                    self._at += 1
                    continue
                element = (*path, number)
                self._mark(element, self._line())
                self._value(element)
                number += 1
            self._at += 1
        elif opening == "{":
            while self._text() != "}":
                if self._peek() == "newline" or self._text() == ",":
                    self._at += 1
                    continue
                self._pair(path)
            self._at += 1
        else:
            # A date with a space in it (1979-05-27 07:32:00) is two words.
            while self._peek() == "word":
                self._at += 1

    def _mark(self, path: KeyPath, line: int) -> None:
        self._lines.setdefault(path, line)


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


def read_toml(text: str) -> tuple[dict[str, Any], ManifestReport]:
    """Parse a TOML document.

    Returns:
        The document (empty where it cannot be parsed at all) and a report that knows its lines, with the errors of TOML
        in it, if any.
    """
    twice: list[tuple[KeyPath, int]] = []
    while True:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            message, line = _split(str(error))
            name = _TWICE.match(message)
            if name is None or line is None:
                report = ManifestReport({})
                _report_twice(report, twice)
                report.add((), f"not valid TOML: {message}", line=line)
                return {}, report
            twice.append((tuple(re.findall(r"'([^']*)'", name.group(1))), line))
            text = _without_table(text, line)
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a list of 5,000 brackets
            report = ManifestReport({})
            report.add((), f"cannot be read as TOML: {error}")
            return {}, report
        else:
            report = ManifestReport(locate(text))
            _report_twice(report, twice)
            return document, report


def _report_twice(report: ManifestReport, twice: list[tuple[KeyPath, int]]) -> None:
    for path, line in twice:
        report.add(path, "is there twice: names must differ (this second one was not checked)", line=line)


def _split(message: str) -> tuple[str, int | None]:
    match = _POSITION.search(message)
    return (message[: match.start()], int(match.group(1))) if match else (message, None)


def _without_table(text: str, line: int) -> str:
    """Blank a table from its header's line to the next header, so that all other lines keep their numbers."""
    lines = text.split("\n")
    end = next((at for at in range(line, len(lines)) if _HEADER.match(lines[at])), len(lines))
    return "\n".join([*lines[: line - 1], *[""] * (end - line + 1), *lines[end:]])
