"""What a plugin is: hooks that the gateway calls, and the values that they are given.

A hook is an `async` method. Every plugin has a thread and an event loop of its own, in which all its hooks run: one
that waits, or blocks, keeps nobody but itself.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from auth.principal import Principal
from backends.protocol import TextChunk, ThinkingChunk, ToolCallChunk
from gateway.catalog import BreakerState
from gateway.generation import GenerationRequest
from gateway.streams import Event

Piece = TextChunk | ThinkingChunk | ToolCallChunk
"""Something that a model says: text, thinking, or one whole tool call."""


class Refused(Exception):
    """Raised by `before_generate` to refuse a request. The message is told to the caller."""


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """A generation that runs or has ended."""

    id: UUID
    user_id: UUID | None
    api_key_id: UUID | None
    group_ids: tuple[UUID, ...]
    model: str
    backend: str
    tags: Mapping[str, str]
    end_user: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class GenerationEnd:
    """How a generation ended. Times are in milliseconds; None where a stage was not reached."""

    generation: GenerationInfo
    state: str
    finish_reason: str | None
    cancel_reason: str | None
    error_code: str | None
    error_message: str | None
    at: datetime
    queued_ms: int | None
    time_to_first_token_ms: int | None
    total_ms: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One row of the usage ledger. `cost_nano` is in billionths of `currency`; both None where no price is known."""

    generation: GenerationInfo
    state: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None
    thinking_tokens: int | None
    cost_nano: int | None
    currency: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class SignIn:
    """Somebody signed in, or was refused: then `code` says why. `username` is what a stranger said to be called."""

    succeeded: bool
    username: str | None
    user_id: UUID | None
    code: str | None
    address: str | None
    details: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BackendChange:
    """A model server that answers again, or no longer: then `error` says why. Or one whose `breaker` turned."""

    backend: str
    answers: bool
    error: str | None
    breaker: BreakerState = BreakerState.CLOSED


class OutputFilter(Protocol):
    """Sees and changes what one generation says before anybody else does, the database included."""

    async def feed(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """Give what may be shown by now. What is held back is given later, by this or by `end`."""
        ...

    async def end(self) -> Sequence[Piece]:
        """Give what was held back: the answer ends here. It is not called where the answer does not end well."""
        ...


@dataclass(frozen=True, slots=True)
class PluginRequest:
    """An HTTP request to a route of a plugin. `caller` is None only where the route is `public`."""

    method: str
    path_params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    caller: Principal | None


@dataclass(frozen=True, slots=True)
class PluginResponse:
    """What is answered."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class PluginRoute:
    """An address under `/plugins/NAME/`, such as `reports/{day}`. Callers are signed in, unless it is `public`."""

    path: str
    handle: Callable[[PluginRequest], Awaitable[PluginResponse]]
    methods: tuple[str, ...] = ("GET",)
    public: bool = False


class Plugin:
    """What others add to the gateway. Override what is needed; it is made with its own settings.

    `guards` says whether the gateway must not go on without it: where a hook of a guard raises, or takes too long, the
    request is refused and the running generation fails. By default whoever overrides `before_generate` or
    `output_filter` is a guard. Of the others such a failure is logged and counted, and harms nobody.
    """

    version: str = ""
    guards: bool | None = None

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = settings

    async def start(self) -> None:
        """Get ready, before the gateway listens. What is raised here keeps it from starting."""

    async def stop(self) -> None:
        """Give back what is held, behind the last generation."""

    async def before_generate(self, caller: Principal, request: GenerationRequest) -> GenerationRequest | None:
        """Give the request as it is to be asked (`dataclasses.replace`), None to leave it. Raises Refused."""

    async def output_filter(self, generation: GenerationInfo, said: str) -> OutputFilter | None:
        """Give what the answer goes through, None to leave it. `said` is what an earlier model server said of it."""

    async def on_event(self, generation: GenerationInfo, events: Sequence[Event]) -> None:
        """Be told what viewers see, in order, a moment later."""

    async def after_generate(self, end: GenerationEnd) -> None:
        """Be told that a generation has ended and its end is on record."""

    async def on_usage(self, usage: UsageRecord) -> None:
        """Be told of a new row of the usage ledger."""

    async def on_sign_in(self, sign_in: SignIn) -> None:
        """Be told that somebody signed in, or was refused. Refusals of one kind are told once a minute."""

    async def on_backend_change(self, change: BackendChange) -> None:
        """Be told that a model server answers again, or no longer."""

    def routes(self) -> Sequence[PluginRoute]:
        """Give the addresses that it answers. Asked once, at the start."""
        return ()

    def query_type(self) -> type | None:
        """Give a Strawberry type whose fields are added to `Query`. Asked once, at the start.

        Its resolvers run in the plugin's event loop, and are given `info.context.principal`.
        """


GUARDING = ("before_generate", "output_filter")
OBSERVING = ("on_event", "after_generate", "on_usage", "on_sign_in", "on_backend_change")
EXTENDING = ("routes", "query_type")


def hooks_of(plugin: Plugin) -> list[str]:
    """Give the hooks that a plugin has, in the order in which the documentation tells of them."""
    return [
        name for name in (*GUARDING, *OBSERVING, *EXTENDING) if getattr(type(plugin), name) is not getattr(Plugin, name)
    ]


def is_guard(plugin: Plugin) -> bool:
    """Tell whether the gateway must not go on without it."""
    return any(name in GUARDING for name in hooks_of(plugin)) if plugin.guards is None else plugin.guards
