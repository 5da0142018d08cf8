"""What the environment says about the read API."""

import re
from ipaddress import ip_network
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.webhooks.sealed_secrets import Vault
from api.webhooks.sender import DELAYS_TEXT, parse_delays
from api.webhooks.targets import networks
from indexer.errors import GaplessError
from indexer.settings import variables

_SHARED = variables()  # some mean the same to gapless run and gapless serve


class SettingsError(GaplessError):
    """The environment holds a value that the API cannot use."""

    exit_status = 2


class ApiSettings(BaseSettings):
    """Settings of the read API, each an environment variable of the same name in capitals.

    ``DATABASE_URL`` and ``REDIS_URL`` are not here: the caller hands them over, because they may be those of the
    embedded servers.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env", env_ignore_empty=True)

    api_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    api_port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    api_threads: int = Field(default=8, ge=1, le=256, description="Requests answered at once by one process.")
    api_quick: int = Field(
        default=0,
        ge=0,
        description="Of them, how many at once while each takes less than 25 ms; 0: two for each core and one more, "
        "among all processes. More, where Postgres is far away.",
    )
    api_processes: int = Field(default=1, ge=1, le=64, description="Processes that share the port.")
    api_connection_limit: int = Field(
        default=1000, ge=10, description="Open client connections of one process, of an address half as many."
    )
    api_statement_timeout: float = Field(
        default=5.0, ge=0.01, le=60, description="Seconds that one query may take before it is answered with 422."
    )
    api_unindexed_window: int = Field(
        default=10_000, ge=1, description="Most blocks that a filter without an index may look through."
    )
    api_export_slots: int = Field(default=2, ge=1, description="CSV and NDJSON exports of one process at once.")
    api_export_timeout: float = Field(
        default=600.0,
        ge=0.01,
        le=86_400,
        description="Seconds that one export may take, until the client has read all of it.",
    )
    api_least_pace: int = Field(
        default=4096,
        ge=0,
        description="Bytes a second that a client must read of an answer that waits for it, else the answer is broken "
        "off; measured over 20 seconds; 0: any pace.",
    )
    api_head_seconds: float = Field(
        default=10.0, ge=0.01, le=3600, description="Seconds that the head of a request may take to come; then 408."
    )
    api_body_seconds: float = Field(
        default=30.0, ge=0.01, le=3600, description="Seconds that the body of a request may take to come; then 408."
    )
    api_wait_slots: int = Field(
        default=2000, ge=0, description="Requests of one process that may `wait` at once, a client half of them."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("*",), description="Web origins that may read the API: * for all, or a comma list."
    )

    require_api_key: bool = Field(default=False, description="Whether reading needs a key (gapless keys create).")
    rate_limit_key: int = Field(
        default=0, ge=0, description="Requests a minute of a key that has no rate of its own; 0: no limit."
    )
    rate_limit_address: int = Field(
        default=0, ge=0, description="Requests a minute of a client address without a key; 0: no limit."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of proxies whose X-Forwarded-For names the client, as a comma list.",
    )

    streams_max: int = Field(
        default=10_000, ge=0, description="Streams of one process at once, a client half of them; 0: no streams."
    )

    api_client_concurrency: int = Field(
        default=0, ge=0, description="Requests of one client (key or address) under way at once in one process; 0: any."
    )
    api_queue_seconds: float = Field(
        default=10.0,
        ge=0.01,
        le=3600,
        description="Seconds that a request may wait for a thread before it is answered with 503.",
    )
    oidc_issuer: str | None = Field(
        default=None, description="Issuer whose tokens are taken beside keys (OpenID Connect): https://host/path."
    )
    oidc_audience: str | None = Field(default=None, description="Whom the issuer's tokens must be for: the claim aud.")
    oidc_scopes_claim: str = Field(default="scope", description="Claim of the issuer's tokens that has their scopes.")
    oidc_scopes_prefix: str | None = Field(
        default=None, description="What stands before our scopes there, such as gapless: in gapless:read."
    )

    redis_secret: SecretStr | None = Field(default=None, min_length=32, description=_SHARED["REDIS_SECRET"])

    webhooks_secret_key: SecretStr | None = Field(
        default=None,
        description="Encrypts the secrets of webhooks: 32 characters or more, such as: openssl rand -hex 32. "
        "To replace it, put a new one before it, with a comma. Unset: no webhooks.",
    )
    webhooks_allow_http: bool = Field(default=False, description="Whether webhooks may go to http:// URLs.")
    webhooks_allow_private: str = Field(
        default="false",
        description="Whether webhooks may go to addresses that are not public: false, true, or networks.",
    )
    webhooks_threads: int = Field(
        default=8, ge=1, le=64, description="Webhooks delivered at once by one process, of one owner half as many."
    )
    webhooks_per_key: int = Field(default=20, ge=1, description="Most webhooks of one key.")
    webhooks_timeout: float = Field(default=15.0, ge=0.01, le=60, description="Seconds that one attempt may take.")
    webhooks_retry_delays: str = Field(
        default=DELAYS_TEXT,
        description="Seconds before each further attempt of a message; then its webhook is disabled.",
    )
    webhooks_poll: float = Field(default=1.0, ge=0.01, le=60, description="Seconds between two looks for what is new.")
    webhooks_keep_days: float = Field(
        default=7.0, ge=0.01, le=36_500, description="Days for which attempts are remembered."
    )

    admin_host: str = Field(default="127.0.0.1", description=_SHARED["ADMIN_HOST"])
    admin_port: int | None = Field(default=None, ge=0, le=65535, description=_SHARED["ADMIN_PORT"])
    ready_fails_when_stalled: bool = Field(default=False, description=_SHARED["READY_FAILS_WHEN_STALLED"])

    @field_validator("webhooks_secret_key")
    @classmethod
    def _secret_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            Vault.of(value.get_secret_value())
        return value

    @field_validator("webhooks_allow_private")
    @classmethod
    def _allowed_networks(cls, value: str) -> str:
        networks(value)
        return value

    @field_validator("webhooks_retry_delays")
    @classmethod
    def _delays(cls, value: str) -> str:
        parse_delays(value)
        return value

    @model_validator(mode="after")
    def _issuer_and_audience(self) -> Self:
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("OIDC_ISSUER and OIDC_AUDIENCE need each other: set both or neither")
        return self

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_is_a_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError("expected a URL with https:// and without query, such as https://login.example/realm")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _comma_list(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def load_settings(**overrides: Any) -> ApiSettings:
    """Read the settings from the environment and ``.env``.

    Args:
        overrides: values by field name that win over the environment; None is no override.

    Raises:
        SettingsError: naming every variable that is wrong, what was found and what is allowed.
    """
    try:
        return ApiSettings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}{_found(problem)}"
            if problem["loc"]
            else problem["msg"].removeprefix("Value error, ")  # its input is all settings, with their secrets
            for problem in error.errors()
        ]
        raise SettingsError("the API's settings are wrong:\n  " + "\n  ".join(problems)) from None


def _found(problem: ErrorDetails) -> str:
    """What a variable held, unless it is a secret."""
    return "" if "secret" in str(problem["loc"][0]) else f", found {problem['input']!r}"
