"""Times at the edges: none that is stored or configured makes what reads it fail."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from api.settings import SettingsError, load_settings
from indexer.cli import app
from indexer.manifest.document import parse_schedule
from indexer.store import database
from indexer.store.access import keys

FAR = ["10000-01-01 00:00:00+00", "294276-12-31 23:59:59+00", "infinity", "-infinity", "0044-03-15 00:00:00+00 BC"]


@pytest.fixture
def admin(world_url) -> str:
    engine = database.create_engine(world_url)
    with engine.begin() as connection:
        key = keys.create(connection, "admin", scopes=("admin", "webhooks"))[1]
    engine.dispose()
    return f"Bearer {key}"


@pytest.mark.parametrize("moment", [
    "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z", "2500-01-01T00:00:00Z", "10000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00", 253402300800, 1e300, "infinity",
])  # fmt: skip
def test_no_key_ends_in_another_age(make_client, admin, moment):
    client = make_client()
    answer = client.send("/v1/keys", {"name": "x", "expires_at": moment}, authorization=admin)
    assert (answer.status_code, answer.json["code"]) == (400, "INVALID_PARAMETER"), answer.text
    assert len(client.get("/v1/keys", authorization=admin)["data"]) == 1
    soon = (datetime.now(UTC) + timedelta(days=365)).isoformat()
    assert client.send("/v1/keys", {"name": "x", "expires_at": soon}, authorization=admin).status_code == 201


@pytest.mark.parametrize("moment", FAR)
def test_rows_with_times_of_another_age_are_listed(make_client, admin, seed, world_url, monkeypatch, moment):
    monkeypatch.setenv("DATABASE_URL", world_url)
    made = keys_of(world_url, moment)
    columns = "kind, parameters, created_by, created_at"
    seed.execute(f"INSERT INTO gapless.jobs ({columns}) VALUES ('audit', '{{}}', 'x', '{moment}')")
    for command in ("keys", "jobs"):
        listed = CliRunner().invoke(app, [command, "list"], env={"COLUMNS": "200"})
        assert listed.exit_code == 0, listed.exception
    client = make_client()
    assert len(client.get("/v1/keys", authorization=admin)["data"]) == 2
    assert client.get("/v1/jobs", authorization=admin)["data"]
    assert client.get("/status")["data"]["jobs"]
    assert client.ask("/").status_code == 200
    ended = moment.startswith("-") or moment.endswith("BC")
    assert client.ask("/v1", authorization=f"Bearer {made}").status_code == (401 if ended else 200)


def keys_of(url: str, moment: str) -> str:
    """A key that ends then."""
    engine = database.create_engine(url)
    with engine.begin() as connection:
        _, key = keys.create(connection, "far")
        connection.execute(sa.text(f"UPDATE gapless.api_keys SET expires_at = '{moment}' WHERE name = 'far'"))
    engine.dispose()
    return key


def test_times_out_of_range_are_read_as_the_nearest(migrated_url):
    engine = database.create_engine(migrated_url)
    with engine.connect() as connection:
        read = [connection.scalar(sa.text(f"SELECT '{moment}'::timestamptz")) for moment in FAR]
        assert connection.scalar(sa.text("SELECT '2023-04-02 09:19:24+00'::timestamptz")) == datetime(
            2023, 4, 2, 9, 19, 24, tzinfo=UTC
        )
        with pytest.raises(sa.exc.DataError):
            connection.scalar(sa.text("SELECT 'nonsense'::timestamptz"))
    engine.dispose()
    latest, earliest = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    assert read == [latest, latest, latest, earliest, earliest]


@pytest.mark.parametrize(("variable", "value"), [
    ("WEBHOOKS_KEEP_DAYS", "1e300"), ("WEBHOOKS_KEEP_DAYS", "inf"), ("WEBHOOKS_KEEP_DAYS", "1e-300"),
    ("API_EXPORT_TIMEOUT", "1e300"), ("API_EXPORT_TIMEOUT", "inf"), ("API_EXPORT_TIMEOUT", "0.0001"),
    ("API_STATEMENT_TIMEOUT", "0.0001"), ("API_QUEUE_SECONDS", "inf"), ("API_QUEUE_SECONDS", "1e-300"),
    ("WEBHOOKS_POLL", "1e-300"), ("WEBHOOKS_TIMEOUT", "1e-300"),
])  # fmt: skip
def test_durations_of_the_settings_have_bounds(monkeypatch, tmp_path, variable, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert variable in str(caught.value)


@pytest.mark.parametrize(
    "text", ["99999999999999999999 weeks", "36501 days", f"{2**53 + 1} blocks", f"{'9' * 5000} days"]
)
def test_a_schedule_has_bounds(text):
    with pytest.raises(ValueError, match=r"at most|expected"):
        parse_schedule(text)
    assert parse_schedule("36500 days").amount == 36_500 * 86_400
