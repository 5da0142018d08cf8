"""Health of an endpoint as a state machine, in made-up time."""

from hypothesis import given
from hypothesis import strategies as st

from indexer.chain.rpc.health import EndpointHealth


def fail(health: EndpointHealth, times: int, now: float = 0.0) -> list[bool]:
    return [health.failed(now, "refused") for _ in range(times)]


def test_an_endpoint_is_unknown_until_it_answers() -> None:
    health = EndpointHealth()
    assert health.state == "unknown"
    assert health.succeeded()
    assert health.state == "healthy"
    assert not health.succeeded()


def test_three_failures_in_a_row_make_it_unhealthy() -> None:
    health = EndpointHealth()
    health.succeeded()
    assert fail(health, 3) == [False, False, True]
    assert (health.state, health.reason) == ("unhealthy", "refused")


def test_an_answer_in_between_keeps_it_healthy_but_not_for_ever() -> None:
    health = EndpointHealth()
    health.succeeded()
    outcomes = []
    for _ in range(12):
        outcomes += fail(health, 2)
        if health.state == "unhealthy":
            break
        health.succeeded()
    assert any(outcomes), "two failures to one answer are too many"
    assert health.error_rate > 0.5


def test_after_a_pause_somebody_probes_and_an_answer_heals() -> None:
    health = EndpointHealth()
    fail(health, 3, now=100.0)
    assert not health.due(104.9)
    assert health.due(105.0)
    health.probing(105.0)
    assert health.state == "unknown"
    assert not health.due(105.0), "one probes, not everybody"
    assert health.succeeded()
    assert health.error_rate == 0.0


def test_each_failed_probe_doubles_the_pause_up_to_a_bound() -> None:
    health = EndpointHealth()
    fail(health, 3)
    now, pauses = 0.0, []
    for _ in range(10):
        start = now
        while not health.due(now):
            now += 1.0
        pauses.append(now - start)
        health.probing(now)
        assert health.failed(now, "still refused"), "one failure is enough for one who was ill"
    assert pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert max(pauses) == 300.0


def test_a_fatal_refusal_takes_it_out_until_a_probe_says_otherwise() -> None:
    health = EndpointHealth()
    health.succeeded()
    assert health.ended(0.0, "HTTP 401")
    assert health.is_out
    assert not health.due(599.0)
    assert health.due(600.0)
    health.probing(600.0)
    assert health.is_out, "nobody else asks it meanwhile"
    health.succeeded()
    assert not health.is_out


def test_a_banned_endpoint_never_comes_back() -> None:
    health = EndpointHealth()
    health.banned("another chain")
    assert health.is_banned
    assert health.is_out
    assert not health.due(1e9)


def test_a_block_that_it_lacked_is_held_against_it_for_a_moment() -> None:
    health = EndpointHealth()
    health.said_head(110)
    health.lacks(105, now=10.0)
    assert health.behind(105, 10.5)
    assert health.behind(200, 10.5)
    assert not health.behind(104, 10.5)
    assert not health.behind(105, 13.0)
    health.lacks(105, now=20.0)
    health.saw(105)
    assert not health.behind(105, 20.0)
    assert (health.head, health.seen) == (105, 105)


def test_a_block_shown_is_not_the_newest_block() -> None:
    health = EndpointHealth()
    health.saw(100)
    assert (health.head, health.seen) == (None, 100)
    health.said_head(90)
    assert (health.head, health.seen) == (90, 90), "after a reorg the chain may be shorter"


def test_what_it_refuses_is_kept_apart_from_its_health() -> None:
    health = EndpointHealth()
    health.succeeded()
    health.refuses("eth_getBlockReceipts", None, 0.0)
    health.refuses("eth_call", 1_000, 0.0)
    health.refuses("eth_call", 500, 0.0)
    assert health.state == "healthy"
    assert not health.allows("eth_getBlockReceipts", 5, 1.0)
    assert not health.allows("eth_getBlockReceipts", None, 1.0)
    assert not health.allows("eth_call", 1_000, 1.0)
    assert health.allows("eth_call", 1_001, 1.0)
    assert health.allows("eth_call", None, 1.0)
    assert health.allows("eth_getLogs", 5, 1.0)
    assert health.refusals(1.0) == {"eth_getBlockReceipts": None, "eth_call": 1_000}
    assert health.allows("eth_call", 5, 1_801.0), "it is asked again much later"


@given(st.lists(st.sampled_from(["ok", "fail", "ended", "probe", "wait"]), max_size=60))
def test_it_can_always_recover(events: list[str]) -> None:
    health = EndpointHealth()
    now = 0.0
    for event in events:
        now += 1.0
        match event:
            case "ok":
                health.succeeded()
            case "fail":
                health.failed(now, "x")
            case "ended":
                health.ended(now, "x")
            case "probe" if health.due(now):
                health.probing(now)
            case "wait":
                now += 100.0
    if health.state == "unhealthy":
        assert health.due(now + 601.0)
        health.probing(now + 601.0)
    health.succeeded()
    assert health.state == "healthy"
    assert not health.is_out


def test_refused_history_is_asked_for_again_soon_and_then_less_and_less_often() -> None:
    health, now, pauses = EndpointHealth(), 0.0, []
    for _ in range(9):
        health.refuses("eth_getLogs", 90, now)
        health.refuses("eth_getLogs", 100, now + 1.0)  # what is said meanwhile is no second refusal
        since = now
        while not health.allows("eth_getLogs", 95, now):
            assert health.allows("eth_getLogs", 101, now)
            now += 1.0
        pauses.append(now - since - 1.0)
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0, 1800.0]
    health.refuses("eth_getLogs", 100, now + 3_000.0)  # long after: it kept that history in between
    assert health.allows("eth_getLogs", 100, now + 3_030.0)
