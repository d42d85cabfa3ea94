"""The settings: the only place where the environment is read."""

from typing import Annotated, Literal, Self

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from server.addresses import is_loopback
from server.environment import ENV_FILE, ENV_FILE_ENCODING, PREFIX, UnreadableEnvFile, cleaned, read_env_file, remarks
from server.setting_checks import check_settings
from server.setting_types import AnyCase, FilePath, Hosts, Introspection, Key, Networks, OllamaUrl, OpenAIUrl, Origins

DATABASE_FILE = "ollagraph.db"


class SettingsError(Exception):
    """The gateway cannot start like this. The message says what to set, and holds no secret."""


class Settings(BaseSettings):
    """All settings, from the environment (`OLLAGRAPH_` and the name in capitals) or a file `.env`.

    Times are in seconds, sizes in bytes. docs/settings.md and .env.example list them all; a test holds that true.
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
    secret_key: SecretStr | None = Field(
        default=None,
        description="Signs access tokens; 32 bytes or more. Default: made once and kept in the data folder.",
    )
    access_token_lifetime: int = Field(default=28_800, ge=60, description="How long a sign-in holds.")
    identity_max_age: float = Field(
        default=2, ge=0, description="How long a change of a user or key made by another process may go unnoticed."
    )
    login_max_failures: int = Field(
        default=10,
        ge=1,
        description="Wrong passwords after which a name is locked for an address; 3 times as many lock an address, "
        "10 times as many a name.",
    )
    login_lock_time: int = Field(
        default=900, ge=1, description="How long it is locked, and in what time failures add up."
    )
    max_api_keys_per_user: int = Field(
        default=100, ge=1, description="API keys of one user that hold at the same time; as many are listed."
    )
    admin_username: str = Field(
        default="admin", description="The first administrator's name, used when there is no user yet."
    )
    admin_password: SecretStr | None = Field(
        default=None, description="The first administrator's password. Default: made at the first start and shown once."
    )
    embedded: bool = Field(default=True, description="Run a small model inside, in a process of its own.")
    embedded_model: FilePath | None = Field(
        default=None, description="A GGUF file to run instead of the packaged SmolLM2."
    )
    embedded_parallel: int = Field(default=4, ge=1, le=64, description="Answers that the embedded model gives at once.")
    embedded_threads: int | None = Field(
        default=None, ge=1, le=1024,
        description="Cores that the embedded model computes on. Default: all. Fewer leave some to what else runs here.",
    )  # fmt: skip
    ollama_url: OllamaUrl | None = Field(
        default=None, description="An Ollama server, such as `http://localhost:11434`."
    )
    ollama_parallel: int = Field(
        default=1, ge=1, le=10_000,
        description="Answers that Ollama makes at once, its `OLLAMA_NUM_PARALLEL`. The others wait in the queue, where "
        "they are told their places.",
    )  # fmt: skip
    openai_url: OpenAIUrl | None = Field(
        default=None,
        description="An OpenAI-compatible server, such as vLLM, llama.cpp or LM Studio; not Ollama, which has its own "
        "setting. `/v1` is added where the path has no version.",
    )
    openai_api_key: Key | None = Field(default=None, description="The key for it, where it wants one.")
    openai_parallel: int | None = Field(
        default=None, ge=1, le=10_000,
        description="Answers that the OpenAI-compatible server makes at once. Default: what llama.cpp tells, 64 for "
        "others.",
    )  # fmt: skip
    openai_think_tags: bool = Field(
        default=False,
        description="Take `<think>…</think>` at the beginning of its answers for the model's reasoning.",
    )
    connect_timeout: float = Field(default=5, gt=0, description="To connect to a model server.")
    load_timeout: float = Field(
        default=600, gt=0, description="For a model server to load a model, where it tells that it does (Ollama)."
    )
    first_byte_timeout: float = Field(
        default=120, gt=0, description="From the request to a model's first token, without the time of loading it."
    )
    between_tokens_timeout: float = Field(default=60, gt=0, description="From one token to the next.")
    generation_timeout: float = Field(default=900, gt=0, description="For a whole answer.")
    max_queued: int = Field(
        default=1000, ge=0, description="Generations waiting for one model server; more are refused."
    )
    max_running_per_user: int = Field(
        default=32,
        ge=1,
        description="Of those at work on one model server, how many may be one user's; further ones wait.",
    )
    max_queued_per_user: int = Field(
        default=200, ge=0, description="Of those waiting, how many may be one user's; further ones are refused."
    )
    idempotency_time: float = Field(
        default=86_400,
        ge=60,
        description="How long an idempotency key stands for what it began, and the database keeps the text of that.",
    )
    models_max_age: float = Field(
        default=5,
        ge=0,
        description="Age at which a model server's list is read anew, in the background; 0: for each request.",
    )
    event_interval: float = Field(
        default=0.005,
        ge=0,
        le=1,
        description="The least time between two events with text of one stream; what comes meanwhile is merged.",
    )
    stream_retention: float = Field(default=3600, ge=0, description="How long the text of an ended generation is kept.")
    stream_memory: int = Field(
        default=32_000_000,
        ge=0,
        description="About how many bytes of ended generations are kept in memory; the oldest go first.",
    )
    stream_max_size: int = Field(
        default=16_000_000,
        ge=10_000,
        description="About how many bytes one generation may take in the stream log; then its beginning goes.",
    )
    text_retention: float = Field(
        default=0,
        ge=0,
        description="How long the database keeps both sides of ended generations, prompt and answer; 0: not at all.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="A Valkey or Redis through which several gateways share their streams: `redis://:password@host/0`.",
    )
    redis_memory: int = Field(
        default=256_000_000,
        ge=0,
        description="About how many bytes of ended generations are kept there; the oldest go first.",
    )
    lease_time: float = Field(
        default=5, gt=0, description="After how long a silence a gateway counts as dead, and others take over its work."
    )
    drain_time: float = Field(
        default=10, ge=0, description="How long running generations may go on when the gateway stops."
    )
    blobs: bool = Field(default=True, description="Store files that callers send to `POST /blobs` for their prompts.")
    blob_max_size: int = Field(
        default=33_554_432, ge=1_024, le=1_000_000_000, description="Bytes that one blob may have."
    )
    blob_quota: int = Field(
        default=1_073_741_824, ge=1_024, description="Bytes that the blobs of one user may have together."
    )
    blob_retention: float = Field(
        default=86_400, ge=60, description="How long a blob is kept after it was sent or used in a prompt."
    )
    blob_max_request_size: int = Field(
        default=67_108_864, ge=1_024, description="Bytes that the blobs of one prompt may have together."
    )
    blob_memory: int = Field(
        default=268_435_456,
        ge=1_024,
        description="Bytes of blobs held at once for model servers that are being asked; further generations wait.",
    )
    max_uploads_per_user: int = Field(default=4, ge=1, description="Blobs that one user may be sending at once.")
    max_body_size: int = Field(
        default=16_777_216,
        ge=1024,
        description="The largest HTTP body or WebSocket message of a caller with valid credentials.",
    )
    max_anonymous_body_size: int = Field(
        default=16_384, ge=1024, description="The largest one of a caller without; such callers can only sign in."
    )
    max_bytes_in_flight: int = Field(
        default=134_217_728,
        ge=65_536,
        description="Bytes of requests being read at once, of all callers; more are refused for the moment.",
    )
    keep_alive_timeout: int = Field(
        default=75, ge=1, description="How long an HTTP connection without a request stays open for the next one."
    )
    request_timeout: float = Field(
        default=10, gt=0, description="How long the head of an HTTP request, and then its body, may take to come."
    )
    max_query_length: int = Field(default=15_000, ge=1, description="Characters that a GraphQL document may have.")
    max_query_tokens: int = Field(default=700, ge=1, description="Lexical tokens that a document may have.")
    max_query_depth: int = Field(default=10, ge=1, description="Levels of fields. Introspection has its own limit.")
    max_query_aliases: int = Field(default=15, ge=0, description="Aliases in one operation, fragments written out.")
    max_query_root_fields: int = Field(default=10, ge=1, description="Root fields of one operation.")
    max_query_directives: int = Field(default=50, ge=0, description="Directives in one operation.")
    max_query_fragments: int = Field(default=50, ge=0, description="Fragments that a document may define.")
    max_query_fields: int = Field(
        default=1_000, ge=1, description="Fields and fragments of a document, fragments written out."
    )
    max_query_repeats: int = Field(
        default=10,
        ge=1,
        description="How often one response name may stand in one selection set, fragments written out.",
    )
    max_list_length: int = Field(
        default=500, ge=1, description="Values in one list, in variables and in documents: messages, tools, scopes."
    )
    max_variable_values: int = Field(
        default=10_000, ge=1, description="Values in all variables of a request, those within JSON counted, too."
    )
    max_query_cost: int = Field(
        default=1_000, ge=1, description="What an operation may cost: objects at most, 100 for each `generate`."
    )
    max_answer_text: int = Field(
        default=16_000_000, ge=1, description="Characters of generations' text in one answer; the rest is an error."
    )
    query_timeout: float = Field(
        default=10, gt=0, description="How long a query or mutation may take; `generate` has the limits of its model."
    )
    automatic_persisted_queries: bool = Field(
        default=True, description="Let clients name a document that they sent before by its SHA-256."
    )
    trusted_documents: Annotated[Literal["off", "allow", "only"], AnyCase] = Field(
        default="off", description="Whether clients may, or must, name documents of `trusted_documents_path`."
    )
    trusted_documents_path: FilePath | None = Field(
        default=None,
        description="A file with a JSON object of ids and documents, or Apollo's persisted query manifest; or a folder "
        "of such files. Changes are noticed.",
    )
    max_operations_per_socket: int = Field(default=20, ge=1, description="Operations at once on one WebSocket.")
    max_sockets_per_user: int = Field(
        default=250, ge=1, description="WebSockets at once of one user, whichever keys they use."
    )
    max_streams_per_user: int = Field(
        default=250, ge=1, description="Streams over HTTP at once of one user, whichever keys they use."
    )
    socket_idle_timeout: float = Field(
        default=300, gt=0, description="How long a WebSocket may stay open without an operation."
    )
    send_timeout: float = Field(default=15, gt=0, description="How long a client may leave one message unread.")
    heartbeat_interval: float = Field(
        default=10, gt=0, description="After how long a silence a stream over HTTP sends a sign of life."
    )
    recheck_interval: float = Field(
        default=2, gt=0, description="How often open sockets look for expiry and revocation."
    )
    allowed_hosts: Hosts | None = Field(
        default=None,
        description='Names by which the gateway may be called, as JSON: `["a.example", "*.b.example"]`. Default: '
        "`localhost` and the loopback addresses where it listens on one of these, else all.",
    )
    trusted_proxies: Networks = Field(
        default_factory=list[str],
        description='Addresses and networks of proxies whose `X-Forwarded-…` are believed, as JSON: `["10.0.0.0/8"]`.',
    )
    cors_origins: Origins = Field(
        default_factory=list[str],
        description='Other sites whose pages may call the API, over HTTP and WebSocket, as JSON: `["https://a.b"]`.',
    )
    cors_credentials: bool = Field(default=False, description="Whether those sites may send cookies and credentials.")
    check_origin: bool = Field(
        default=True, description="Refuse WebSockets, and GETs without a preflight, of pages of all other sites."
    )
    page: bool | None = Field(default=None, description="Serve the web page at `/`. Default: not in production.")
    introspection: Introspection | None = Field(
        default=None,
        description="Who may introspect and read `/schema.graphql`: everybody (`on`), `signed-in` callers, or nobody "
        "(`off`). Default: `on`, in production `off`.",
    )
    suggestions: bool | None = Field(
        default=None, description='Help with "Did you mean …" in errors. Default: not in production.'
    )
    debug: bool = Field(default=False, description="Tell internal errors to clients. Never in production.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = Field(
        default="info", description="What goes to the log."
    )

    @property
    def database(self) -> str:
        """The URL of the database."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        path = (self.data_dir / DATABASE_FILE).absolute()
        from sqlalchemy.engine import URL  # which takes a while to load, and a mistake need not wait for it

        return URL.create("sqlite", database=str(path)).render_as_string()

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
        """Clean what the environment and `.env` hold before it is looked at."""
        for source in (env_settings, dotenv_settings):
            if isinstance(source, EnvSettingsSource):
                source.env_vars = cleaned(source.env_vars)
        return init_settings, env_settings, dotenv_settings

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        return host.removeprefix("[").removesuffix("]")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_settings(self)
        return self


def load_settings() -> Settings:
    """Read and check the settings. Raises SettingsError with a sentence for each mistake."""
    try:
        read_env_file()
        return Settings()
    except UnreadableEnvFile as error:
        raise SettingsError(str(error)) from error
    except ValidationError as error:
        sentences: list[str] = []
        for mistake in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in mistake["loc"][:1]).upper()
            message = mistake["msg"].removeprefix("Value error, ")
            sentences.append(f"{PREFIX}{name}: {message}" if name else message)
        raise SettingsError("\n".join(sentences)) from None


def unread_settings() -> list[str]:
    """Tell in sentences which names in the environment and in `.env` look like settings and are none."""
    return remarks(Settings.model_fields)
