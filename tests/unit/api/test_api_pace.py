"""A client's pace, by a clock that the test moves."""

from api.door import Pace


def test_a_client_that_takes_too_little_is_found_after_one_window():
    pace = Pace(100, 10.0)
    assert not pace.is_too_slow(0.0, 5000, is_waiting=True)
    assert not pace.is_too_slow(9.9, 5000, is_waiting=True)
    assert pace.is_too_slow(10.0, 5999, is_waiting=True)


def test_one_that_takes_enough_is_measured_again():
    pace = Pace(100, 10.0)
    pace.is_too_slow(0.0, 0, is_waiting=True)
    assert not pace.is_too_slow(10.0, 1000, is_waiting=True)
    assert not pace.is_too_slow(15.0, 1000, is_waiting=True)
    assert pace.is_too_slow(20.0, 1999, is_waiting=True)


def test_one_that_nothing_waits_for_is_not_slow():
    pace = Pace(100, 10.0)
    pace.is_too_slow(0.0, 0, is_waiting=True)
    assert not pace.is_too_slow(9.0, 0, is_waiting=False)
    assert not pace.is_too_slow(18.0, 0, is_waiting=True)
    assert not pace.is_too_slow(27.0, 0, is_waiting=True)
    assert pace.is_too_slow(28.0, 0, is_waiting=True)


def test_no_pace_is_asked_for():
    pace = Pace(0, 10.0)
    pace.is_too_slow(0.0, 0, is_waiting=True)
    assert not pace.is_too_slow(100.0, 0, is_waiting=True)
