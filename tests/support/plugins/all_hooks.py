"""A plugin with every hook, which does what a prompt asks of it and notes what it is told. docs/plugins.md shows it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import strawberry

from auth.principal import Principal
from gateway.generation import GenerationRequest
from gateway.plugins import (
    BackendChange,
    GenerationEnd,
    GenerationInfo,
    OutputFilter,
    Piece,
    Plugin,
    PluginRequest,
    PluginResponse,
    PluginRoute,
    Refused,
    SignIn,
    TextChunk,
    UsageRecord,
)


@strawberry.type
class Motto:
    @strawberry.field(description="The motto of this installation, for the caller.")
    async def motto(self, info: strawberry.Info[Any]) -> str:
        return f"{info.context.principal.username}: be kind"

    @strawberry.field(description="Fails.")
    async def broken(self) -> str:
        raise ValueError("sk-secret of the plugin")


async def exiting() -> None:
    raise ERRORS["exit"]


ERRORS = {
    "raise": ValueError("sk-secret of the plugin"),
    "exit": SystemExit("sk-secret of the plugin"),
    "cancel": asyncio.CancelledError(),
}


class AllHooks(Plugin):
    version = "1.2"

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self.told: list[tuple[str, Any]] = []

    async def before_generate(self, caller: Principal, request: GenerationRequest) -> GenerationRequest | None:
        match request.prompt:
            case "refuse":
                raise Refused(f"Not for {caller.username}.")
            case "hang":
                await anyio.sleep_forever()
            case "block":
                time.sleep(1)  # noqa: ASYNC251 - that is what a bad plugin does
            case "raise" | "exit" | "cancel" as error:
                raise ERRORS[error]
            case "task that exits":
                await asyncio.create_task(exiting())
            case "nonsense":
                return "nonsense"  # pyright: ignore[reportReturnType]
            case "wrong":
                return replace(request, prompt="")
            case "change":
                return replace(request, prompt="something else")
        return None

    async def output_filter(self, generation: GenerationInfo, said: str) -> OutputFilter | None:
        return Shouting() if generation.tags.get("filter") else None

    async def on_event(self, generation: GenerationInfo, events: Sequence[Any]) -> None:
        self.told += [("event", (generation.id, type(event).__name__)) for event in events]

    async def after_generate(self, end: GenerationEnd) -> None:
        self.told.append(("end", end))
        if end.generation.tags.get("after"):
            raise ValueError("after")

    async def on_usage(self, usage: UsageRecord) -> None:
        self.told.append(("usage", usage))

    async def on_sign_in(self, sign_in: SignIn) -> None:
        self.told.append(("sign-in", sign_in))

    async def on_backend_change(self, change: BackendChange) -> None:
        self.told.append(("backend", change))

    def routes(self) -> Sequence[PluginRoute]:
        return [
            PluginRoute("hello/{who}", self.hello, methods=("GET", "POST")),
            PluginRoute("open", self.hello, public=True),
            PluginRoute("broken", self.broken),
        ]

    async def hello(self, request: PluginRequest) -> PluginResponse:
        caller = request.caller.username if request.caller else "nobody"
        secrets = {"authorization", "cookie"} & request.headers.keys()
        told = (
            f"{request.method} {caller} {dict(request.path_params)} {dict(request.query)} {len(request.body)} {secrets}"
        )
        return PluginResponse(told.encode(), headers={"Content-Type": "text/plain"})

    async def broken(self, request: PluginRequest) -> PluginResponse:
        raise ValueError("sk-secret of the plugin")

    def query_type(self) -> type:
        return Motto


class Shouting:
    """Holds the last piece back; fails at "fail", and hangs at "hang"."""

    def __init__(self) -> None:
        self.held = ""

    async def feed(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        text = self.held + "".join(piece.text for piece in pieces if isinstance(piece, TextChunk))
        if "fail" in text:
            raise ValueError(text)
        if "hang" in text:
            await anyio.sleep_forever()
        shown, _, self.held = text.rpartition(" ")
        return [TextChunk(shown.upper() + " ")] if shown else []

    async def end(self) -> Sequence[Piece]:
        return [TextChunk(self.held.upper())] if self.held else []
