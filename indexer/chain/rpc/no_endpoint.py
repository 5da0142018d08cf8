"""What is told where no endpoint of a chain can answer a question."""

from collections.abc import Sequence

from indexer.chain.records.errors import NoEndpointError, NoHistoryError
from indexer.chain.rpc.credits import SPENT
from indexer.chain.rpc.endpoint import Endpoint


def nobody(name: str, endpoints: Sequence[Endpoint], method: str, block: int | None, now: float) -> NoEndpointError:
    """The error, with each endpoint's own reason.

    Args:
        name: the chain's name.
        endpoints: all of its endpoints.
        method: what was to be asked.
        block: the newest block that the answer needs, where there is one.
        now: the time.
    """
    reasons = []
    kind = NoEndpointError
    for endpoint in endpoints:
        refused = endpoint.health.refusals(now)
        refusal = method if method in refused else method.split(" ", maxsplit=1)[0]
        if endpoint.health.is_out:
            reasons.append(endpoint.health.reason)
        elif refusal in refused and refused[refusal] is None:
            reasons.append(f"{endpoint.host}: it does not offer {method}")
        elif endpoint.credits.is_spent:
            reasons.append(f"{endpoint.host}: {SPENT}")
        else:
            kind = NoHistoryError
            up_to = f"it keeps no such history up to block {refused[refusal]:,}" if refusal in refused else ""
            reasons.append(f"{endpoint.host}: {up_to or 'the manifest says that it is no archive'}")
    if any(endpoint.health.is_out or endpoint.credits.is_spent for endpoint in endpoints):
        kind = NoEndpointError  # one that is out may keep it
    at = "" if block is None else f" at block {block:,}"
    spent = any(endpoint.credits.is_spent for endpoint in endpoints)
    return kind(
        f"chain {name}: no endpoint answers {method}{at}. " + "; ".join(reasons),
        hint="raise credits_per_day, or add another endpoint to this chain's rpc list"
        if spent
        else "add an endpoint that does (an archive node, for old state) to this chain's rpc list",
    )
