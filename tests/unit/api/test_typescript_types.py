"""What the generator of the TypeScript client looks for in the OpenAPI document is what the document says."""

import re
from pathlib import Path

from api import schemas

GENERATOR = (Path(__file__).resolve().parents[3] / "clients" / "typescript" / "generate.js").read_text("utf-8")


def test_digits_are_known_by_their_pattern():
    found = re.search(r'^const DIGITS = "(.+)";$', GENERATOR, re.M)
    assert found
    assert found[1] == schemas.DIGITS["pattern"]
    assert schemas.type_schema("uint56")["pattern"] == found[1]
    assert schemas.type_schema("int256[2]")["items"]["pattern"] == found[1]
    assert schemas.type_schema("uint48") == {"type": "integer"}


def test_hex_is_known_by_how_its_pattern_begins():
    for schema in (schemas.ADDRESS, schemas.HASH, schemas.HEX, schemas.type_schema("bytes4")):
        assert schema["type"] == "string"
        assert schema["pattern"].startswith("^0x")
    assert "pattern" not in schemas.type_schema("string")
