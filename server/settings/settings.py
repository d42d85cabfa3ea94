"""The settings: what each is called, its default, and what it means."""

from typing import Annotated, Literal, Self

from platformdirs import user_data_path
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from auth.addresses import is_loopback
from auth.principal import ContentPolicy
from server.settings.checks import check_settings
from server.settings.environment import ENV_FILE, ENV_FILE_ENCODING, PREFIX, cleaned
from server.settings.identity import IdentitySettings
from server.settings.limits import LimitSettings
from server.settings.model_servers import ModelServerSettings
from server.settings.operations import OperationsSettings
from server.settings.plugins import PluginsSettings
from server.settings.providers import ProviderSettings
from server.settings.requests import RequestSettings
from server.settings.types import (
    AnyCase,
    Capitals,
    FilePath,
    Hosts,
    Introspection,
    Networks,
    Origins,
    PathBelow,
    Workers,
    secret_settings,
)

DATABASE_FILE = "ollagraph.db"


class Settings(
    RequestSettings,
    LimitSettings,
    OperationsSettings,
    ModelServerSettings,
    IdentitySettings,
    ProviderSettings,
    PluginsSettings,
):
    """All settings, from the environment (`OLLAGRAPH_` and the name in capitals) or a file `.env`.

    Times are in seconds, sizes in bytes. A test holds docs/settings.md and .env.example to them.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding=ENV_FILE_ENCODING,
        env_ignore_empty=True,
        allow_inf_nan=False,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    environment: Annotated[Literal["development", "production"], AnyCase] = Field(
        default="development", description="In production, insecure settings refuse to start."
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    workers: Workers = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that serve on this port together; `auto` starts one for each core.",
    )
    worker_timeout: float = Field(
        default=10,
        ge=2,
        description="Seconds after which a worker whose event loop hangs is killed and replaced, with several workers.",
    )
    data_dir: FilePath = Field(
        default_factory=lambda: user_data_path("ollagraph", appauthor=False),
        description="The folder for everything the gateway writes. Default: the user's data folder of the system.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`sqlite:///path` or `postgresql://user:password@host/name`. Default: SQLite in the data folder.",
    )
    database_pool_size: int = Field(
        default=5,
        ge=1,
        le=500,
        description="The most connections to the database at once; on PostgreSQL the heartbeat has one more.",
    )
    max_queued: int = Field(
        default=1000, ge=0, description="Generations that may wait for one model server; more are refused."
    )
    max_running_per_user: int = Field(
        default=32,
        ge=1,
        description="Generations of one user that may run at one model server at the same time; more wait.",
    )
    max_queued_per_user: int = Field(
        default=200, ge=0, description="Generations of one user that may wait for one model server; more are refused."
    )
    idempotency_time: float = Field(
        default=86_400,
        ge=60,
        description="Seconds that an idempotency key is remembered, and that the text of its generation is kept.",
    )
    models_max_age: float = Field(
        default=5,
        ge=0,
        description="Seconds after which a model server's list is read again, in the background; 0: for each request.",
    )
    event_interval: float = Field(
        default=0.005,
        ge=0,
        le=1,
        description="Minimum seconds between two text events of one stream; text that arrives in between is merged.",
    )
    stream_retention: float = Field(
        default=3600, ge=0, description="Seconds that the stream log keeps the text of an ended generation."
    )
    stream_memory: int = Field(
        default=32_000_000,
        ge=0,
        description="Approximate bytes of ended generations kept in memory; the oldest are dropped first.",
    )
    stream_max_size: int = Field(
        default=16_000_000,
        ge=10_000,
        description="Approximate bytes of one generation in the stream log; beyond that, its beginning is dropped.",
    )
    text_retention: float = Field(
        default=0,
        ge=0,
        description="Seconds that the database keeps the prompt and the answer of an ended generation; 0: not at all.",
    )
    content_policy: Annotated[ContentPolicy, Capitals] = Field(
        default=ContentPolicy.ALL,
        description="The most that the database keeps of prompts and answers: `NOTHING`, `ANSWERS` or `ALL`. API keys "
        "and requests can ask for less.",
    )
    usage_retention: float = Field(
        default=0,
        ge=0,
        description="Seconds that the ledger keeps the row of each generation; 0: for ever. The sums that reports are "
        "read from stay.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="A Valkey or Redis through which several gateways share their streams: `redis://:password@host/0`, "
        "or a cluster: `redis+cluster://:password@host:port,host:port`.",
    )
    redis_memory: int = Field(
        default=256_000_000,
        ge=0,
        description="Approximate bytes of ended generations kept there; the oldest are dropped first.",
    )
    lease_time: float = Field(
        default=5,
        gt=0,
        description="Seconds without a heartbeat after which a gateway counts as dead and others take over.",
    )
    drain_time: float = Field(
        default=10, ge=0, description="Seconds that running generations have to finish when the gateway stops."
    )
    blobs: bool = Field(default=True, description="Store files that callers send to `POST /blobs` for their prompts.")
    blob_max_size: int = Field(
        default=33_554_432, ge=1_024, le=1_000_000_000, description="Maximum size of one blob, in bytes."
    )
    blob_quota: int = Field(
        default=1_073_741_824, ge=1_024, description="Maximum total size of one user's blobs, in bytes."
    )
    blob_retention: float = Field(
        default=86_400, ge=60, description="Seconds that a blob is kept after it was last sent or used in a prompt."
    )
    blob_max_request_size: int = Field(
        default=67_108_864, ge=1_024, description="Maximum total size of the blobs in one prompt, in bytes."
    )
    blob_memory: int = Field(
        default=268_435_456,
        ge=1_024,
        description="Bytes of blobs held in memory at the same time for running generations; further generations wait.",
    )
    max_uploads_per_user: int = Field(default=4, ge=1, description="Blobs that one user may upload at the same time.")
    max_operations_per_socket: int = Field(
        default=20, ge=1, description="Operations that may run at the same time on one WebSocket."
    )
    max_sockets_per_user: int = Field(
        default=250, ge=1, description="WebSockets that one user may have open at the same time, over all keys."
    )
    max_streams_per_user: int = Field(
        default=250, ge=1, description="HTTP streams that one user may have open at the same time, over all keys."
    )
    socket_idle_timeout: float = Field(
        default=300, gt=0, description="Seconds that a WebSocket may stay open without an operation."
    )
    send_timeout: float = Field(default=15, gt=0, description="Seconds that a client may leave a message unread.")
    heartbeat_interval: float = Field(
        default=10, gt=0, description="Seconds of inactivity after which an HTTP stream sends a keep-alive."
    )
    recheck_interval: float = Field(
        default=2, gt=0, description="Seconds between checks of open connections for expired and revoked credentials."
    )
    allowed_hosts: Hosts | None = Field(
        default=None,
        description='Host names under which the gateway answers, as JSON: `["a.example", "*.b.example"]`. Default: '
        "`localhost` and the loopback addresses if it listens on one of them, otherwise all.",
    )
    trusted_proxies: Networks = Field(
        default_factory=list[str],
        description='Addresses and networks of proxies whose `X-Forwarded-…` are trusted, as JSON: `["10.0.0.0/8"]`.',
    )
    path_prefix: PathBelow = Field(
        default="",
        description="The path below which a proxy serves the gateway, such as `/ai`; the proxy may leave it in the "
        "requests or take it off.",
    )
    cors_origins: Origins = Field(
        default_factory=list[str],
        description='Origins of other sites that may call the API over HTTP and WebSocket, as JSON: `["https://a.b"]`.',
    )
    cors_credentials: bool = Field(default=False, description="Whether those sites may send cookies and credentials.")
    check_origin: bool = Field(
        default=True,
        description="Refuse WebSockets, and GET requests without a preflight, from pages of all other sites.",
    )
    page: bool | None = Field(default=None, description="Serve the web page at `/`. Default: not in production.")
    introspection: Introspection | None = Field(
        default=None,
        description="Who may introspect and read `/schema.graphql`: everybody (`on`), `signed-in` callers, or nobody "
        "(`off`). Default: `on`, in production `off`.",
    )
    suggestions: bool | None = Field(
        default=None, description='Add "Did you mean …" to errors. Default: not in production.'
    )
    debug: bool = Field(
        default=False,
        description="Show internal errors to clients, and to administrators what each field and the database took. Not "
        "allowed in production.",
    )
    sql_echo: bool = Field(default=False, description="Write each SQL statement to the log, without its values.")

    @property
    def database(self) -> str:
        """The URL of the database."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        path = (self.data_dir / DATABASE_FILE).absolute()
        from sqlalchemy.engine import URL  # which takes a while to load, and a mistake need not wait for it

        return URL.create("sqlite", database=str(path)).render_as_string()

    @property
    def public_address(self) -> str | None:
        """Where browsers reach the gateway: the origin in `public_url`, with the path prefix."""
        return None if self.public_url is None else f"{self.public_url}{self.path_prefix}"

    @property
    def local_host(self) -> str:
        """The address at which a program on this machine reaches the gateway."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound

    @property
    def answers_to(self) -> list[str]:
        """The names by which the gateway may be called: the setting, or its default for where it listens."""
        if self.allowed_hosts is not None:
            return self.allowed_hosts
        return ["localhost", "127.0.0.1", "::1", self.host] if is_loopback(self.host) else ["*"]

    @property
    def serves_page(self) -> bool:
        """The setting, or its default for the environment."""
        return self._or_in_development(self.page)

    @property
    def introspection_mode(self) -> Introspection:
        """The setting, or its default for the environment."""
        return self.introspection or ("on" if self.environment == "development" else "off")

    @property
    def least_password_length(self) -> int:
        """The setting, or its default for the environment: NIST's for passwords without a second factor."""
        return self.password_min_length or (8 if self.environment == "development" else 15)

    @property
    def gives_suggestions(self) -> bool:
        """The setting, or its default for the environment."""
        return self._or_in_development(self.suggestions)

    def _or_in_development(self, setting: bool | None) -> bool:
        return self.environment == "development" if setting is None else setting

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Clean what the environment and `.env` hold before it is looked at, and read the files with secrets."""
        for source in (env_settings, dotenv_settings):
            if isinstance(source, EnvSettingsSource):
                source.env_vars = cleaned(source.env_vars, secret_settings(settings_cls))
        return init_settings, env_settings, dotenv_settings

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        return host.removeprefix("[").removesuffix("]")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_settings(self)
        return self
