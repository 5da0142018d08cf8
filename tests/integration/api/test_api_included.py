"""include=tx: the transactions of rows, as far as the manifest asks for them and they have come."""

import pytest

from tests.integration.api.seed import Seed, block_time, hex_of, tx_hash
from tests.integration.api.world import ALICE, BOB, GOLD, SILVER, TIP, USDC

TRANSFERS = "/v1/contracts/usdc/events/Transfer"


def keep(seed: Seed, block: int, index: int, *, hashed: bytes | None = None, **values: object) -> None:
    """A row of ``gapless.transactions``."""
    columns = {
        "chain_id": 1,
        "block_number": block,
        "tx_index": index,
        "tx_hash": hashed or tx_hash(block, index),
        "block_time": block_time(block),
        "sender": ALICE,
        **values,
    }
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    seed.execute(f"INSERT INTO gapless.transactions ({names}) VALUES ({places})", list(columns.values()))


WHOLE = {
    "recipient": BOB,
    "type": 2,
    "value": 2**255,
    "nonce": 2**63,
    "gas_limit": 30_000_000,
    "status": 1,
    "gas_used": 21_000,
    "effective_gas_price": 10**12,
}


def shown(block: int, index: int) -> str:
    return hex_of(tx_hash(block, index))


def test_rows_come_with_their_transactions(own, seed):
    keep(seed, TIP, 7, **WHOLE)
    keep(seed, TIP, 3, status=0, gas_used=5, effective_gas_price=7, created_contract=USDC)
    answer = own.get(f"{TRANSFERS}?limit=3&include=tx")
    assert answer["transactions"] == {
        shown(TIP, 7): {
            "from": hex_of(ALICE),
            "to": hex_of(BOB),
            "type": 2,
            "value": str(2**255),
            "nonce": str(2**63),
            "gas_limit": "30000000",
            "status": 1,
            "gas_used": "21000",
            "effective_gas_price": str(10**12),
            "created_contract": None,
            "complete": True,
        },
        shown(TIP, 3): {
            "from": hex_of(ALICE),
            "to": None,
            "type": None,
            "value": None,
            "nonce": None,
            "gas_limit": None,
            "status": 0,
            "gas_used": "5",
            "effective_gas_price": "7",
            "created_contract": hex_of(USDC),
            "complete": True,
        },
        shown(TIP - 1, 7): None,
    }
    assert set(answer["transactions"]) == {row["tx_hash"] for row in answer["data"]}
    assert "transactions" not in own.get(f"{TRANSFERS}?limit=3")


@pytest.mark.parametrize("path", [f"{TRANSFERS}?", "/v1/events?chain=1&contract=usdc&"])
def test_wherever_rows_are(own, seed, path):
    keep(seed, TIP, 7, **WHOLE)
    for query, tx_hashes in (
        ("limit=1", [shown(TIP, 7)]),
        (f"limit=1&before={TIP}-3", [shown(TIP, 7)]),
        ("limit=2&include=token,tx", [shown(TIP, 7), shown(TIP, 3)]),
    ):
        answer = own.get(f"{path}{query}" + ("" if "include" in query else "&include=tx"))
        assert list(answer["transactions"]) == sorted(tx_hashes, key=list(answer["transactions"]).index)
        assert answer["transactions"][shown(TIP, 7)]["gas_used"] == "21000"
    assert own.get(f"{path}to_block=999&include=tx")["transactions"] == {}


def test_one_row_with_its_transaction(own, seed):
    keep(seed, TIP, 7, **WHOLE)
    assert own.get(f"{TRANSFERS}/{TIP}-7?include=tx")["transactions"][shown(TIP, 7)]["value"] == str(2**255)
    assert own.get(f"{TRANSFERS}/{TIP}-3?include=tx")["transactions"] == {shown(TIP, 3): None}
    assert "transactions" not in own.get(f"{TRANSFERS}/{TIP}-3?include=token")


def test_a_transaction_of_another_block_is_not_the_rows(own, seed):
    """It was in the branch before, and has been mined again: its receipt is another one."""
    keep(seed, TIP - 1, 99, hashed=tx_hash(TIP, 7), **WHOLE)
    assert own.get(f"{TRANSFERS}?limit=1&include=tx")["transactions"] == {shown(TIP, 7): None}


def test_what_comes_later_changes_the_tag(own, seed):
    """No version says so, so nobody may be told that nothing has changed; nor keep for long what lacks something."""
    path = f"{TRANSFERS}?from_block=1100&to_block=1100&include=tx"
    first = own.ask(path)
    assert "max-age=300" not in first.headers["cache-control"]
    assert own.ask(path, if_none_match=first.headers["etag"]).status_code == 304
    for index in (3, 7):
        keep(seed, 1100, index, **WHOLE)
    second = own.ask(path, if_none_match=first.headers["etag"])
    assert second.status_code == 200
    assert None not in second.json["transactions"].values()
    assert "max-age=300" in second.headers["cache-control"]


def test_tokens_in_arguments_come_along(own, seed):
    for path in ("/v1/contracts/factory/events/PairCreated?", "/v1/events?chain=1&event=PairCreated&"):
        answer = own.get(f"{path}include=token&order=asc")
        assert answer["tokens"][hex_of(USDC)] == {"symbol": "USDC", "name": "USD Coin", "decimals": 6}
        assert set(answer["tokens"]) == {hex_of(USDC), hex_of(GOLD), hex_of(SILVER)}
        # Those of the page, whichever members are sent.
        first = own.get(f"{path}include=token&order=asc&limit=1&fields=id")
        assert set(first["tokens"]) == {hex_of(USDC), hex_of(GOLD)}
    row = own.get("/v1/contracts/factory/events/PairCreated/1020-0?include=token")
    assert set(row["tokens"]) == {hex_of(USDC), hex_of(SILVER)}


def test_tokens_in_lists_of_addresses_come_along(own, seed):
    seed.execute("UPDATE zoo.everything SET who = ARRAY[%s, %s]", (GOLD, ALICE))
    for path in ("/v1/contracts/zoo/events/Everything?", "/v1/events?chain=1&contract=zoo&"):
        assert set(own.get(f"{path}include=token")["tokens"]) == {hex_of(GOLD)}
