"""What stands still is told by the API itself: /status, /ready, the page and the administrator's port."""

from __future__ import annotations

import contextlib

import pytest
import requests

from api.metrics import admin, own_registry
from indexer.store.database import refuses_changes

STILL = "no new block is indexed since"


@pytest.fixture
def ready_of_admin(world_url):
    """Asks the administrator's port of an API whether it is ready."""
    with contextlib.ExitStack() as stack:

        def ask(**settings: bool) -> tuple[int, str]:
            server = stack.enter_context(admin("127.0.0.1", 0, own_registry(), world_url, **settings))
            assert server is not None
            answer = requests.get(f"{server.url}/ready", timeout=10)
            return answer.status_code, answer.text

        yield ask


def _chain(client) -> dict[str, object]:
    (found,) = (c for c in client.get("/status")["data"]["chains"] if c["name"] == "ethereum")
    return found


def test_a_chain_that_stands_still_is_told(make_client, seed, ready_of_admin):
    seed.execute("UPDATE gapless.chains SET head_seen_at = now(), moved_at = now(), state = 'following'")
    own, strict = make_client(), make_client(ready_fails_when_stalled=True)
    assert _chain(own)["state"] == "following"
    assert strict.get("/ready")["status"] == "ready"
    seed.execute("UPDATE gapless.chains SET moved_at = now() - interval '1 day' WHERE name = 'ethereum'")
    told = _chain(own)
    assert (told["state"], told["stalled"]) == ("stalled", True)
    assert STILL in str(told["state_reason"])
    assert own.get("/ready")["status"] == "ready"
    assert "ethereum" in strict.refused("/ready", 503, "NOT_READY")["error"]
    shown = own.ask("/").text
    assert "Something is wrong" in shown
    assert f"ethereum stands still: {STILL}" in shown
    assert ready_of_admin()[0] == 200
    status, text = ready_of_admin(fails_when_stalled=True)
    assert (status, "ethereum" in text) == (503, True)


def test_a_full_disk_is_told(make_client, seed, ready_of_admin):
    from psycopg.errors import DiskFull

    why = refuses_changes(DiskFull("could not extend file: No space left on device"))
    seed.execute("UPDATE gapless.chains SET head_seen_at = now(), moved_at = now(), state = 'following'")
    own, strict = make_client(), make_client(ready_fails_when_stalled=True)
    assert "database" not in own.get("/ready")
    assert ready_of_admin()[0] == 200
    seed.execute("UPDATE gapless.chains SET state = 'waiting', state_reason = %s WHERE name = 'ethereum'", (why,))
    assert _chain(own)["state_reason"] == why
    # Reading works, so it is ready; that no block comes is told, and counts where the operator wants it to.
    assert own.get("/ready")["database"] == "Postgres' disk is full"
    assert "disk is full" in strict.refused("/ready", 503, "NOT_READY")["error"]
    shown = own.ask("/").text
    assert "Something is wrong" in shown
    assert "disk is full" in shown
    status, text = ready_of_admin()
    assert (status, "disk is full" in text) == (503, True)
    # What stands still for long enough is stalled, and says why all the same.
    seed.execute("UPDATE gapless.chains SET moved_at = now() - interval '1 day' WHERE name = 'ethereum'")
    assert "disk is full" in str(_chain(own)["state_reason"])


def test_an_idle_chain_for_development_is_well(make_client, seed):
    seed.execute(
        "UPDATE gapless.chains SET head_seen_at = now(), moved_at = now() - interval '1 day', state = 'following', "
        "head_number = tip_number, dev = true"
    )
    assert not _chain(make_client())["stalled"]
    assert make_client(ready_fails_when_stalled=True).get("/ready")["status"] == "ready"
