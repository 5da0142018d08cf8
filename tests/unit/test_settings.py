"""What the environment says, and what a wrong one is told."""

import re
from pathlib import Path

import pytest

from indexer.redact import SecretUrl
from indexer.settings import SettingsErrors, environment, load_settings, variables

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_defaults() -> None:
    settings = load_settings()
    assert settings.database_url is None
    assert settings.redis_url is None
    assert (settings.data_dir, settings.manifest) == (Path(".gapless"), Path("indexer.toml"))
    assert (settings.log_level, settings.log_format) == ("INFO", "auto")


def test_the_environment_stands_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("LOG_LEVEL=debug\nGAPLESS_DATA_DIR=from_file\nRPC_URL=https://file.example\nOTHER=1\n")
    monkeypatch.setenv("GAPLESS_DATA_DIR", "from_environment")
    monkeypatch.setenv("LOG_FORMAT", "")
    monkeypatch.setenv("OTHER", "")
    monkeypatch.setenv("DATABASE_URL", "postgresql://gapless:SECRET@db/gapless")
    settings = load_settings()
    assert settings.log_level == "DEBUG"
    assert settings.data_dir == Path("from_environment")
    assert settings.log_format == "auto", "set to nothing is unset"
    assert settings.database_url == SecretUrl("postgresql://gapless:SECRET@db/gapless")
    assert "SECRET" not in repr(settings) + str(settings) + settings.model_dump_json()
    seen = environment()
    assert (seen["RPC_URL"], seen["GAPLESS_DATA_DIR"], seen["OTHER"]) == (
        "https://file.example",
        "from_environment",
        "1",
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p@SECRET@db:5432/x",
        "postgresql://user:p@ss:SECRET@db:5432/x",
        "postgresql://user:p/SECRET@db:5432/x",
        "postgresql://user:p#SECRET@db:5432/x",
        "postgresql://user:SECRET@db:port/x",
        "postgresql://user:SECRET@db:5432,other:5432/x",
    ],
)
def test_a_password_that_would_be_taken_for_a_host_is_told_and_not_shown(monkeypatch, url) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SettingsErrors) as caught:
        load_settings()
    assert [problem.key for problem in caught.value.problems] == ["DATABASE_URL"]
    assert "%40" in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/x",
        "postgresql://user:p%40ss:word@db:5432/x",
        "postgres://user@[::1]:5432/x?sslmode=require",
        "postgresql:///x?host=/run/postgresql&user=a@b",
        "postgresql://user:password@db",
    ],
)
def test_urls_of_postgres(monkeypatch, url) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    found = load_settings().database_url
    assert found is not None
    assert found.reveal() == url


def test_every_mistake_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://user:SECRET@db/x")
    monkeypatch.setenv("REDIS_URL", "SECRET")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("LOG_FORMAT", "xml")
    monkeypatch.setenv("RPC_TIMEOUT_SECONDS", "soon")
    monkeypatch.setenv("BACKFILL_WORKERS", "0")
    monkeypatch.setenv("BACKFILL_IN_FLIGHT", "1.5")
    with pytest.raises(SettingsErrors) as caught:
        load_settings()
    assert {problem.key: (problem.message, problem.found) for problem in caught.value.problems} == {
        "DATABASE_URL": ("expected a URL of the scheme postgresql or postgres", "mysql://db/***"),
        "REDIS_URL": ("expected a URL of the scheme redis or rediss or unix", "***"),
        "LOG_LEVEL": ("input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'", '"LOUD"'),
        "LOG_FORMAT": ("input should be 'auto', 'text' or 'json'", '"xml"'),
        "RPC_TIMEOUT_SECONDS": ("expected a number", '"soon"'),
        "BACKFILL_WORKERS": ("input should be greater than or equal to 1", '"0"'),
        "BACKFILL_IN_FLIGHT": ("expected a whole number", '"1.5"'),
    }
    assert "SECRET" not in str(caught.value)
    assert caught.value.exit_status == 2
    assert ".env.example" in str(caught.value.hint)


def test_a_secret_that_is_too_short_is_told_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_SECRET", "short-and-mine")
    with pytest.raises(SettingsErrors, match="REDIS_SECRET") as caught:
        load_settings()
    assert "short-and-mine" not in str(caught.value)


def test_every_variable_has_its_meaning() -> None:
    assert all(re.fullmatch(r"[A-Z_]+", name) and meaning.endswith(".") for name, meaning in variables().items())


def test_the_example_names_every_variable() -> None:
    example = (REPOSITORY / ".env.example").read_text()
    named = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]*)=", example, re.MULTILINE))
    assert set(variables()) | {"RPC_URL"} <= named
