"""Keys never leave: not by errors, their causes, their tracebacks, representations or the log of other libraries."""

import logging
import traceback

import pytest
import requests
import urllib3

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import ProviderError
from indexer.chain.records.messages import Call
from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from indexer.redact import Redactor
from tests.posts import HttpAnswer
from tests.providers.history import make_history
from tests.providers.node import Fragments, Node, Refusal, serving

KEY = "secret-key-of-mine"
FAST = ClientSettings(attempts=2, first_backoff=0.001, read_timeout=2.0)


@pytest.fixture(scope="module")
def fragments() -> Fragments:
    return Fragments(make_history(100, 50))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key abcdefgh12345 is invalid", "key *** is invalid"),
        ("https://eth.example/v2/abcdefgh12345: refused", "https://eth.example/***: refused"),
        ("url: /v2/abcdefgh12345", "url: /v2/***"),
        ("password hunter2!", "password ***"),
        ("v2 is a word", "v2 is a word"),
        ("a%2Fb%2Fc%2Fd or a/b/c/d", "*** or ***"),
        ("token Zz9", "token ***"),
    ],
)
def test_known_secrets_are_taken_out_wherever_they_stand(text: str, shown: str) -> None:
    urls = ["https://user:hunter2!@eth.example/v2/abcdefgh12345", "https://x.example/?key=a%2Fb%2Fc%2Fd"]
    assert Redactor(urls, ["Zz9"]).text(text) == shown


def test_a_configuration_shows_its_host_only() -> None:
    config = EndpointConfig(f"https://eth.example/v2/{KEY}", headers={"Authorization": "Bearer hunter2"})
    assert KEY not in f"{config!r} {config} {config.host}"
    assert "hunter2" not in repr(config)
    client = ChainClient("demo", 1, [config])
    endpoint = client.pool.endpoints[0]
    shown = f"{endpoint.provider} {endpoint.provider!r} {endpoint.status()} {client.describe()}"
    assert KEY not in shown
    assert "https://eth.example/***" in shown


def quotes_the_key(node: Node, _: object) -> None:
    raise Refusal(-32000, f"project {KEY} has no access, see {node.url}", {"project": KEY}, 403)


def quotes_the_key_in_html(node: Node, _: object) -> None:
    raise HttpAnswer(200, f"<html>{node.url}</html>".encode())


def closes(_: Node, __: object) -> None:
    raise HttpAnswer(0, b"")


def redirects(_: Node, __: object) -> None:
    raise HttpAnswer(302, b"", {"Location": f"http://127.0.0.1:9/{KEY}"})


@pytest.mark.promise("S-01")
@pytest.mark.parametrize("vice", [quotes_the_key, quotes_the_key_in_html, closes, redirects, None])
def test_no_error_bears_the_key(fragments: Fragments, vice: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    node = Node(fragments, before=vice)  # type: ignore[arg-type]
    with serving(node) as url:
        target = url if vice else f"http://127.0.0.1:9/v2/{KEY}"
        client = ChainClient("demo", 1, [EndpointConfig(target)], settings=FAST)
        with pytest.raises(ProviderError) as caught:
            client.head()
        with pytest.raises(ProviderError) as checked:
            client.check()
        with pytest.raises(ProviderError) as single:
            client.pool.endpoints[0].ask_one(Call("eth_chainId", ()), RequestContext())
    for error in (caught.value, checked.value, single.value):
        assert KEY not in "".join(traceback.format_exception(error))
        assert KEY not in f"{error!r} {error} {error.hint} {vars(error)}"
        chained: BaseException | None = error
        while chained is not None:
            assert KEY not in f"{chained!r}"
            chained = chained.__cause__ or chained.__context__
    assert KEY not in caplog.text
    assert KEY not in str(client.describe())


@pytest.mark.parametrize(
    "foreign",
    [
        requests.ConnectTimeout(
            f"HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /v2/{KEY} (Caused by x)"
        ),
        requests.ConnectionError(f"something about https://h/v2/{KEY} and {KEY}"),
        requests.exceptions.ChunkedEncodingError(f"cut short: http://h/{KEY}"),
        requests.exceptions.InvalidURL(f"Invalid URL 'http:///{KEY}'"),
        urllib3.exceptions.ProtocolError(f"broken: {KEY}"),
        OSError(5, f"odd: https://h/v2/{KEY}"),
        requests.ReadTimeout(f"HTTPConnectionPool(host='h', port=80): Read timed out. {KEY}"),
    ],
)
def test_no_foreign_exception_passes_its_text_on(foreign: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = ChainClient("demo", 1, [EndpointConfig(f"https://h/v2/{KEY}")]).pool.endpoints[0]

    def fail(*_: object, **__: object) -> None:
        raise foreign

    monkeypatch.setattr(endpoint.provider._session, "post", fail)
    with pytest.raises(ProviderError) as caught:
        endpoint.ask_one(Call("eth_chainId", ()), RequestContext())
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in repr(caught.value.__context__)


@pytest.mark.promise("S-01")
def test_the_log_of_urllib3_shows_no_path(fragments: Fragments, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(Node(fragments)) as url:
        ChainClient("demo", 424242, [EndpointConfig(url)]).check()
    assert any(record.name == "urllib3.connectionpool" for record in caplog.records)
    assert KEY not in caplog.text
