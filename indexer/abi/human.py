"""Human-readable ABIs: ``event Transfer(address indexed from, address indexed to, uint256 value)``.

The lines that ethers and viem take: events, functions, errors, structs, the constructor and the fallbacks, in the words
of Solidity. They become the items that a compiler writes. Which types there are is the affair of ``types``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.abi.types import AbiError

KEYWORDS = ("event", "function", "error", "struct", "constructor", "fallback", "receive")

_SKIPPED = r"(?:\s+|//[^\n]*|/\*.*?\*/)"
_TOKEN = re.compile(rf"{_SKIPPED}|(?P<token>@?[A-Za-z0-9_$.]+|[()\[\]{{}},;])", re.DOTALL)
_BEGINS = re.compile(rf"{_SKIPPED}*(?:{'|'.join(KEYWORDS)})\b", re.DOTALL)
_MUTABILITIES = {"pure": "pure", "view": "view", "constant": "view", "payable": "payable", "nonpayable": "nonpayable"}
_MODIFIERS = frozenset({"external", "public", "internal", "private", "virtual", "override"})
_LOCATIONS = frozenset({"memory", "calldata", "storage", "payable"})
# More than any struct has in one another, and more parameters than any ABI has; a struct that holds itself ends here.
_DEEPEST = 32
_MOST_PLACED = 100_000


@dataclass(frozen=True, slots=True)
class Line:
    """A text, and where it stands: ``[3]`` in a list, ``line 3`` in a file."""

    path: str
    text: str


def looks_readable(text: str) -> bool:
    """Whether a text begins as a human-readable ABI does."""
    return _BEGINS.match(text) is not None


def split_lines(text: str) -> list[Line]:
    """Return the statements of a file, each with the line where it begins; one may run over several lines."""
    found: list[tuple[int, list[str]]] = []
    opened = 0
    for number, line in enumerate(text.splitlines(), 1):
        if found and (opened > 0 or not looks_readable(line)):
            found[-1][1].append(line)
        elif line.strip():
            found.append((number, [line]))
            opened = 0
        plain = line.partition("//")[0]
        opened += sum(plain.count(c) for c in "({") - sum(plain.count(c) for c in ")}")
    return [Line(f"line {number}", "\n".join(lines)) for number, lines in found]


def parse_lines(lines: Sequence[Line]) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Read the lines of an ABI. Structs may be used before they are defined.

    Returns:
        The items, each with its path, in order; and what is wrong with other lines, each with its path.
    """
    statements: list[tuple[str, dict[str, Any]]] = []
    problems: list[str] = []
    for line in lines:
        try:
            statements += [(line.path, statement) for statement in _Scanner(line.text).statements()]
        except AbiError as error:
            shown = " ".join(line.text.split())
            problems += [f"{line.path}: {shown[:80]!r}: {problem}" for problem in error.problems]
    structs = _Structs({item["name"]: item["inputs"] for _, item in statements if item["type"] == "struct"})
    found: list[tuple[str, dict[str, Any]]] = []
    for path, item in statements:
        if item["type"] == "struct":
            continue
        try:
            parameters = {key: structs.resolved(item[key]) for key in ("inputs", "outputs") if key in item}
            found.append((path, item | parameters))
        except AbiError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
    return found, problems


class _Structs:
    """Puts the components of structs in the place of their names."""

    def __init__(self, known: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        self._known = known
        self._placed = 0

    def resolved(self, parameters: Sequence[dict[str, Any]], depth: int = 0) -> list[dict[str, Any]]:
        self._placed += len(parameters)
        if depth > _DEEPEST or self._placed > _MOST_PLACED:
            raise AbiError("a struct holds itself, or too many others")
        return [self._one(parameter, depth) for parameter in parameters]

    def _one(self, parameter: dict[str, Any], depth: int) -> dict[str, Any]:
        base, bracket, rest = parameter["type"].partition("[")
        components = parameter.get("components", self._known.get(base))
        if components is None:
            return parameter
        named = {"internalType": f"struct {parameter['type']}"} if base in self._known else {}
        whole = {**parameter, **named, "type": f"tuple{bracket}{rest}"}
        return {**whole, "components": self.resolved(components, depth + 1)}


class _Scanner:
    """Reads statements from tokens, from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise AbiError(f"the character {text[at]!r} has no place in it")
            if match["token"]:
                self._tokens.append(match["token"])
            at = match.end()
        self._at = 0

    def statements(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while self._at < len(self._tokens):
            if not self._skip(";"):
                found.append(self._statement())
        return found

    def _statement(self) -> dict[str, Any]:
        kind = self._take()
        if kind not in KEYWORDS:
            raise AbiError(f"begins with {kind!r}, not with one of {', '.join(KEYWORDS)}")
        item: dict[str, Any] = {"type": kind}
        if kind in ("event", "function", "error", "struct"):
            item["name"] = self._name("a name")
        if kind == "struct":
            item["inputs"] = self._members()
            return item
        item["inputs"] = self._parameters(indexed=kind == "event")
        if kind == "event":
            item["anonymous"] = self._skip("anonymous")
        elif kind != "error":
            self._read_modifiers(item)
        if self._peek() not in ("", ";", *KEYWORDS):
            raise AbiError(f"{self._peek()!r} is not understood there")
        return item

    def _read_modifiers(self, item: dict[str, Any]) -> None:
        item["stateMutability"] = "nonpayable"
        if item["type"] == "function":
            item["outputs"] = []
        while (word := self._peek()) not in ("", ";", *KEYWORDS):
            self._at += 1
            if word in _MUTABILITIES:
                item["stateMutability"] = _MUTABILITIES[word]
            elif word == "returns":
                item["outputs"] = self._parameters()
            elif word == "override" and self._peek() == "(":
                self._parameters()
            elif word not in _MODIFIERS and not word.startswith("@"):
                raise AbiError(f"{word!r} is not understood there")

    def _members(self) -> list[dict[str, Any]]:
        self._expect("{")
        found = []
        while not self._skip("}"):
            found.append(self._parameter())
            self._expect(";")
        return found

    def _parameters(self, *, indexed: bool = False) -> list[dict[str, Any]]:
        self._expect("(")
        found: list[dict[str, Any]] = []
        while not self._skip(")"):
            if found:
                self._expect(",")
            found.append(self._parameter(indexed=indexed))
        return found

    def _parameter(self, *, indexed: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {"name": "", "type": "tuple"}
        if self._peek() == "tuple" and self._peek(1) == "(":
            self._at += 1
        if self._peek() == "(":
            found["components"] = self._parameters()
        else:
            found["type"] = self._name("a type")
        while self._skip("["):
            length = "" if self._peek() == "]" else self._take()
            self._expect("]")
            found["type"] += f"[{length}]"
        if indexed:
            found["indexed"] = False
        while (word := self._peek()) not in ("", ",", ")", ";"):
            self._at += 1
            if indexed and word == "indexed":
                found["indexed"] = True
            elif word not in _LOCATIONS:
                if found["name"] or not _is_name(word):
                    raise AbiError(f"{word!r} is not understood there")
                found["name"] = word
        return found

    def _name(self, what: str) -> str:
        token = self._take()
        if not _is_name(token):
            raise AbiError(f"expected {what}, found {token!r}" if token else f"ends where {what} is expected")
        return token

    def _peek(self, ahead: int = 0) -> str:
        return self._tokens[self._at + ahead] if self._at + ahead < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _skip(self, token: str) -> bool:
        found = self._peek() == token
        self._at += found
        return found

    def _expect(self, token: str) -> None:
        if not self._skip(token):
            found = self._peek()
            raise AbiError(f"expected {token!r}, found {found!r}" if found else f"ends where {token!r} is expected")


def _is_name(token: str) -> bool:
    return re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$.]*", token) is not None
