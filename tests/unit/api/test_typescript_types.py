"""What the generator of the TypeScript client looks for in the OpenAPI document is what the document says."""

import re
from pathlib import Path

from api import schemas

GENERATOR = (Path(__file__).resolve().parents[3] / "clients" / "typescript" / "generate.js").read_text("utf-8")


def test_digits_are_known_by_their_pattern():
    found = re.search(r'^const DIGITS = "(.+)";$', GENERATOR, re.M)
    assert found
    assert found[1] == schemas.DIGITS["pattern"]
    assert schemas.type_schema("int256[2]")["items"] == schemas.ref("int256")
    assert schemas.elementary("uint56")["pattern"] == schemas.elementary("int256")["pattern"] == found[1]
    assert schemas.elementary("uint48") == {"type": "integer", "description": "uint48"}


def test_hex_is_known_by_how_its_pattern_begins():
    for schema in (schemas.ADDRESS, schemas.HASH, schemas.HEX, schemas.elementary("bytes4")):
        assert schema["type"] == "string"
        assert schema["pattern"].startswith("^0x")
    assert "pattern" not in schemas.elementary("string")
