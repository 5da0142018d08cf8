"""Where messages may be sent: public addresses only, unless the operator allows others.

A subscriber names a URL that *this* machine then asks: without these rules it could be made to ask the machines of the
operator's own network (SSRF). The name is resolved here, every address that it has is judged, and the connection
goes to an address that was judged: what the name resolves to a moment later does not matter.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias
from urllib.parse import urlsplit

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
#: Name and port to addresses; raises OSError.
Resolver: TypeAlias = Callable[[str, int], Sequence[str]]

MAX_URL: Final = 2000

_ALLOWED: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_NAME: Final = re.compile(r"(?=.{1,253}\.?\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?")

# IANA's special-purpose registries (RFC 6890 and what was added since): everything that is not a host of the open
# internet. Named here, not left to ipaddress.is_global, whose verdict depends on the version of Python.
_REFUSED: Final = tuple(
    ip_network(text)
    for text in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",
        "2001:db8::/32",
        "2620:4f:8000::/48",
        "3fff::/20",
    ]
)
# Of IPv6 only this is assigned to hosts; loopback, private, link-local, multicast and mapped addresses are outside.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
# Addresses that lead to an IPv4 address, and where that stands in them (its last bit, counted from the right).
_CARRIERS: Final = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped, RFC 4291
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)


class TargetError(Exception):
    """A URL, or what its name resolves to, that no message may be sent to."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart once: what is checked is what is connected to.

    Attributes:
        host: name or address, without brackets.
        path: path and query, as they are sent.
    """

    secure: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL as it may be shown to its owner: without its query, which may hold a secret."""
        path, mark, _ = self.path.partition("?")
        return f"http{'s' if self.secure else ''}://{self.authority}{path}" + ("?…" if mark else "")


def parse(url: str, *, allow_http: bool = False) -> Target:
    """Take a URL apart.

    Args:
        url: as it was given.
        allow_http: whether it need not be encrypted.

    Raises:
        TargetError: saying what is wrong. The URL is not repeated.
    """
    if len(url) > MAX_URL:
        raise TargetError(f"must not be longer than {MAX_URL} characters")
    if not _ALLOWED.fullmatch(url):
        raise TargetError("must be a URL in ASCII: other characters percent-encoded, names in punycode")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetError("must be a URL such as https://example.org/hooks") from None
    if parts.scheme not in (("https", "http") if allow_http else ("https",)):
        raise TargetError("must begin with https://" + (" or http://" if allow_http else ""))
    if "@" in parts.netloc:
        raise TargetError("must not hold a user or a password")
    if "#" in url:
        raise TargetError("must not have a fragment")
    host = (parts.hostname or "").removesuffix(".")
    if not (_is_address(host) if "[" in parts.netloc else _NAME.fullmatch(host)) or port == 0:
        raise TargetError("must name a host")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(secure, host, port or (443 if secure else 80), path)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def networks(text: str) -> tuple[Network, ...]:
    """Read ``WEBHOOKS_ALLOW_PRIVATE``: ``true``, ``false``, or a comma list of networks.

    Raises:
        ValueError: a part is none.
    """
    match text.strip().lower():
        case "" | "false" | "no" | "0":
            return ()
        case "true" | "yes" | "1":
            return (ip_network("0.0.0.0/0"), ip_network("::/0"))
        case listed:
            return tuple(ip_network(part.strip()) for part in listed.split(",") if part.strip())


def is_allowed(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether a message may be sent to an address.

    Args:
        address: any form of it; those that carry an IPv4 address are judged by that one.
        allowed: networks that are allowed though they are not public.
    """
    carried = _carried(address)
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if carried is not None:
        return is_allowed(carried, allowed)
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address.version == network.version and address in network for network in _REFUSED)


def _carried(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    for network, shift in _CARRIERS:
        if address in network:
            return IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return None


def system_resolver(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as this machine sees them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


def addresses(target: Target, allowed: Sequence[Network], resolve: Resolver = system_resolver) -> tuple[Address, ...]:
    """The addresses to connect to, every one of them judged.

    A name that has one address that is refused is refused whole: its owner could choose which one is asked.

    Raises:
        TargetError: the name has no address, or one that is refused. The address is not named: what names of a private
            network resolve to is not told outside.
    """
    try:
        texts = list(dict.fromkeys(resolve(target.host, target.port)))
    except (OSError, UnicodeError):
        raise TargetError("its host cannot be resolved") from None
    found = []
    for text in texts:
        try:
            found.append(ip_address(text))
        except ValueError:
            raise TargetError("its host has an address that is none") from None
    if not found:
        raise TargetError("its host cannot be resolved")
    if not all(is_allowed(address, allowed) for address in found):
        raise TargetError("its host is not on the public internet (WEBHOOKS_ALLOW_PRIVATE can allow networks)")
    return tuple(found)
