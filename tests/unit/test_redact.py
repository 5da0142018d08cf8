"""What may be shown of URLs, wherever they stand."""

import traceback

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from indexer.redact import SecretUrl, redact, redact_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://eth.example/v2/SECRET", "https://eth.example/***"),
        ("https://eth.example", "https://eth.example/***"),
        ("https://eth.example:8545?key=SECRET", "https://eth.example:8545/***"),
        ("https://SECRET@eth.example", "https://eth.example/***"),
        ("wss://user:SECRET@eth.example/x", "wss://eth.example/***"),
        ("http://[::1]:8545/SECRET", "http://[::1]:8545/***"),
        ("postgresql://gapless:SECRET@db:5432/gapless", "postgresql://db:5432/***"),
        ("postgresql+psycopg://gapless:SECRET@db/gapless", "postgresql+psycopg://db/***"),
        ("redis://:SECRET@cache:6379/0", "redis://cache:6379/***"),
        ("postgresql://gapless:SE/CRET@db/gapless", "postgresql://***"),  # an unescaped slash: where is the host?
        ("postgresql://gapless:SEC@RET@db/gapless", "postgresql://db/***"),
        ("postgresql:///gapless?password=SECRET", "postgresql://***"),
        ("https://host/@SECRET", "https://***"),
        ("SECRET", "***"),
        ("", "***"),
    ],
)
def test_a_url(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nothing here", "nothing here"),
        ("see https://a.example/SECRET, then", "see https://a.example/***, then"),
        ("(https://a.example/SECRET)", "(https://a.example/***)"),
        (
            "'https://a.example/SECRET' and \"wss://b.example/SECRET\"",
            "'https://a.example/***' and \"wss://b.example/***\"",
        ),
        ("HTTPS://A.EXAMPLE/SECRET", "HTTPS://A.EXAMPLE/***"),
        ("listening on http://127.0.0.1:8000.", "listening on http://127.0.0.1:8000."),
        ("http://localhost/", "http://localhost/"),
        ("url=https://a.example/SECRET;next", "url=https://a.example/***"),
        ("rediss://:SECRET@a/0 postgres://u:SECRET@b/c", "rediss://a/*** postgres://b/***"),
        ("host=db password=SECRET user=x", "host=db password=*** user=x"),
        ("password = 'SEC RET' user=x", "password = *** user=x"),
        ("Authorization: Bearer SECRET.SECRET", "Authorization: Bearer ***"),
        ("exceeded with url: /v2/SECRET (Caused by x)", "exceeded with url: /*** (Caused by x)"),
        (
            'https://a.example:443 "POST /v2/SECRET HTTP/1.1" 200 None',
            'https://a.example:443 "POST /*** HTTP/1.1" 200 None',
        ),
        ('GET /v1/contracts "x"', 'GET /v1/contracts "x"'),
    ],
)
def test_a_text(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_real_exception_of_requests() -> None:
    try:
        requests.post("http://127.0.0.1:1/v2/SECRET?key=SECRET", timeout=1)
    except requests.ConnectionError:
        text = traceback.format_exc()
    assert "SECRET" in text, "this test shows nothing otherwise"
    assert "SECRET" not in redact(text)
    assert "Connection refused" in redact(text)


@pytest.mark.promise("S-01")
@given(
    st.sampled_from(["https://{}@host/x", "https://host/{}", "https://host?{}", "postgresql://u:{}@host:1/x"]),
    st.text(st.characters(categories=["L", "N"], include_characters="-._~%!$&()*+,;=:@/?#"), min_size=1),
)
def test_no_piece_of_a_secret_is_left(form: str, noise: str) -> None:
    secret = f"SECRET{noise}SECRET"
    assert "SECRET" not in redact(f"before {form.format(secret)} after")
    assert "SECRET" not in redact_url(form.format(secret))


class _Model(BaseModel):
    url: SecretUrl


def test_a_secret_url_shows_itself_to_nobody() -> None:
    url = SecretUrl("https://u:SECRET@eth.example/v2/SECRET")
    model = _Model(url=url)
    for shown in (
        str(url),
        repr(url),
        f"{url}",
        str([url]),
        repr(model),
        model.model_dump_json(),
        str(model.model_dump()),
    ):
        assert "SECRET" not in shown
    assert url.reveal() == "https://u:SECRET@eth.example/v2/SECRET"
    assert model == _Model(url="https://u:SECRET@eth.example/v2/SECRET")
    assert len({url, SecretUrl(url.reveal())}) == 1


@pytest.mark.parametrize(("text", "shown"), [
    (f"key gapless_{'aB3-_' * 8}xyz in a log", "key gapless_*** in a log"),
    ("query=after=1&access_token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.abc-_&x=1", "query=after=1&access_token=***&x=1"),
    ("secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw!", "secret whsec_***!"),
    ("gapless_endpoint_http_requests_total is a metric", "gapless_endpoint_http_requests_total is a metric"),
])  # fmt: skip
def test_keys_and_tokens_that_stand_alone(text: str, shown: str) -> None:
    assert redact(text) == shown
