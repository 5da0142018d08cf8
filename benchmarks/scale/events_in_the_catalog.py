"""An apply that changes nothing, with thousands of events in the catalog, after they were all applied at once."""

from typing import Any

from benchmarks.scale import Row
from benchmarks.scale._setup import applied, cpu_ms, declared
from indexer.store.apply.apply import apply

_EVENTS, _CONTRACTS = 50, 200
_FEW_EVENTS, _FEW_CONTRACTS = 5, 4


def _event(number: int) -> dict[str, Any]:
    inputs = [{"name": "who", "type": "address", "indexed": True}, {"name": "amount", "type": "uint256"}]
    return {"type": "event", "name": f"Said{number}", "anonymous": False, "inputs": inputs}


def measure(server_url: str, *, small: bool) -> Row:
    """The CPU time of an apply that changes nothing, in ms; that all can be applied at once shows on the way."""
    events, contracts = (_FEW_EVENTS, _FEW_CONTRACTS) if small else (_EVENTS, _CONTRACTS)
    manifest = '[chains.bench]\nid = 1\nrpc = ["${RPC_URL}"]\n' + "".join(
        f'[contracts.c{number}]\nabi = "many.json"\naddress = "0x{number + 1:040x}"\nstart_block = 1\n'
        for number in range(contracts)
    )
    abis = {"many.json": [_event(number) for number in range(events)]}
    with applied(server_url, manifest, abis) as engine:
        wanted = declared(manifest, abis)

        def again() -> None:
            assert apply(engine, wanted) == []

        took = cpu_ms(engine, again, 1)
    return Row(f"an apply that changes nothing of {events * contracts:,} events", took, 3000, "ms CPU")
