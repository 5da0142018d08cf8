"""What is known of an address."""

from typing import Final

#: On chain $1, of address $2: the contracts that factories announced there, one a line, and whether it is a token.
KNOWN: Final = """
SELECT (SELECT string_agg(c.name, chr(10))
        FROM gapless.children b JOIN gapless.contracts c ON c.id = b.contract_id
        WHERE b.chain_id = $1::bigint AND b.address = $2::bytea),
       EXISTS (SELECT FROM gapless.tokens t WHERE t.chain_id = $1::bigint AND t.address = $2::bytea)
"""
