"""Fields that are null mean the same as fields that are missing."""

from typing import Any

import pytest

from indexer.abi.model import parse_abi


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function", "name": "f", "inputs": None, "outputs": None, "stateMutability": None},
        {"type": None, "name": "f"},
        {"type": "event", "name": "E", "inputs": None, "anonymous": None},
        {"type": "error", "name": "X", "inputs": None},
        {"type": "constructor", "inputs": None},
        {"type": "event", "name": "E", "inputs": [{"name": None, "type": "uint256", "indexed": None}]},
        {"type": "function", "name": "f", "outputs": [{"name": "a", "type": "uint256", "components": None}]},
    ],
)
def test_null_is_nothing(item: dict[str, Any]) -> None:
    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(one) for key, one in value.items() if one is not None}
        return [bare(one) for one in value] if isinstance(value, list) else value

    found = parse_abi([item])
    assert found == parse_abi([bare(item)])
    assert "None" not in repr(found.document)
