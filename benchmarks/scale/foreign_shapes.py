"""What history costs where a quarter of the logs are another standard's (ERC-721 under an ERC-20 ABI)."""

from benchmarks.scale import Row
from benchmarks.scale._foreign import answers, write
from benchmarks.scale._setup import applied
from benchmarks.scale.token_discovery import ABIS, MANIFEST

_CHUNKS, _FEW_CHUNKS = 30, 1
_ROUNDS = 3


def measure(server_url: str, *, small: bool) -> Row:
    """Time of the processor beside that of as many logs without foreign ones; the best of some rounds."""
    chunks, rounds = (_FEW_CHUNKS, 1) if small else (_CHUNKS, _ROUNDS)
    took = {}
    for foreign in (0.0, 0.25):
        given = answers(chunks, foreign=foreign)
        spent = []
        for _ in range(rounds):
            with applied(server_url, MANIFEST, ABIS) as engine:
                spent.append(write(engine, given))
        took[foreign] = min(spent)
    return Row("25 % foreign shapes beside none", took[0.25] / took[0.0], 1.3, "times")
