"""Addresses: where to read about one."""

from typing import ClassVar

import falcon

from api.resources.base import Resource, send_json
from api.resources.common_parameters import ChainParameters
from api.schemas import ADDRESS, LINKS, an_array, an_object
from api.sql import status as sql


class OneAddress(Resource):
    """``/v1/addresses/{address}``: where to read about an address."""

    summary: ClassVar = "Where to read about an address"
    tag: ClassVar = "tokens"
    codes: ClassVar = ("INVALID_ADDRESS", "CHAIN_REQUIRED", "CHAIN_NOT_FOUND")
    params: ClassVar = ChainParameters
    answer: ClassVar = an_object(
        {
            "data": an_object(
                {
                    "address": ADDRESS,
                    "contracts": an_array({"type": "string", "description": "Indexed at this address."}),
                    "links": LINKS,
                }
            )
        }
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with links."""
        parameters = ChainParameters.read(request.query_string)
        self.format(request)
        address = self.address(path["address"])
        catalog = self.context.catalog.current()
        chain = catalog.chain(parameters.chain)
        born, is_token = self.context.database.query(sql.KNOWN_OF_ADDRESS, [str(chain.chain_id), address])[0]
        contracts = {
            name
            for name, contract in catalog.contracts.items()
            if chain.chain_id in contract.deployments and address in contract.deployments[chain.chain_id].addresses
        }
        contracts.update(name for name in (born or b"").decode().split("\n") if name in catalog.contracts)
        shown = "0x" + address.hex()
        chosen = f"?chain={chain.chain_id}"
        links = {
            "transfers": f"/v1/addresses/{shown}/transfers{chosen}",
            "balances": f"/v1/addresses/{shown}/balances{chosen}",
        }
        if is_token == b"t":
            links["token"] = f"/v1/tokens/{shown}{chosen}"
        data = {"address": shown, "contracts": sorted(contracts), "links": links}
        send_json(response, {"data": data}, cache_control="public, max-age=2")
