"""What a page includes with its rows: what their tokens say of themselves, and their transactions."""

from api.sql import json_text


def _or_null(text: str) -> str:
    return f"coalesce({text}, 'null')"


_TRANSACTION = json_text.object_text(
    [
        ("from", _or_null(json_text.hex_text("x.sender"))),
        ("to", _or_null(json_text.hex_text("x.recipient"))),
        ("type", _or_null("x.type::text")),
        ("value", _or_null(json_text.quoted("x.value::text"))),
        ("nonce", _or_null(json_text.quoted("x.nonce::text"))),
        ("gas_limit", _or_null(json_text.quoted("x.gas_limit::text"))),
        ("status", _or_null("x.status::text")),
        ("gas_used", _or_null(json_text.quoted("x.gas_used::text"))),
        ("effective_gas_price", _or_null(json_text.quoted("x.effective_gas_price::text"))),
        ("created_contract", _or_null(json_text.hex_text("x.created_contract"))),
        ("complete", "(NOT x.is_lacking)::text"),
    ]
)


def tokens(addresses: str) -> str:
    """An expression for the addresses of a request's tokens, a JSON list; null where there are none.

    What they say of themselves is looked up apart (:mod:`api.token_lookup`).

    Args:
        addresses: a query of addresses.
    """
    return f"(SELECT json_agg(DISTINCT {json_text.hexadecimal('k.token')}) FROM ({addresses}) k(token))"


def transactions(chain_id: int, rows: str) -> str:
    """An expression for transactions by hash; null where there are no rows.

    One that is not kept, not yet, or that no node gives is null. One of which nodes did not give all that was asked for
    is not ``complete``.

    Args:
        chain_id: the chain.
        rows: a query of ``block_number`` and ``tx_hash``. Both are compared: a transaction of a branch that is gone can
            have come back in another block.
    """
    return f"""(SELECT json_object_agg('0x' || encode(p.tx_hash, 'hex'),
                             CASE WHEN x.tx_hash IS NOT NULL THEN ({_TRANSACTION})::json END)
     FROM (SELECT DISTINCT block_number, tx_hash FROM ({rows}) p) p LEFT JOIN (
         SELECT t.*, EXISTS (SELECT FROM gapless.missing_details m
                             WHERE m.chain_id = t.chain_id AND m.block_number = t.block_number
                               AND m.tx_index = t.tx_index) AS is_lacking
         FROM gapless.transactions t) x
       ON x.chain_id = {chain_id} AND x.tx_hash = p.tx_hash AND x.block_number = p.block_number)"""
