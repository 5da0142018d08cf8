"""What providers charge for a call, in their own credits, by method.

Each list is data: whose it is, by the end of the host's name, and where it stands. A provider
that publishes no list, or none that could be read, has none here: each of its calls counts 1, until the manifest says
otherwise. A list names the methods that Gapless asks; its default stands for the others, at no less than they cost.

Where a price depends on more than the method (the age of a block), the higher one is taken: what is counted is never
less than what is charged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class PriceList:
    """The credits of a call.

    Attributes:
        default: of a method that is not in the list.
        methods: by method.
        provider: whose list it is, for people; empty where it is nobody's.
    """

    default: int = 1
    methods: Mapping[str, int] = field(default_factory=dict)
    provider: str = ""

    @property
    def dearest(self) -> int:
        """The most that a call costs."""
        return max(self.default, *self.methods.values(), 0)

    def of(self, methods: Iterable[str]) -> int:
        """The credits of some calls, each item of a batch for itself."""
        known, default = self.methods, self.default
        return sum(known.get(method, default) for method in methods)


ONE_EACH: Final = PriceList()
"""Of a provider whose prices are not known."""

# By the end of the host's name; as the pages said in November 2026.
_PROVIDERS: Final[Mapping[tuple[str, ...], PriceList]] = {
    # Compute units: https://www.alchemy.com/docs/reference/compute-unit-costs. A batch costs what
    # its calls do. A method that it does not name counts as the dearest that Gapless asks.
    ("alchemy.com", "alchemyapi.io"): PriceList(
        60,
        {
            "eth_blockNumber": 10,
            "eth_call": 26,
            "eth_chainId": 0,
            "eth_getBlockByHash": 20,
            "eth_getBlockByNumber": 20,
            "eth_getBlockReceipts": 20,
            "eth_getCode": 20,
            "eth_getLogs": 60,
            "eth_getTransactionByHash": 20,
            "eth_getTransactionReceipt": 20,
        },
        "Alchemy",
    ),
    # Credits: https://docs.metamask.io/services/get-started/pricing/credit-cost: 80 where neither a
    # network's nor Ethereum's table names the method.
    ("infura.io",): PriceList(
        80,
        {
            "eth_blockNumber": 80,
            "eth_call": 80,
            "eth_chainId": 5,
            "eth_getBlockByHash": 80,
            "eth_getBlockByNumber": 80,
            "eth_getBlockReceipts": 1000,
            "eth_getCode": 80,
            "eth_getLogs": 255,
            "eth_getTransactionByHash": 80,
            "eth_getTransactionReceipt": 80,
        },
        "Infura",
    ),
    # API credits: https://www.quicknode.com/api-credits: 20 for every method of most EVM chains.
    # Some chains cost more (Gnosis, Scroll, zkSync 30; Celo 40; Monad 50): there the manifest says so.
    ("quiknode.pro",): PriceList(20, provider="QuickNode"),
    # Request units: https://docs.chainstack.com/docs/request-units: 1 at the newest blocks, 2 where
    # an archive is asked. Which of them a call is shows only there, so all count 2 that can be about an old block.
    ("chainstack.com", "p2pify.com"): PriceList(2, {"eth_blockNumber": 1, "eth_chainId": 1}, "Chainstack"),
    # API credits: https://www.ankr.com/docs/rpc-service/pricing: 200 for every method of EVM chains.
    ("ankr.com",): PriceList(200, provider="Ankr"),
}


def price_list(url: str, own: Iterable[tuple[str, int]] = ()) -> PriceList:
    """The prices at an endpoint.

    Args:
        url: its URL.
        own: the list that the manifest gives, with ``default``; it takes the place of the provider's.
    """
    given = dict(own)
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    known = next(
        (prices for ends, prices in _PROVIDERS.items() if any(host == end or host.endswith("." + end) for end in ends)),
        ONE_EACH,
    )
    if not given:
        return known
    return PriceList(given.pop("default", 1), given, known.provider)
