"""The forms in which ABIs come: from a file's bytes to the list of items in it, or to the name of what it is instead.

Taken are: the list of items; a compiler's artifact, which holds it under ``abi``; Etherscan's and Sourcify's answers;
solc's standard and combined output, what it prints, and its metadata; Tron's ``entrys``; human-readable lines
(``human``); and any of these as JSON within a JSON string.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from indexer.abi.human import Line, looks_readable, parse_lines, split_lines
from indexer.abi.types import AbiError

TAKEN = (
    "taken are a list of items, an artifact of Hardhat, Foundry, Truffle or Vyper, the output or metadata of solc, an "
    "answer of Etherscan or Sourcify, Tron's entrys, and human-readable lines such as event Moved(address indexed who)"
)
_DEEPEST = 8
# Deeper than any tuple that is understood.
_DEEPEST_TUPLE = 200
_FLAGS = frozenset({"anonymous", "indexed", "constant", "payable"})
_ITEM_KINDS = frozenset({"event", "function", "error", "constructor", "fallback", "receive"})
_PRINTED = re.compile(r"^=+ (?P<name>\S[^\n]*?) =+\s*^Contract JSON ABI[^\n]*\n(?P<abi>[^\n]*)", re.MULTILINE)
_SOURCES: tuple[tuple[str, str], ...] = (
    (r"(?:pragma|interface|contract|library|abstract|import)\b[^;{]*[;{].*\b(?:function|event|error|contract)\b",
     "Solidity source (compile it, and name the artifact)"),
    (r"(?:import|export|const|let|var|module|'use strict'|\"use strict\")\b", "TypeScript or JavaScript"),
    (r"<(?:!doctype|html|\?xml)", "a web page"),
    (r"(?:---|-\s+\w+:|[\w-]+:(?:\s|$))", "YAML"),
    (r"(?:0x)?[0-9a-f]{40,}\s*$", "bytecode or an address"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A contract's ABI in a document.

    Attributes:
        contract: its name, ``Token`` or ``src/Token.sol:Token``; empty where the document does not say it.
        items: its items, as given, each with its path in the document.
        problems: human-readable lines that cannot be read, each with its path and why.
    """

    contract: str
    items: tuple[tuple[str, object], ...]
    problems: tuple[str, ...] = ()

    @property
    def has_events(self) -> bool:
        """Whether one of its items is an event."""
        return any(isinstance(item, Mapping) and str(item.get("type")).lower() == "event" for _, item in self.items)


def read_document(raw: bytes) -> object:
    """Return a file's parsed JSON, or its text where it is not JSON and does not begin as JSON does.

    Raises:
        AbiError: it is empty, no text, or broken JSON.
    """
    try:
        text = raw.decode(json.detect_encoding(raw)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise AbiError(f"not JSON: not a text at all: {error}") from error
    if not text.strip():
        raise AbiError("not JSON: it is empty")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[0] in "[{\"'":
            raise AbiError(f"not JSON: {error}") from error
        return text


def find_abi(document: object, contract: str | None = None) -> Found:
    """Find the ABI in a document.

    Args:
        document: parsed JSON, or a text.
        contract: which, where it holds several: its name, or its file and name; None: the only one, or the only one
            with events.

    Raises:
        AbiError: it holds none, several, or not the one that is asked for; the message names its form and contracts.
    """
    found = _find(document, "", "", 0)
    if contract is None:
        chosen = found if len(found) == 1 else [one for one in found if one.has_events]
    else:
        chosen = [one for one in found if contract == one.contract or one.contract.endswith(f":{contract}")]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(one.contract for one in chosen or found if one.contract)
    if contract is None:
        raise AbiError(f"holds the ABIs of several contracts: name one behind the path, file.json:Name, of {names}")
    if not names:
        raise AbiError(f"holds one ABI and no contract's name: leave out :{contract}")
    if chosen:
        raise AbiError(f"holds several contracts of the name {contract}: choose one of {names}")
    raise AbiError(f"holds no contract {contract}: it has {names}")


def uniform(item: Any) -> Any:
    """Return an item with what tools write differently as compilers write it: what is read once is read alike again.

    A field that is null is missing, ``"true"`` is true, ``"View"`` is view. An item without a type is a function, as
    the specification has it, but for one that only an event can be.
    """
    if not isinstance(item, Mapping):
        return item
    found: dict[str, Any] = _uniform(item)
    for key in ("type", "stateMutability"):
        if isinstance(found.get(key), str):
            found[key] = found[key].strip().lower()
        if found.get(key) == "":
            del found[key]
    if "type" not in found:
        inputs = found.get("inputs")
        indexed = isinstance(inputs, list) and any(isinstance(one, Mapping) and "indexed" in one for one in inputs)
        found["type"] = "event" if "anonymous" in found or indexed else "function"
    return found


def _uniform(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST_TUPLE:
        return value  # refused further on
    if isinstance(value, Mapping):
        return {key: _flag(key, _uniform(one, depth + 1)) for key, one in value.items() if one is not None}
    return [_uniform(one, depth + 1) for one in value] if isinstance(value, list) else value


def _flag(key: str, value: Any) -> Any:
    if key not in _FLAGS or not isinstance(value, str | int):
        return value
    return {"true": True, "false": False, "1": True, "0": False}.get(str(value).strip().lower(), value)


def _find(document: object, root: str, contract: str, depth: int) -> list[Found]:
    if depth > _DEEPEST:
        raise _unknown("JSON within JSON without end", root)
    if isinstance(document, list):
        return _of_list(document, root, contract, depth)
    if isinstance(document, str):
        return _of_text(document, root, contract, depth)
    if isinstance(document, Mapping):
        return _of_object(document, root, contract, depth)
    raise _unknown(_shape(document), root)


def _of_list(document: list[Any], root: str, contract: str, depth: int) -> list[Found]:
    if document and all(isinstance(one, Mapping) and ("ABI" in one or "content" in one) for one in document):
        # Etherscan's getsourcecode, and the files of Sourcify's older answers, of which metadata.json holds the ABI.
        several: list[Found] = []
        for i, one in enumerate(document):
            if "ABI" in one or one.get("name") == "metadata.json":
                inner, name = one.get("ABI", one.get("content")), str(one.get("ContractName", contract))
                several += _find(inner, f"{root}[{i}]", name, depth + 1)
        if several:
            return several
    if document and not any(isinstance(one, Mapping | str) for one in document):
        raise _unknown(_shape(document), root)
    paths = [f"{root}[{i}]" for i in range(len(document))]
    lines = [Line(path, one) for path, one in zip(paths, document, strict=True) if isinstance(one, str)]
    if not lines:
        return [Found(contract, tuple(zip(paths, document, strict=True)))]
    read, problems = parse_lines(lines)
    items: list[tuple[str, object]] = [*read]
    items += [(path, one) for path, one in zip(paths, document, strict=True) if not isinstance(one, str)]
    order = {path: i for i, path in enumerate(paths)}
    return [Found(contract, tuple(sorted(items, key=lambda item: order[item[0]])), tuple(problems))]


def _of_text(text: str, root: str, contract: str, depth: int) -> list[Found]:
    if text.lstrip()[:1] in ("[", "{", '"'):
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise AbiError(f"{root or 'the text'}: not JSON: {error}") from error
        return _find(inner, root, contract, depth + 1)
    if printed := list(_PRINTED.finditer(text)):
        return [found for one in printed for found in _find(one["abi"], root, one["name"], depth + 1)]
    if looks_readable(text):
        items, problems = parse_lines([Line(f"{root} {one.path}".strip(), one.text) for one in split_lines(text)])
        return [Found(contract, tuple(items), tuple(problems))]
    raise _unknown(_shape(text), root)


def _of_object(  # noqa: PLR0911 - one for each form
    document: Mapping[str, Any], root: str, contract: str, depth: int
) -> list[Found]:
    for key in ("abi", "ABI", "interface"):
        if isinstance(document.get(key), list | str | Mapping):
            name = next((str(document[k]) for k in ("contractName", "ContractName") if document.get(k)), contract)
            return _find(document[key], _joined(root, key), name, depth + 1)
    if isinstance(entries := document.get("entrys"), list):
        return [Found(contract, tuple((f"{_joined(root, 'entrys')}[{i}]", _of_tron(e)) for i, e in enumerate(entries)))]
    if "result" in document and ("status" in document or "jsonrpc" in document):
        result = document["result"]
        if isinstance(result, str) and result.lstrip()[:1] not in ("[", "{", '"'):
            raise AbiError(f"an answer of Etherscan that holds no ABI: {result[:200]}")
        return _find(result, _joined(root, "result"), contract, depth + 1)
    if isinstance(output := document.get("output"), Mapping):
        target = (document.get("settings") or {}).get("compilationTarget") or {}
        named = next((f"{file}:{name}" for file, name in target.items()), contract)
        return _find(output, _joined(root, "output"), named, depth + 1)
    for key in ("contracts", "contractTypes"):
        if isinstance(inner := document.get(key), Mapping) and inner:
            return _of_contracts(inner, _joined(root, key), depth)
    if isinstance(files := document.get("files"), list):
        return _of_list(files, _joined(root, "files"), contract, depth)
    if str(document.get("type")).lower() in _ITEM_KINDS:
        return [Found(contract, ((root, document),))]
    if any(isinstance(one, Mapping) and "abi" in one for one in document.values()):
        return _of_contracts(document, root, depth)  # Vyper's combined output
    raise _unknown(_shape(document), root)


def _of_contracts(contracts: Mapping[str, Any], root: str, depth: int) -> list[Found]:
    """Those of ``file:Name`` (combined output), or by file and name (standard output); but none without an ABI."""
    found: list[Found] = []
    for name, one in contracts.items():
        if not isinstance(one, Mapping):
            continue
        if any(key in one for key in ("abi", "interface")):
            found += _find(one, f"{root}.{name}", name, depth + 1)
            continue
        for inner, of in one.items():
            if isinstance(of, Mapping) and ("abi" in of or "entrys" in of):
                found += _find(of, f"{root}.{name}.{inner}", f"{name}:{inner}", depth + 1)
    if not found:
        raise AbiError(f"{root}: a compiler's output without an ABI: ask the compiler for abi among its outputs")
    return found


def _of_tron(entry: object) -> object:
    """An item as others write it: Tron's has its words capitalised, and a type of its own for its tokens' ids."""
    if not isinstance(entry, Mapping):
        return entry
    found = dict(entry)
    for key in ("type", "stateMutability"):
        if isinstance(found.get(key), str):
            found[key] = found[key].lower()
    for key in ("inputs", "outputs"):
        if isinstance(found.get(key), list):
            found[key] = [_of_tron_type(one) for one in found[key]]
    return found


def _of_tron_type(parameter: object) -> object:
    if not isinstance(parameter, Mapping) or not isinstance(parameter.get("type"), str):
        return parameter
    return {**parameter, "type": re.sub(r"^trcToken\b", "uint256", parameter["type"])}


def _joined(root: str, key: str) -> str:
    return f"{root}.{key}" if root else key


def _unknown(shape: str, root: str) -> AbiError:
    return AbiError(f"{root + ': ' if root else ''}not an ABI but {shape}: {TAKEN}")


def _shape(document: object) -> str:  # noqa: PLR0911 - one for each shape
    """What a document is, in a few words for people."""
    if isinstance(document, Mapping):
        if "sources" in document and "language" in document:
            return "the input of a compiler, which holds sources and no ABI"
        if document.get("_format") == "hh-sol-dbg-1":
            return "Hardhat's .dbg.json (the artifact beside it has the ABI)"
        if isinstance(errors := document.get("errors"), list) and errors:
            return "the output of a compiler that found errors and no contract"
        keys = ", ".join(str(key)[:40] for key in list(document)[:6])
        return f"an object with the keys {keys}" if keys else "an empty object"
    if isinstance(document, list):
        return f"a list of {type(document[0]).__name__}s" if document else "an empty list"
    if isinstance(document, str):
        bare = re.sub(r"\A(?:\s+|//[^\n]*|/\*.*?\*/|#[^\n]*)*", "", document, flags=re.DOTALL)
        known = (name for form, name in _SOURCES if re.match(form, bare, re.IGNORECASE | re.DOTALL))
        return next(known, f"a text that begins with {bare[:40]!r}")
    return "nothing (null)" if document is None else f"a {type(document).__name__}"
