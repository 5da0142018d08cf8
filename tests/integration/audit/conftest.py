"""A database in which a whole chain is indexed and digested, for each test a copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from indexer.demo.world import manifest_text
from indexer.sync import audit as auditing
from indexer.sync.audit import table_checks
from tests.conftest import copy_of
from tests.integration.sync.rig import Rig, rig


def node_url(history) -> str:
    return history.world.w3.provider.endpoint_uri


@pytest.fixture(scope="session")
def _indexed(shared_history, postgres_url, _migrated, tmp_path_factory) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("manifest")
    with copy_of(postgres_url, _migrated) as url:
        with rig(manifest_text(shared_history.world), path, node_url(shared_history), url) as one:
            follower = one.follower()
            one.catch_up(follower)
            follower.close()
            assert table_checks.take_digests(one.engine, one.chain.chain_id) > 0
        yield url.rpartition("/")[2]


@pytest.fixture
def indexed(shared_history, postgres_url, _indexed, tmp_path) -> Iterator[Rig]:
    """A rig whose chain is indexed to its head, all of its history digested, nothing wrong."""
    with (
        copy_of(postgres_url, _indexed) as url,
        rig(manifest_text(shared_history.world), tmp_path, node_url(shared_history), url) as one,
    ):
        yield one


def run(one: Rig, **arguments) -> auditing.Report:
    """Audits the rig's chain."""
    clients = {"client": arguments.pop("client", one.client), "other": arguments.pop("other", None)}
    return auditing.audit(one.engine, one.chain.chain_id, one.chain.name, auditing.Request(**arguments), **clients)


def execute(one: Rig, statement: str, *parameters) -> int:
    """Tampers with the database; returns how many rows that changed."""
    with psycopg.connect(one.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as c:
        return c.execute(statement, parameters).rowcount
