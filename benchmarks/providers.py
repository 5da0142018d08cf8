"""Requests needed against each kind of provider: ``make bench-providers``.

A node imitates each provider of the error table, with its limit and its exact words; a backfill of 200,000 blocks with
50,000 unevenly spread logs must bring the same rows from every one of them. Printed are the ``eth_getLogs`` that it
took, the least possible number (known only to somebody who knows the history beforehand), and how many are allowed: 1.3
times the least plus 15 under a limit of blocks, twice the least under a limit of results. Then three endpoints of which
none is well.

The spread of the logs decides the numbers under a limit of results: nobody can know beforehand where they lie dense.
``--histories 10`` shows ten other spreads.
"""

import argparse
import logging
import sys
import time

from rich.console import Console
from rich.table import Table

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from tests.posts import HttpAnswer
from tests.providers.backfill import FILTER, backfill
from tests.providers.history import make_history
from tests.providers.node import CHAIN_ID, Fragments, Node, Refusal, serving
from tests.providers.profiles import PROFILES

BLOCKS, LOGS, SEED = 200_000, 50_000, 8


def main() -> int:
    """Runs it. Returns 1 where rows are wrong or too many requests were needed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=SEED, help="of the history")
    parser.add_argument("--in-flight", type=int, default=4, help="requests under way at once")
    parser.add_argument(
        "--histories", type=int, default=0, help="so many other histories besides, under results limits"
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    fragments = Fragments(make_history(BLOCKS, LOGS, arguments.seed))
    table = Table(title=f"{BLOCKS:,} blocks, {LOGS:,} logs, {arguments.in_flight} requests at once")
    for column in ("provider", "limit"):
        table.add_column(column)
    for column in ("eth_getLogs", "refused", "least", "ratio", "allowed", "HTTP", "seconds", ""):
        table.add_column(column, justify="right")
    failed = 0
    for profile in PROFILES:
        result = backfill(profile, fragments, ClientSettings(), in_flight=arguments.in_flight)
        promised = profile.in_the_table
        good = result.right and (not promised or result.requests <= result.allowed)
        failed += not good
        table.add_row(
            profile.name,
            f"{profile.size:,} {profile.limit}",
            str(result.requests),
            str(result.refused),
            str(result.least),
            f"{result.requests / result.least:.2f}",
            f"{result.allowed:.0f}" if promised else "-",
            str(result.http_requests),
            f"{result.seconds:.1f}",
            "ok" if good else "too many" if result.right else "WRONG ROWS",
        )
    console = Console(width=140)
    console.print(table)
    logging.disable(logging.NOTSET)
    failed += not three_endpoints(fragments, console)
    for seed in range(1, arguments.histories + 1):
        other_history(seed, console)
    return 1 if failed else 0


def other_history(seed: int, console: Console) -> None:
    """What limits of results cost with the logs spread otherwise: nothing is promised, only shown."""
    fragments = Fragments(make_history(BLOCKS, LOGS, seed))
    for profile in PROFILES:
        if profile.name in {"Infura", "no range given", "reth, results", "too big"}:
            result = backfill(profile, fragments, ClientSettings(), in_flight=4)
            ratio = result.requests / result.least
            console.print(f"history {seed:2} {profile.name:20} {result.requests:3} of {result.least:3}, {ratio:.2f}")


def three_endpoints(fragments: Fragments, console: Console) -> bool:
    """One lags, one dies half-way, one answers 429 half of the time: the log tells it."""
    lagging, dying, busy = (Node(fragments) for _ in range(3))
    lagging.head = fragments.history.blocks // 2

    def dies(node: Node, _: object) -> None:
        if node.http_requests > 12:
            raise HttpAnswer(0)

    def refuses_half(node: Node, _: object) -> None:
        if node.http_requests % 2:
            raise Refusal(429, "too many requests", status=429)

    dying.before, busy.before = dies, refuses_half
    console.print(
        "\nThree endpoints: the first lags, the second dies half-way, the third answers 429 half of the time."
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("  %(levelname)-7s %(message)s"))
    logger = logging.getLogger("indexer.chain")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with serving(lagging) as first, serving(dying) as second, serving(busy) as third:
        settings = ClientSettings(start_blocks=1_000, max_blocks=4_000)
        client = ChainClient(
            "demo", CHAIN_ID, [EndpointConfig(url) for url in (first, second, third)], settings=settings
        )
        client.check()
        client.head()
        started = time.monotonic()
        last = fragments.history.blocks - 1
        rows = [(log.block_number, log.log_index) for c in client.scan([(0, last)], FILTER) for log in c.logs]
        took = time.monotonic() - started
        for status in client.describe():
            asked = ", ".join(f"{method} {count.requests:,}" for method, count in status.counts.items())
            console.print(f"  {status.host} {status.state}, {status.error_rate:.0%} of the last failed: {asked}")
    logger.removeHandler(handler)
    right = rows == list(zip(fragments.history.positions, fragments.history.indices, strict=True))
    console.print(f"  {len(rows):,} rows in {took:.1f} s: {'the same' if right else 'WRONG'}")
    return right


if __name__ == "__main__":
    sys.exit(main())
