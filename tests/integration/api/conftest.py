"""The API over a seeded database, without a server in between."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from api.app import create_app
from api.context import Context, create_context
from api.settings import ApiSettings
from indexer.store import database
from indexer.store.apply import migrate
from tests import databases
from tests.integration.api import world
from tests.integration.api.seed import Seed

ABIS = Path(__file__).resolve().parents[3] / "abis"


class Client:
    """Asks the API; ``get`` insists on 200 and returns the JSON."""

    def __init__(self, app: Any) -> None:
        self.http = falcon.testing.TestClient(app)

    def ask(self, path: str, method: str = "GET", **headers: str) -> falcon.testing.Result:
        """``method path?query`` as it stands, with headers (``if_none_match=...``)."""
        path, _, query = path.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.simulate_request(method, path, query_string=query, headers=named)

    def send(self, path: str, body: Any = None, method: str = "POST", **headers: str) -> falcon.testing.Result:
        """``method path`` with a JSON body, and headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.simulate_request(method, path, json=body, headers=named)

    def get(self, path: str, **headers: str) -> Any:
        result = self.ask(path, **headers)
        assert result.status_code == 200, (path, result.text)
        return result.json

    def refused(self, path: str, status: int, code: str, **headers: str) -> Any:
        """The body of an answer that must be this error."""
        result = self.ask(path, **headers)
        assert (result.status_code, result.json.get("code")) == (status, code), (path, result.text)
        assert result.json["error"]
        return result.json


@pytest.fixture(scope="session")
def world_template(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a database with the world in it, to be copied."""
    url = databases.create(postgres_url, prefix="world")
    engine = database.create_engine(url)
    migrate.upgrade(engine)
    engine.dispose()
    seed = Seed(url, tmp_path_factory.mktemp("manifest"))
    world.build(seed, {path.name: json.loads(path.read_text()) for path in ABIS.glob("*.json")})
    seed.execute("ANALYZE")
    seed.close()
    yield url.rpartition("/")[2]
    databases.drop(postgres_url, url)


@pytest.fixture(scope="session")
def copy_world(postgres_url: str, world_template: str) -> Callable[[], str]:
    """Make a copy of the world. They vanish with the server: to drop hundreds of them takes minutes."""
    return lambda: databases.create(postgres_url, world_template, "copy")


@pytest.fixture(scope="session")
def api_context(copy_world: Callable[[], str]) -> Iterator[Context]:
    """What the resources of :func:`api` share."""
    context = create_context(ApiSettings(api_unindexed_window=50), copy_world(), None)
    yield context
    context.close()


@pytest.fixture(scope="session")
def api(api_context: Context) -> Client:
    """The API over a world that no test changes."""
    return Client(create_app(api_context))


@pytest.fixture
def world_url(copy_world: Callable[[], str]) -> str:
    """A copy of the world for this test alone."""
    return copy_world()


@pytest.fixture
def seed(world_url: str, tmp_path: Path) -> Iterator[Seed]:
    """Writes into this test's world."""
    seed = Seed(world_url, tmp_path)
    for path in ABIS.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "zoo.json").write_text(json.dumps(world.ZOO_ABI))
    yield seed
    seed.close()


@pytest.fixture
def make_client(world_url: str) -> Iterator[Callable[..., Client]]:
    """Make APIs over this test's world, with settings of its own."""
    contexts = []

    def make(redis_url: str | None = None, url: str | None = None, **settings: Any) -> Client:
        contexts.append(create_context(ApiSettings(**settings), url or world_url, redis_url))
        return Client(create_app(contexts[-1]))

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def own(make_client: Callable[..., Client]) -> Client:
    """The API over this test's own world, which ``seed`` can change."""
    return make_client()
