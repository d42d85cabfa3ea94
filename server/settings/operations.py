"""The settings of logs, metrics and traces."""

import re
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from server.settings.types import AnyCase, FilePath, Key

Level = Literal["debug", "info", "warning", "error"]
LEVELS = ("debug", "info", "warning", "error")

_AREA = re.compile(r"(auth|backends|db|gateway|ollagraph|resolvers|schema|server)(\.\w+)*")
"""The gateway's own loggers. Those of libraries write statements and headers with all that is in them."""


def _levels(value: Any) -> Any:
    """Read `area=level,area=level`. Raises ValueError."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in value.split(","))):
        area, _, level = entry.partition("=")
        found[area.strip()] = level.strip().lower()
    return found


def _checked(levels: dict[str, str]) -> dict[str, Level]:
    for area, level in levels.items():
        if not _AREA.fullmatch(area):
            raise ValueError(f"{area[:64]!r} is no area of the log: one is gateway, or gateway.generation")
        if level not in LEVELS:
            raise ValueError(f"{level[:64]!r} is no level; those are {', '.join(LEVELS)}")
    return cast("dict[str, Level]", levels)


Levels = Annotated[dict[str, str], NoDecode, BeforeValidator(_levels), AfterValidator(_checked)]


class OperationsSettings(BaseSettings):
    """How the gateway tells what it does."""

    log_level: Annotated[Level, AnyCase] = Field(default="info", description="The least severe level that is logged.")
    log_levels: Levels | None = Field(
        default=None, description="Levels of single areas: `gateway.generation=debug,backends=warning`."
    )
    log_format: Annotated[Literal["auto", "console", "json"], AnyCase] = Field(
        default="auto",
        description="`console` for people, `json` for programs; `auto`: console in a terminal, else JSON.",
    )
    log_file: FilePath | None = Field(
        default=None, description="The file to log to, instead of standard error. Each worker has one of its own."
    )
    log_max_size: int = Field(
        default=0,
        ge=0,
        description="Bytes after which the file is renamed and a new one begun; 0: never, which leaves that to "
        "logrotate.",
    )
    log_backups: int = Field(default=5, ge=1, description="Renamed files of the log that are kept.")
    metrics_host: str = Field(default="127.0.0.1", description="The address on which metrics are served.")
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="A port for `/metrics` alone, without a token; whoever reaches it reads them. Default: none.",
    )
    metrics_token: Key | None = Field(
        default=None,
        description="The token that `/metrics` asks for on the gateway's own port. Default: not served there.",
    )
    traces: bool = Field(
        default=False, description="Send traces by OpenTelemetry; where to, the variables `OTEL_…` say."
    )
    traces_content: bool = Field(default=False, description="Whether traces hold prompts and answers.")
    slow_statement_time: float = Field(
        default=1, ge=0, description="Seconds from which on a statement of the database is logged as slow; 0: never."
    )

    @property
    def tells_metrics(self) -> bool:
        """Whether anybody can read metrics."""
        return self.metrics_port is not None or self.metrics_token is not None
