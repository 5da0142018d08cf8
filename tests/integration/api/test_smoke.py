import pytest
@pytest.mark.parametrize("p", ["/health","/ready","/status","/v1","/v1/contracts","/v1/contracts/zoo","/v1/contracts/coins/events","/v1/contracts/usdc/abi","/v1/contracts/usdc/events/Transfer?limit=2","/v1/contracts/zoo/events/Everything","/v1/contracts/usdc/events/Transfer/1000-3?include=token","/v1/tokens?chain=1","/v1/contracts/coins/snapshots","/v1/contracts/coins/snapshots/supply?limit=2","/v1/contracts/coins/snapshots/supply/latest?at_block=1155","/openapi.json"])
def test_it(api, p):
    r = api.ask(p)
    print(p, r.status_code, r.text[:3000], dict(r.headers))
    assert r.status_code==200
