"""JSON Schemas (2020-12, as OpenAPI 3.1 takes them) of what the API answers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from api.errors import CODES
from indexer.abi.columns import Column, Component

Schema = dict[str, Any]

ADDRESS: Final[Schema] = {"type": "string", "pattern": "^0x[0-9a-f]{40}$", "examples": ["0x" + "a0" * 20]}
HASH: Final[Schema] = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}
HEX: Final[Schema] = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}
BLOCK: Final[Schema] = {"type": "integer", "minimum": 0}
LINKS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
FINALITY: Final[Schema] = {"type": "string", "enum": ["latest", "safe", "finalized"]}
DIGITS: Final[Schema] = {
    "type": "string",
    "pattern": "^(0|-?[1-9][0-9]*)$",
    "description": "An integer of more than 48 bits, as a string of digits: a JSON number would lose some.",
}


def ref(name: str, kind: str = "schemas") -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def an_object(members: Mapping[str, Any], *, required: Iterable[str] | None = None, description: str = "") -> Schema:
    """An object with these members.

    Args:
        members: their schemas.
        required: which are always there; left out, all.
        description: for people.
    """
    names = list(members if required is None else required)
    schema: Schema = {"type": "object"}
    if members:
        schema["properties"] = dict(members)
    if names:
        schema["required"] = names
    if description:
        schema["description"] = description
    return schema


def an_array(items: Schema) -> Schema:
    """An array of these."""
    return {"type": "array", "items": items}


RANGES: Final[Schema] = {
    "type": "array",
    "items": {"type": "array", "items": BLOCK, "minItems": 2, "maxItems": 2},
    "description": "Ranges of blocks, first and last, both included.",
}

COMPONENTS: Final[Mapping[str, Schema]] = {
    "Error": an_object(
        {
            "error": {"type": "string", "description": "For a person."},
            "code": {"type": "string", "enum": sorted(CODES)},
            "details": an_array(an_object({"parameter": {"type": "string"}, "message": {"type": "string"}})),
            "common_block": {**BLOCK, "description": "REORGED: the last block that both branches share."},
        },
        required=("error", "code"),
    ),
    "Page": an_object(
        {
            "next": nullable({"type": "string", "description": "`after` of the next page."}),
            "prev": nullable({"type": "string", "description": "`before` of the previous page."}),
            "last": nullable({"type": "string", "description": "`after` of what may follow later."}),
            "limit": {"type": "integer"},
            "count": {"type": "integer", "minimum": 0, "description": "All rows of the request, where asked for."},
            "count_is": {"type": "string", "enum": ["exact", "estimated"]},
        },
        required=("next", "prev", "last", "limit"),
    ),
    "Meta": an_object(
        {
            "chain_id": {"type": "integer"},
            "indexed_block": nullable({**BLOCK, "description": "Newest indexed block."}),
            "head_block": nullable({**BLOCK, "description": "Newest block of the chain, as far as known."}),
            "finalized_block": nullable({**BLOCK, "description": "Newest block that cannot be reorganised."}),
            "lag_seconds": nullable({"type": "integer", "minimum": 0, "description": "Age of what is indexed."}),
            "complete": {"type": "boolean", "description": "Whether every wanted block of the request is indexed."},
            "missing": {**RANGES, "description": "Blocks of the request that are not indexed yet; at most 100 ranges."},
            "filtered": {
                **an_array({"type": "string"}),
                "description": "Events of which filters in the manifest leave some out: there may be more.",
            },
            "at_block": nullable({**BLOCK, "description": "Balances: true at the end of this block."}),
            "ledgers": {
                **an_array(
                    an_object(
                        {
                            "contract": {"type": "string"},
                            "kind": {"type": "string"},
                            "at_block": nullable(BLOCK),
                            "stale": {"type": "boolean", "description": "It goes no further."},
                            "remark": nullable({"type": "string", "description": "Why it is stale."}),
                        }
                    )
                ),
                "description": "Holders: by whose transfers they are counted, and how far. "
                "Balances: contracts whose transfers are not counted as far as that.",
            },
            "exact": {"type": "boolean", "description": "Balances of one token: they follow from its transfers."},
            "problem": nullable({"type": "string", "description": "Why not, as far as known."}),
            "missing_ranges": {"type": "integer", "description": "How many ranges, where there are more than 100."},
        },
        required=("chain_id",),
    ),
    "Transaction": an_object(
        {
            "from": nullable(ADDRESS),
            "to": nullable({**ADDRESS, "description": "Null: it created a contract."}),
            "type": nullable({"type": "integer", "description": "EIP-2718."}),
            "value": nullable({**DIGITS, "description": "Wei."}),
            "nonce": nullable(DIGITS),
            "gas_limit": nullable(DIGITS),
            "status": nullable({"type": "integer", "minimum": 0, "description": "1: success."}),
            "gas_used": nullable(DIGITS),
            "effective_gas_price": nullable({**DIGITS, "description": "Wei per gas."}),
            "created_contract": nullable(ADDRESS),
            "complete": {
                "type": "boolean",
                "description": "False: nodes did not give all that the manifest asks for of it; the rest is null.",
            },
        },
        description='What the manifest asks for with include = ["transaction", "receipt"]; the rest is null.',
    ),
    "Token": an_object(
        {
            "symbol": nullable({"type": "string"}),
            "name": nullable({"type": "string"}),
            "decimals": nullable({"type": "integer", "description": "Null if unknown, which is neither 0 nor 18."}),
        }
    ),
}


#: What goes with rows, by its member of the answer.
INCLUDED: Final[Mapping[str, Schema]] = {
    "tokens": {
        "type": "object",
        "additionalProperties": ref("Token"),
        "description": "By address, with include=token.",
    },
    "transactions": {
        "type": "object",
        "additionalProperties": nullable(ref("Transaction")),
        "description": "By hash, with include=tx; null where the manifest does not ask for it, it is not fetched yet, "
        "or no node gives it.",
    },
}


#: The component for what the log holds of an indexed argument of a dynamic type.
HASHED: Final = "keccak256"


def column_schema(column: Column) -> Schema:
    """What an argument or output looks like in an answer, as :func:`type_schema`."""
    return ref(HASHED) if column.hashed else type_schema(column.abi_type, column.components)


def type_schema(abi_type: str, components: Sequence[Component] = ()) -> Schema:
    """What a value of an ABI type looks like in an answer. Elementary types are components of the document.

    Args:
        abi_type: canonical: ``uint256``, ``address[]``, ``(bool,bytes)[3]``.
        components: of the tuple that it is or holds.
    """
    if array := re.fullmatch(r"(.*)\[([0-9]*)\]", abi_type):
        schema = an_array(type_schema(array[1], components))
        if array[2]:
            schema |= {"minItems": int(array[2]), "maxItems": int(array[2])}
        return schema
    if abi_type.startswith("("):
        return an_object({c.name: type_schema(c.abi_type, c.components) for c in components})
    return ref(abi_type)


def elementary(abi_type: str) -> Schema:
    """The component of an elementary ABI type, or of :data:`HASHED`."""
    if abi_type == HASHED:
        return {**HASH, "description": "The hash of an indexed text, bytes, array or tuple: the log holds no more."}
    return {**_elementary(abi_type), "description": abi_type}


def _elementary(abi_type: str) -> Schema:
    if match := re.fullmatch(r"u?int([0-9]+)", abi_type):
        return {"type": "integer"} if int(match[1]) <= 48 else DIGITS
    if match := re.fullmatch(r"bytes([0-9]+)", abi_type):
        return {"type": "string", "pattern": f"^0x[0-9a-f]{{{2 * int(match[1])}}}$"}
    if "fixed" in abi_type:
        return {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
    return {"address": ADDRESS, "bool": {"type": "boolean"}, "string": {"type": "string"}}.get(abi_type, HEX)
