"""What comes back at every beat is told once."""

import pytest

from indexer.chain.records.errors import AnswerError, LaggingError
from indexer.log import Trouble, Troubles, kind_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.promise("O-07")
def test_a_trouble_that_stays_is_told_once_whatever_its_text_says() -> None:
    clock = Clock()
    trouble = Trouble(Troubles(clock))
    told = []
    for number in range(1_000):
        clock.now += 4.0
        told.append(trouble.failed(kind_of(AnswerError(f"cut short after {number:,} bytes", host="https://a/***"))))
    assert told == ["new"] + [None] * 999
    assert trouble.worked()
    assert not trouble.worked()


def test_a_trouble_that_comes_and_goes_is_told_three_times_at_most() -> None:
    clock = Clock()
    trouble = Trouble(Troubles(clock))
    lines: list[object] = []
    for _ in range(1_000):
        clock.now += 4.0
        lines.append(trouble.failed("AnswerError https://a/***"))
        clock.now += 4.0
        lines.append(trouble.worked() and "works again")
    assert [line for line in lines if line] == ["new", "works again", "comes and goes"]
    clock.now += 61.0
    assert trouble.worked(), "it has worked for a minute"
    assert trouble.failed("AnswerError https://a/***") == "new"


def test_another_kind_and_another_host_are_other_troubles() -> None:
    trouble = Trouble(Troubles(Clock()))
    for error in (AnswerError("x", host="a"), LaggingError("x", host="a"), AnswerError("x", host="b")):
        assert trouble.failed(kind_of(error)) == "new"
    assert trouble.failed(kind_of(AnswerError("y", host="a"))) is None, "two that take turns are told once"


def test_a_fault_that_several_meet_is_told_by_one() -> None:
    troubles = Troubles(Clock())
    first, second = Trouble(troubles), Trouble(troubles)
    assert first.failed("TransientError a") == "new"
    assert second.failed("TransientError a") is None
    assert not second.worked(), "nothing was told of it"
    assert first.worked()
