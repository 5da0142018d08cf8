"""``start_block = "auto"``: what nodes say of code is compared with what the contract said."""

import logging

import pytest

from indexer.chain.logs.earliest_log import EarliestLog
from indexer.chain.records.messages import Header
from indexer.sync.setup.deployment_block import DeploymentUnknownError, as_old_as_its_logs, first_with_code

ADDRESS = b"\x11" * 20


class Node:
    """A contract of block 100 that speaks in every block; its state is known from `state` on, its logs from `logs`."""

    def __init__(self, *, state: int = 0, logs: int = 0) -> None:
        self.state = state
        self.since = logs
        self.asked = 0

    def head(self) -> Header:
        return Header(1_000, bytes(32), bytes(32), 0)

    def tagged(self, _tag: str) -> Header | None:
        return self.head()

    def code(self, _address: bytes, block: int | str = "latest") -> bytes:
        self.asked += 1
        return b"\1" if not isinstance(block, int) or block >= max(100, self.state) else b""

    def earliest_log(self, _address: bytes, last: int) -> EarliestLog:
        first = max(100, self.since)
        return EarliestLog(first if first <= last else None, min(self.since, last + 1))


def test_an_archive_node_is_believed_for_sure() -> None:
    node = Node()
    assert first_with_code(node, ADDRESS, 1_000, "a on b") == 100
    assert as_old_as_its_logs(node, ADDRESS, 100, "a on b") == (100, 0)


@pytest.mark.promise("O-12")
def test_a_node_that_answers_0x_for_old_code_hides_no_rows(caplog: pytest.LogCaptureFixture) -> None:
    """92 of 98 rows were missing, and coverage was whole."""
    node = Node(state=900)
    found = first_with_code(node, ADDRESS, 1_000, "a on b")
    assert found == 900
    assert as_old_as_its_logs(node, ADDRESS, found, "a on b") == (100, 0)
    assert "it spoke in block 100" in caplog.text


def test_what_is_known_to_be_older_and_cannot_be_found_out_is_refused() -> None:
    with pytest.raises(DeploymentUnknownError, match="no code before block 900, and it spoke in block 500"):
        as_old_as_its_logs(Node(state=900, logs=500), ADDRESS, 900, "a on b")


@pytest.mark.promise("O-12")
def test_what_nobody_can_tell_is_said_to_be_unsure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert as_old_as_its_logs(Node(logs=100), ADDRESS, 100, "a on b") == (100, 100)
    assert "do not tell whether it spoke before block 100" in caplog.text
