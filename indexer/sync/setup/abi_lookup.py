"""ABIs of verified contracts, from Sourcify and Etherscan (``gapless abi fetch``); proxies are in ``proxies``.

Sourcify's API: https://docs.sourcify.dev (``/v2/contract/{chain}/{address}``), which needs no key. Etherscan's:
https://docs.etherscan.io (v2, one key for all its chains).
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from indexer.abi.model import parse_abi
from indexer.abi.types import AbiError
from indexer.errors import GaplessError

log = logging.getLogger(__name__)

Abi = list[dict[str, Any]]

SOURCIFY = "https://sourcify.dev/server"
ETHERSCAN = "https://api.etherscan.io/v2/api"

_TIMEOUT = 30.0
_ATTEMPTS = 5


class NotVerifiedError(GaplessError):
    """No registry has a verified ABI of the contract."""


class SourceError(GaplessError):
    """A source of ABIs could not be asked, or refused."""


class _AgainError(SourceError):
    """It may answer the next time."""


@dataclass(frozen=True, slots=True)
class VerifiedAbi:
    """A verified ABI.

    Attributes:
        address: whose.
        name: of the contract, as its source calls it; empty: not said.
        abi: as a compiler wrote it.
        origin: who said so.
    """

    address: bytes
    name: str
    abi: Abi
    origin: str

    def __str__(self) -> str:
        return f"{self.name or 'a contract'} at 0x{self.address.hex()} ({self.origin})"


class VerifiedAbis:
    """Sourcify first, since it needs no key, then Etherscan; what was found once is kept in a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        etherscan_key: str | None = None,
        sourcify: str = SOURCIFY,
        etherscan: str = ETHERSCAN,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Prepares; asks nothing yet.

        Args:
            folder: the cache; made when it is needed.
            etherscan_key: None: Etherscan is not asked.
            sourcify: its base URL.
            etherscan: its base URL.
            sleep: waits for seconds between two attempts; None: really.
        """
        self._folder = folder
        self._key = etherscan_key
        self._sourcify = sourcify.rstrip("/")
        self._etherscan = etherscan
        self._retrying: dict[str, Any] = {} if sleep is None else {"sleep": sleep}

    def fetch(self, chain_id: int, address: bytes, *, refresh: bool = False) -> VerifiedAbi:
        """The verified ABI of a contract.

        Args:
            chain_id: its chain.
            address: 20 bytes.
            refresh: ask anew, also where it is in the cache.

        Raises:
            NotVerifiedError: no registry has it.
            SourceError: no registry that might have it could be asked.
        """
        cached = self._folder / str(chain_id) / f"{address.hex()}.json"
        if not refresh and (kept := _read(cached, address)) is not None:
            return kept
        problems: list[str] = []
        sources = [("Sourcify", self._ask_sourcify)]
        if self._key:
            sources.append(("Etherscan", self._ask_etherscan))
        else:
            problems.append("Etherscan was not asked (ETHERSCAN_API_KEY is not set)")
        failed = False
        for name, ask in sources:
            try:
                found = self._patiently(partial(ask, chain_id, address))
            except SourceError as error:
                problems.append(f"{name}: {error}")
                failed = True
                continue
            if found is not None:
                _write(cached, found)
                return found
            problems.append(f"{name} does not know it")
        what = f"no verified ABI of 0x{address.hex()} on chain {chain_id}: {'; '.join(problems)}"
        if failed:
            raise SourceError(what, hint="try again later")
        raise NotVerifiedError(what, hint="ask its authors for the ABI, or take it from the artifacts of its source")

    def _patiently(self, ask: Callable[[], VerifiedAbi | None]) -> VerifiedAbi | None:
        retrying = Retrying(
            retry=retry_if_exception_type(_AgainError),
            wait=wait_exponential_jitter(multiplier=0.5, max=10),
            stop=stop_after_attempt(_ATTEMPTS),
            reraise=True,
            **self._retrying,
        )
        return retrying(ask)

    def _ask_sourcify(self, chain_id: int, address: bytes) -> VerifiedAbi | None:
        url = f"{self._sourcify}/v2/contract/{chain_id}/0x{address.hex()}"
        body = _get(url, {"fields": "abi,compilation.name"}, absent=(404,))
        if body is None or not isinstance(body.get("abi"), list):
            return None
        compilation = body.get("compilation")
        name = compilation.get("name") if isinstance(compilation, dict) else ""
        return VerifiedAbi(address, str(name or ""), body["abi"], "Sourcify")

    def _ask_etherscan(self, chain_id: int, address: bytes) -> VerifiedAbi | None:
        parameters = {
            "chainid": str(chain_id),
            "module": "contract",
            "action": "getsourcecode",
            "address": "0x" + address.hex(),
            "apikey": self._key or "",
        }
        body = _get(self._etherscan, parameters)
        result = body.get("result") if body else None
        if isinstance(result, str):
            # Its errors come as status 200: "Max rate limit reached", "Invalid API Key", ...
            kind = _AgainError if "rate limit" in result.lower() else SourceError
            raise kind(result[:200])
        first = result[0] if isinstance(result, list) and result and isinstance(result[0], dict) else {}
        try:
            abi = json.loads(first.get("ABI", ""))
        except ValueError:
            return None  # "Contract source code not verified"
        return (
            VerifiedAbi(address, str(first.get("ContractName") or ""), abi, "Etherscan")
            if isinstance(abi, list)
            else None
        )


def unite(whole: Sequence[VerifiedAbi], passed: Sequence[VerifiedAbi]) -> tuple[Abi, list[str]]:
    """One ABI of all that is emitted at an address.

    Args:
        whole: the implementations; of several, the first one's item of a signature counts.
        passed: the proxies before them, of which the events are taken.

    Returns:
        The items, and what contradicts itself: events of one signature with other indexed arguments, whose logs share
        topic0, so that an ABI can have only one of them.
    """
    items: Abi = []
    owners: dict[Any, VerifiedAbi] = {}
    shapes: dict[Any, tuple[bool, ...]] = {}
    conflicts: list[str] = []
    for found in (*whole, *passed):
        for item in found.abi:
            if found in passed and item.get("type") != "event":
                continue
            key, shape = _described(item)
            if key not in shapes:
                shapes[key], owners[key] = shape, found
                items.append(item)
            elif item.get("type") == "event" and shapes[key] != shape:
                conflicts.append(
                    f"Event {key[1]} has other indexed arguments in {found} than in {owners[key]}, whose are kept."
                )
    return items, conflicts


def _described(item: Mapping[str, Any]) -> tuple[tuple[str, str], tuple[bool, ...]]:
    """An item's kind and signature, and what of it is indexed."""
    kind = str(item.get("type", "function"))
    try:
        parsed = parse_abi([item])
    except AbiError:
        return (kind, json.dumps(item, sort_keys=True)), ()
    for event in parsed.events:
        return (kind, event.signature), (event.anonymous, *(p.indexed for p in event.inputs))
    for signature in (*(one.signature for one in parsed.functions), *(one.signature for one in parsed.errors)):
        return (kind, signature), ()
    # The constructor and the like, of which there is one; what cannot be called from outside; and the rest.
    alone = kind in ("constructor", "fallback", "receive")
    return (kind, "" if alone else json.dumps(item, sort_keys=True)), ()


def _get(url: str, parameters: Mapping[str, str], absent: Sequence[int] = ()) -> dict[str, Any] | None:
    try:
        answer = requests.get(url, params=parameters, timeout=_TIMEOUT)
    except requests.RequestException as error:
        # Its text holds the whole URL, and with it the key.
        raise _AgainError(f"it could not be reached ({type(error).__name__})") from None
    if answer.status_code in absent:
        return None
    if answer.status_code == 429 or answer.status_code >= 500:
        raise _AgainError(f"it answered with HTTP status {answer.status_code}")
    if answer.status_code != 200:
        raise SourceError(f"it answered with HTTP status {answer.status_code}")
    try:
        body = answer.json()
    except ValueError:
        raise _AgainError("it answered with something that is no JSON") from None
    if not isinstance(body, dict):
        raise SourceError("it answered with JSON of another form")
    return body


def _read(path: Path, address: bytes) -> VerifiedAbi | None:
    try:
        kept = json.loads(path.read_text("utf-8"))
        return VerifiedAbi(address, kept["name"], kept["abi"], f"{kept['origin']}, from the cache")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, found: VerifiedAbi) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": found.name, "origin": found.origin, "abi": found.abi}), "utf-8")
