"""Webhooks without a network: signatures, secrets at rest, retries, messages."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from api.settings import SettingsError, load_settings
from api.webhooks import sealed_secrets, sender, subscription
from api.webhooks.sealed_secrets import SealedError, Vault
from api.webhooks.sender import DELAYS, JITTER, judge, parse_delays, parse_retry_after

NOW = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
OLD, NEW = "a" * 32, "b" * 32


@pytest.mark.promise("S-04")
@given(st.binary(max_size=200).map(lambda data: json.dumps({"a": data.hex(), "é": "🦊"}).encode()))
def test_signatures_are_what_standard_webhooks_checks(body):
    secret, other = sealed_secrets.new_secret(), sealed_secrets.new_secret()
    timestamp = int(datetime.now(UTC).timestamp())
    headers = sealed_secrets.headers("msg_1_2", timestamp, body, [secret])
    assert Webhook(secret).verify(body, headers) == json.loads(body)
    assert (
        Webhook(secret).sign("msg_1_2", datetime.fromtimestamp(timestamp, UTC), body.decode())
        == (headers["webhook-signature"])
    )
    for wrong in (
        lambda: Webhook(other).verify(body, headers),
        lambda: Webhook(secret).verify(body + b" ", headers),
        lambda: Webhook(secret).verify(body, {**headers, "webhook-id": "msg_1_3"}),
        lambda: Webhook(secret).verify(body, {**headers, "webhook-timestamp": str(timestamp + 1)}),
    ):
        with pytest.raises(WebhookVerificationError):
            wrong()
    both = sealed_secrets.headers("msg_1_2", timestamp, body, [other, secret])
    assert both["webhook-signature"].count("v1,") == 2
    Webhook(secret).verify(body, both)
    Webhook(other).verify(body, both)


def test_a_secret_has_32_bytes_and_none_that_is_wrong_is_repeated():
    assert len(sealed_secrets.key_of(sealed_secrets.new_secret())) == 32
    for wrong in ("", "whsec_", "whsec_c2hvcnQ=", "whsec_!" + "A" * 43, "other_" + "A" * 44):
        with pytest.raises(ValueError, match="a webhook's secret is whsec_") as caught:
            sealed_secrets.key_of(wrong)
        assert "AAAA" not in str(caught.value)


def test_an_id_cannot_be_mistaken_for_more():
    for wrong in ("a.1", "", "a b", "a\n", "é"):
        with pytest.raises(ValueError, match="no message id"):
            sealed_secrets.headers(wrong, 1, b"", [sealed_secrets.new_secret()])


@pytest.mark.promise("S-04")
def test_the_vault_opens_what_it_sealed_and_nothing_else():
    vault = Vault.of(OLD)
    sealed = vault.seal("whsec_x", "wh_1 secret")
    assert b"whsec" not in sealed
    assert sealed != vault.seal("whsec_x", "wh_1 secret")
    assert vault.open(sealed, "wh_1 secret") == "whsec_x"
    for damaged in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", b"\x02" + sealed[1:], sealed[:10]):
        with pytest.raises(SealedError):
            vault.open(damaged, "wh_1 secret")
    with pytest.raises(SealedError):
        vault.open(sealed, "wh_2 secret")
    with pytest.raises(SealedError, match="another WEBHOOKS_SECRET_KEY"):
        Vault.of(NEW).open(sealed, "wh_1 secret")


def test_a_key_is_replaced_by_putting_a_new_one_before_it():
    sealed = Vault.of(OLD).seal("x", "1")
    both = Vault.of(f"{NEW}, {OLD}")
    assert both.open(sealed, "1") == "x"
    assert Vault.of(NEW).open(both.seal("x", "1"), "1") == "x"


@pytest.mark.parametrize("keys", ["short-and-secret", f"{OLD},short-and-secret", ","])
def test_a_short_key_is_refused_and_not_repeated(keys, monkeypatch):
    monkeypatch.setenv("WEBHOOKS_SECRET_KEY", keys)
    with pytest.raises(SettingsError, match=r"WEBHOOKS_SECRET_KEY: .*32 characters") as caught:
        load_settings()
    assert "secret,short" not in str(caught.value)
    assert "short-and" not in str(caught.value)


def test_the_settings_are_read(monkeypatch):
    monkeypatch.setenv("WEBHOOKS_RETRY_DELAYS", "1,x")
    monkeypatch.setenv("WEBHOOKS_ALLOW_PRIVATE", "10.0.0.1/8")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "WEBHOOKS_RETRY_DELAYS" in str(caught.value)
    assert "WEBHOOKS_ALLOW_PRIVATE" in str(caught.value)


def test_the_delays_are_those_of_standard_webhooks():
    hour = 3600
    assert [5, 300, 1800, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour] == list(DELAYS)
    assert parse_delays(sender.DELAYS_TEXT) == DELAYS
    for wrong in ("", "1,,2", "-1", "nan", "inf"):
        with pytest.raises(ValueError):  # noqa: PT011
            parse_delays(wrong)


@pytest.mark.parametrize("status", [None, 100, 301, 307, 400, 404, 429, 500, 503])
def test_whatever_is_no_2xx_is_tried_again_for_days(status):
    waits = [judge(status, failures, random=lambda: 0.0).wait for failures in range(len(DELAYS) + 1)]
    assert waits == [*DELAYS, None]
    assert judge(status, 3, random=lambda: 1.0).wait == DELAYS[3] * (1 + JITTER)
    assert not judge(status, 0, random=lambda: 0.0).acknowledged


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_any_2xx_is_an_acknowledgement(status):
    assert judge(status, 5, random=lambda: 0.0) == sender.Verdict(acknowledged=True)


def test_410_is_the_end():
    assert judge(410, 0, random=lambda: 0.0) == sender.Verdict(acknowledged=False, gone=True)


def test_retry_after_is_heeded_within_reason():
    def wait(status, retry_after):
        return judge(status, 0, retry_after=retry_after, random=lambda: 0.0).wait

    assert wait(429, 60.0) == wait(503, 60.0) == 60
    assert wait(429, 1.0) == 5, "sooner than planned is not asked for"
    assert wait(429, 1e9) == 86_400
    assert wait(500, 60.0) == 5, "only 429 and 503 say it"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120), (" 0 ", 0), ("9" * 50, 999_999_999), ("Sat, 21 Nov 2026 12:01:00 GMT", 59.75)]
    + [("Sat, 21 Nov 2020 12:01:00 GMT", 0)]
    + [(text, None) for text in (None, "", "soon", "-1", "1.5", "٣", "Sat, 99 Nov 2026 12:01:00 GMT", "," * 50)],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert parse_retry_after(text, NOW) == seconds


def test_messages_say_what_they_are():
    made = subscription.rows(
        "wh_ab", 7, 1, [b'{"id":"5-1"}', b'{"id":"5-2"}'], position="5-2.00", told_block=5, now=NOW
    )
    assert made.message_id == "msg_ab_7"
    assert json.loads(made.body) == {
        "type": "event.rows",
        "timestamp": "2026-11-21T12:00:00.250Z",
        "data": {
            "webhook": "wh_ab",
            "sequence": 7,
            "chain_id": 1,
            "cursor": "5-2.00",
            "rows": [{"id": "5-1"}, {"id": "5-2"}],
        },
    }
    local = NOW.astimezone(tz=None) + timedelta(0)
    gone = subscription.reverted("wh_ab", 8, 1, 4, position="4-9", why="reorg", now=local)
    assert json.loads(gone.body) == {
        "type": "event.reverted",
        "timestamp": "2026-11-21T12:00:00.250Z",
        "data": {
            "webhook": "wh_ab",
            "sequence": 8,
            "chain_id": 1,
            "cursor": "4-9",
            "common_block": 4,
            "reason": "reorg",
        },
    }
    assert gone.told_block == 4
    assert json.loads(subscription.test("wh_ab", NOW))["type"] == "webhook.test"


def test_a_message_has_as_many_rows_as_fit_and_one_at_least():
    assert subscription.fitting([3, 3, 3], 9) == 3
    assert subscription.fitting([3, 3, 3], 8) == 2
    assert subscription.fitting([10, 3], 8) == 1
