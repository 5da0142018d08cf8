"""``[chains.NAME]``: networks, their endpoints and their finality."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from indexer.manifest.document import (
    ChainPart,
    EndpointPart,
    FinalityPart,
    HistorySourcePart,
    UnsetVariableError,
    interpolate,
)
from indexer.manifest.model import Chain, CreditPrice, Finality, HistoryEndpoint, RpcEndpoint
from indexer.manifest.source import KeyPath, ManifestReport
from indexer.redact import SecretText, SecretUrl

_Item = TypeVar("_Item", EndpointPart, HistorySourcePart)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e\xa0-\xff](?:[\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?")
_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection"}
)
_OF_QUESTIONS = frozenset(
    {"priority", "requests_per_second", "archive", "credits_per_day", "credits", "price_per_million_credits"}
)
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_PRICE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ([^\W\d_]{1,12}|[$€£¥])")
_LONGEST_SOCKET = 107  # bytes, on Linux
_DATA_SET = re.compile(r"/datasets/[A-Za-z0-9_-]+/?")
_HISTORY = (
    'a list of "sqd:${PORTAL_URL}", the URL of a portal\'s data set, or of tables { url = "sqd:${PORTAL_URL}", verify, '
    "requests_per_second, headers }"
)
_RPC = (
    'a list of URLs ("${RPC_URL}") or of tables { url = "${RPC_URL}", priority, requests_per_second, archive, headers, '
    "credits_per_day, credits, price_per_million_credits }"
)


def read_chains(raw: Mapping[str, Any], environ: Mapping[str, str], report: ManifestReport) -> dict[str, Chain]:
    """Read all chains; those with a mistake are there too, as far as they can be read, so that contracts find them."""
    chains: dict[str, Chain] = {}
    by_id: dict[int, str] = {}
    for name, table in raw.items():
        path: KeyPath = ("chains", name)
        if not _NAME.fullmatch(name):
            report.add(path, "a chain's name starts with a letter and has only letters, digits, - and _, at most 63")
        part = ChainPart.read(table, path, report)
        if part.required("id", path, report, "the EIP-155 chain id, such as 1 for Ethereum") and part.id is not None:
            if part.id in by_id:
                report.add((*path, "id"), f"chain {by_id[part.id]} has this id already", part.id)
            by_id.setdefault(part.id, name)
        chains[name] = Chain(
            name=name,
            chain_id=part.id or 0,
            endpoints=_read_endpoints(part, path, environ, report),
            poll_interval=part.poll_interval,
            finality=_read_finality(part.finality, (*path, "finality"), report),
            bloom_checks=part.bloom_checks,
            check_history=_read_check_history(part, path, report),
            log_index=part.log_index,
            null_blocks=part.null_blocks,
            dev=part.dev,
            history=_read_history(part, path, environ, report),
        )
    return chains


def _read_check_history(part: ChainPart, path: KeyPath, report: ManifestReport) -> Literal["bloom", "sample", "none"]:
    if part.bloom_checks:
        return part.check_history or "sample"
    if part.check_history not in (None, "none"):
        report.add(
            (*path, "check_history"),
            'history is compared with blooms, and bloom_checks = false says that they mean nothing: write "none"',
            part.check_history,
        )
    return "none"


def _read_endpoints(
    part: ChainPart, path: KeyPath, environ: Mapping[str, str], report: ManifestReport
) -> tuple[RpcEndpoint, ...]:
    if not part.required("rpc", path, report, _RPC) or part.rpc is None:
        return ()
    if not part.rpc:
        report.add((*path, "rpc"), f"no endpoint: expected {_RPC}")
    endpoints: list[RpcEndpoint] = []
    for table, here, at in _read_items(EndpointPart, part.rpc, (*path, "rpc"), _RPC, "${RPC_URL}", report):
        url = _read_url(table.url or "", at, environ, report)
        if url is None:
            continue
        if any(endpoint.url == url for endpoint in endpoints):
            report.add(at, "this endpoint is in the list already")
            continue
        headers = _read_headers(table.headers or {}, (*here, "headers"), environ, report)
        if headers and url.reveal().lower().startswith("ipc:"):
            report.add((*here, "headers"), "a socket takes no HTTP headers")
        endpoint = RpcEndpoint(
            url,
            table.priority,
            table.requests_per_second,
            table.archive,
            headers,
            table.credits_per_day,
            _read_credits(table, (*here, "credits"), report),
            _read_price(table.price_per_million_credits, (*here, "price_per_million_credits"), report),
        )
        for key in sorted(table.model_fields_set & _OF_QUESTIONS) if endpoint.pushes else ():
            report.add((*here, key), "a ws:// URL is asked nothing, it pushes new heads: take this key out")
        endpoints.append(endpoint)
    if endpoints and all(endpoint.pushes for endpoint in endpoints):
        report.add((*path, "rpc"), "a ws:// URL only pushes new heads: list an http, https or ipc endpoint to ask, too")
    return tuple(endpoints)


def _read_credits(table: EndpointPart, path: KeyPath, report: ManifestReport) -> tuple[tuple[str, int], ...]:
    """Read a price list, which takes the place of the provider's."""
    for name in table.credits or {}:
        if not _METHOD.fullmatch(name):
            report.add((*path, name), "expected the name of a JSON-RPC method, or default")
    if table.credits is not None and "default" not in table.credits:
        report.add(path, "default is missing: the credits of a call of a method that the list does not name")
    return tuple((table.credits or {}).items())


def _read_price(text: str | None, path: KeyPath, report: ManifestReport) -> CreditPrice | None:
    if text is None:
        return None
    if (match := _PRICE.fullmatch(text)) is None:
        report.add(path, 'expected what a million credits cost, an amount and a currency: "0.40 USD"', text)
        return None
    return CreditPrice(Decimal(match.group(1)), match.group(2))


def _read_items(
    kind: type[_Item], listed: Sequence[object], path: KeyPath, expected: str, example: str, report: ManifestReport
) -> Iterator[tuple[_Item, KeyPath, KeyPath]]:
    """The items of a list of URLs or tables with one: each as a table, its own place, and that of its URL."""
    for number, item in enumerate(listed):
        here: KeyPath = (*path, number)
        if isinstance(item, str):
            yield kind(url=item), here, here
        elif not isinstance(item, dict):
            report.add(here, f"expected {expected}")
        else:
            table = kind.read(item, here, report)
            if table.required("url", here, report, f'such as "{example}"'):
                yield table, here, (*here, "url")


def _read_history(
    part: ChainPart, path: KeyPath, environ: Mapping[str, str], report: ManifestReport
) -> tuple[HistoryEndpoint, ...]:
    found: list[HistoryEndpoint] = []
    if part.history and part.log_index == "per_transaction":
        report.add(
            (*path, "history"),
            'portals number logs through the whole block: no history beside log_index = "per_transaction"',
        )
    where, listed = (*path, "history"), part.history or ()
    for table, here, at in _read_items(HistorySourcePart, listed, where, _HISTORY, "sqd:${PORTAL_URL}", report):
        url = _read_portal(table.url or "", at, environ, report)
        if url is None:
            continue
        if any(one.url == url for one in found):
            report.add(at, "this source is in the list already")
            continue
        headers = _read_headers(table.headers or {}, (*here, "headers"), environ, report)
        found.append(HistoryEndpoint(url, table.verify, table.requests_per_second, headers))
    return tuple(found)


def _read_portal(text: str, path: KeyPath, environ: Mapping[str, str], report: ManifestReport) -> SecretUrl | None:
    """Read the URL of a data set. Nothing of it is shown but variables' names, as of any other URL."""
    kind, colon, rest = text.partition(":")
    if kind != "sqd" or not colon:
        report.add(path, f"no source of history that is known: expected {_HISTORY}")
        return None
    if "${" not in rest:
        parts = urlsplit(rest)
        if parts.scheme in ("http", "https") and _DATA_SET.fullmatch(parts.path) and "@" not in parts.netloc:
            # Nothing in it can be a key: it may stand in the manifest.
            return SecretUrl(rest) if not parts.query else _read_url(rest, path, environ, report)
    url = _read_url(rest, path, environ, report)
    if url is not None and not url.reveal().lower().startswith(("http:", "https:")):
        report.add(path, "a portal is asked by http or https: expected sqd:https://host/datasets/NAME")
        return None
    return url


def _read_url(text: str, path: KeyPath, environ: Mapping[str, str], report: ManifestReport) -> SecretUrl | None:
    """Read a URL. Nothing of it is shown but variables' names: it may be a key, also where it is no URL at all."""
    try:
        url = interpolate(text, environ)
    except UnsetVariableError as error:
        report.add(path, str(error), text if text.startswith("${") and text.endswith("}") else "***")
        return None
    except ValueError as error:
        report.add(path, str(error))
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises where it is no number
    except ValueError:
        host = None
        parts = urlsplit("")
    origin = " (the value of the environment variable)" if "${" in text else ""
    if parts.scheme == "ipc":
        return _read_socket(url, parts, path, origin, report)
    if host is None or parts.scheme not in ("http", "https", "ws", "wss"):
        report.add(
            path,
            f"not a URL{origin}: expected http://host or https://host, with what path and key it needs, or "
            "ipc:///path/of/a/socket; ws:// and wss:// beside them for pushed heads",
        )
        return None
    if "${" not in text and (parts.path.strip("/") or parts.query or parts.username or parts.password):
        report.add(
            path,
            "a URL with a path, query or user may hold a key, which does not belong in this file: "
            'put it into an environment variable and write "${RPC_URL}"',
            url,
        )
        return None
    return SecretUrl(url)


def _read_socket(url: str, parts: SplitResult, path: KeyPath, origin: str, report: ManifestReport) -> SecretUrl | None:
    """Read the URL of a node's unix socket. Its path is no key: it may stand in the manifest."""
    file = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not file.strip("/") or file.endswith("/") or "\0" in file:
        report.add(path, f"not the URL of a socket{origin}: expected ipc:///path/geth.ipc, with three slashes")
    elif len(file.encode()) > _LONGEST_SOCKET:
        report.add(path, f"the path of a socket{origin} has at most {_LONGEST_SOCKET} bytes: link it to a shorter one")
    else:
        return SecretUrl(url)
    return None


def _read_headers(
    raw: Mapping[str, str], path: KeyPath, environ: Mapping[str, str], report: ManifestReport
) -> tuple[tuple[str, SecretText], ...]:
    """Read HTTP headers. A value is a key more often than not: it comes from the environment, and is not shown."""
    headers: list[tuple[str, SecretText]] = []
    for name, text in raw.items():
        here: KeyPath = (*path, name)
        if not _HEADER_NAME.fullmatch(name):
            report.add(here, "the name of an HTTP header has only letters, digits and !#$%&'*+-.^_`|~")
            continue
        if name.lower() in _OWN_HEADERS:
            report.add(here, "this header is set by Gapless itself")
            continue
        try:
            value = interpolate(text, environ)
        except ValueError as error:
            report.add(here, str(error))
            continue
        if "${" not in text:
            report.add(
                here,
                "a header's value may be a key, which does not belong in this file: put it into an environment "
                'variable and write "${RPC_TOKEN}"',
            )
        elif not _HEADER_VALUE.fullmatch(value):
            report.add(here, "its value has a line break or another character that no HTTP header can hold")
        else:
            headers.append((name, SecretText(value)))
    return tuple(headers)


def _read_finality(value: object, path: KeyPath, report: ManifestReport) -> Finality:
    match value:
        case None | "finalized":
            return Finality()
        case bool():
            pass
        case int() if value >= 0:
            return Finality("blocks", value)
        case dict():
            part = FinalityPart.read(value, path, report)
            if (found := _finality_of(part)) is not None:
                return found
            if part.refused("blocks", "seconds", "tag", "at_least"):
                return Finality()
    report.add(
        path,
        'expected "finalized" (the node\'s tag), { tag = "finalized", at_least = N }, a depth in blocks, '
        "{ blocks = N } or { seconds = N }",
        value,
    )
    return Finality()


def _finality_of(part: FinalityPart) -> Finality | None:
    match (part.blocks, part.seconds, part.tag, part.at_least):
        case (int() as blocks, None, None, None):
            return Finality("blocks", blocks)
        case (None, int() as seconds, None, None):
            return Finality("seconds", seconds)
        case (None, None, "finalized", at_least):
            return Finality(at_least=at_least)
    return None
