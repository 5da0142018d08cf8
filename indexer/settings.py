"""The environment: where the servers are, how much to use, how to log.

What to index is the manifest's business (``indexer.manifest``). The API's own settings are in ``api.settings``.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from indexer.errors import Problem, ProblemsError, show
from indexer.redact import SecretUrl, redact_url

_ENV_FILE = ".env"
_SCHEMES = {
    "database_url": ("postgresql://", "postgres://"),
    "database_direct_url": ("postgresql://", "postgres://"),
    "redis_url": ("redis://", "rediss://", "unix://"),
}
# One host, a port that is a number, and nothing in a user or password that could be taken for the end of it.
_DATABASE = re.compile(
    r"\w+://(?:[^@/?#]*@)?(?:[^@:/?#\[\],]*|\[[^@/?#\]]*\])(?::\d*)?(?:/[^@#]*)?(?:\?.*)?", re.DOTALL
)
# pydantic's name of a failed check -> what would have been right.
_EXPECTED = {"int_parsing": "expected a whole number", "float_parsing": "expected a number"}


class SettingsErrors(ProblemsError):  # noqa: N818 - it is many
    """Environment variables with values that are not allowed; ``problems`` has all of them."""


class Settings(BaseSettings):
    """Everything that the indexer reads from the environment, besides what the manifest asks for by ``${NAME}``.

    Variables come from the process's environment and, behind it, from the file ``.env`` of the working directory. One
    that is set to nothing counts as unset. Each field's alias is the variable's name, its description the meaning.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_file=_ENV_FILE, env_ignore_empty=True, populate_by_name=True
    )

    database_url: SecretUrl | None = Field(
        default=None,
        alias="DATABASE_URL",
        description="Postgres: postgresql://user:password@host:port/name. Unset: an embedded one in GAPLESS_DATA_DIR.",
    )
    database_direct_url: SecretUrl | None = Field(
        default=None,
        alias="DATABASE_DIRECT_URL",
        description="The same database past a pooler such as pgbouncer, for all commands but gapless serve. "
        "Unset: DATABASE_URL.",
    )
    redis_url: SecretUrl | None = Field(
        default=None,
        alias="REDIS_URL",
        description="Redis: redis://host:port/0. Unset: an embedded one in GAPLESS_DATA_DIR.",
    )
    redis_secret: SecretStr | None = Field(
        default=None,
        alias="REDIS_SECRET",
        min_length=32,
        description="Signs what is kept in Redis: 32 characters or more. Deployments that share a Redis and are given "
        "the same read no token twice. Unset: a secret that the database keeps.",
    )
    data_dir: Path = Field(
        default=Path(".gapless"),
        alias="GAPLESS_DATA_DIR",
        description="Folder of the embedded servers' data.",
    )
    manifest: Path = Field(
        default=Path("indexer.toml"),
        alias="GAPLESS_MANIFEST",
        description="The manifest: what to index.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        alias="LOG_LEVEL",
        description="DEBUG, INFO, WARNING or ERROR.",
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto",
        alias="LOG_FORMAT",
        description="text (lines to read), json (one object a line) or auto: text on a terminal, json elsewhere.",
    )
    rpc_timeout_seconds: float = Field(
        default=30.0,
        alias="RPC_TIMEOUT_SECONDS",
        gt=0,
        le=600,
        description="How long a node may stay silent before a request counts as failed, in seconds.",
    )
    backfill_in_flight: int = Field(
        default=32,
        alias="BACKFILL_IN_FLIGHT",
        ge=1,
        le=256,
        description="The most requests for history under way at once at an endpoint; how many pay is found out.",
    )
    backfill_workers: int = Field(
        default=1,
        alias="BACKFILL_WORKERS",
        ge=1,
        le=256,
        description="Processes of `gapless backfill` that fill history at once; `gapless run` uses its own process.",
    )
    admin_host: str = Field(
        default="127.0.0.1",
        alias="ADMIN_HOST",
        description="Address that the administrator's port listens on.",
    )
    admin_port: int | None = Field(
        default=None,
        alias="ADMIN_PORT",
        ge=0,
        le=65535,
        description="Port of /metrics, /health and /ready for a supervisor of the process; unset: none. "
        "gapless run and gapless serve need one each.",
    )
    ready_fails_when_stalled: bool = Field(
        default=False,
        alias="READY_FAILS_WHEN_STALLED",
        description="Whether /ready answers 503 while a chain's head stands still for longer than its pace allows.",
    )

    etherscan_api_key: SecretStr | None = Field(
        default=None,
        alias="ETHERSCAN_API_KEY",
        description="Key of Etherscan's API, for gapless abi fetch. Unset: only Sourcify is asked.",
    )
    etherscan_url: str = Field(
        default="https://api.etherscan.io/v2/api",
        alias="ETHERSCAN_URL",
        description="Where Etherscan's API is, or one like it.",
    )
    sourcify_url: str = Field(
        default="https://sourcify.dev/server",
        alias="SOURCIFY_URL",
        description="Where Sourcify's server is.",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url", "database_direct_url", "redis_url", mode="before")
    @classmethod
    def _check_scheme(cls, value: object, info: ValidationInfo) -> object:
        allowed = _SCHEMES[info.field_name or ""]
        if isinstance(value, str) and not value.startswith(allowed):
            # Without its "://", which what hides keys takes for a URL.
            schemes = " or ".join(scheme.removesuffix("://") for scheme in allowed)
            raise ValueError(f"expected a URL of the scheme {schemes}")
        # What is taken for host and port is shown: it must not be the end of a password.
        if info.field_name != "redis_url" and isinstance(value, str) and not _DATABASE.fullmatch(value):
            raise ValueError(
                "expected postgresql://user:password@host:port/name with one host and its port, "
                "where @ / ? # in user and password are written %40 %2F %3F %23"
            )
        return value


def load_settings() -> Settings:
    """Read the settings from the environment and from ``.env``.

    Raises:
        SettingsErrors: naming every variable that is wrong, what was found and what is allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors(include_url=False)]
    raise SettingsErrors("the environment", problems, hint="See .env.example for every variable.")


def _problem(detail: Any) -> Problem:
    name = str(detail["loc"][0])
    kind = str(detail["type"])
    message = _EXPECTED.get(kind) or str(detail["msg"]).removeprefix("Value error, ")
    found = detail["input"]
    shown = redact_url(found) if name.endswith("_URL") and isinstance(found, str) else show(found)
    if name.endswith(("_SECRET", "_KEY")):
        shown = "***"
    return Problem(name, message[:1].lower() + message[1:], shown)


def environment() -> Mapping[str, str]:
    """Return the process's environment, with that of ``.env`` behind it: what ``${NAME}`` in the manifest means."""
    behind = {name: value for name, value in dotenv_values(_ENV_FILE).items() if value is not None}
    return behind | {name: value for name, value in os.environ.items() if value or name not in behind}


def variables() -> dict[str, str]:
    """Return the name of every variable with its meaning."""
    return {field.alias or name: field.description or "" for name, field in Settings.model_fields.items()}
