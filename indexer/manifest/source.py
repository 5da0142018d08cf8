"""Reads the manifest's TOML, and goes on behind a table or key that is there twice, so that all else is checked too."""

import re
import tomllib
from typing import Any

from indexer.manifest.locate import KeyPath, locate
from indexer.manifest.report import ManifestReport

_POSITION = re.compile(r" \(at line (\d+), column \d+\)$")
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")
_HEADER = re.compile(r"\s*\[")


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
