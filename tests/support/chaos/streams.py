"""A client that is cut again and again, comes back at another gateway, and checks every character."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from tests.support.chaos.world import Program, World

EVENT = """__typename ... on GenerationEvent { generationId sequence } ... on TextDelta { text offset tokens }
  ... on GenerationResumed { lossReason backend } ... on GenerationCompleted { usage { completionTokens } }
  ... on GenerationCancelled { cancelReason usage { completionTokens } }
  ... on GenerationFailed { error { code message } usage { completionTokens } }"""
REFUSED = "... on GenerationRefused { error { code } }"
GENERATE = f"subscription($input: GenerateInput!) {{ generate(input: $input) {{ {EVENT} {REFUSED} }} }}"
WATCH = f"subscription($id: ID!, $after: Int!) {{ generation(id: $id, after: $after) {{ {EVENT} }} }}"

PASSING = {"SHUTTING_DOWN", "OVERLOADED", "DATABASE_UNAVAILABLE", "STREAM_LOG_UNAVAILABLE"}
"""Codes that say: ask again."""

TERMINAL = {"GenerationCompleted", "GenerationCancelled", "GenerationFailed"}

Event = dict[str, Any]


def code_of(end: Event) -> str:
    """The code of an end that is a failure; else nothing."""
    return end["error"]["code"] if "error" in end else ""


class Refused(Exception):
    """The gateway said no, with a code."""


@dataclass
class Tally:
    """What the clients of one run have seen together."""

    retries: Counter[str] = field(default_factory=Counter[str])
    resume_seconds: list[float] = field(default_factory=list[float])
    evicted: list[str] = field(default_factory=list[str])


@dataclass
class Stream:
    """One generation as its client has it."""

    name: str
    model: str
    continues: bool
    chance: random.Random
    tally: Tally
    id: str | None = None
    text: str = ""
    sequence: int = 0
    lost: int = 0
    doubled: int = 0
    terminals: list[Event] = field(default_factory=list[Event])
    seams: list[str] = field(default_factory=list[str])
    cut_at: float | None = None
    again: list[Event] = field(default_factory=list[Event])
    """What was read anew at the end."""
    expired: bool = False
    """Whether it was told that the text is gone: of two evils the one that is no lie."""

    @property
    def is_over(self) -> bool:
        return self.expired or bool(self.terminals)

    @property
    def expected(self) -> str:
        tokens = int(self.model.split("-")[1])
        return "".join(f"{number} " for number in range(tokens))

    async def run(self, world: World) -> None:
        """Watch it to its end, wherever and however often that takes."""
        gateway = None
        while not self.is_over:
            gateway = world.gateway(self.chance, gateway if self.cut_at else None)
            try:
                await self._watch(gateway, world.key)
            except Refused as error:
                self.tally.retries[str(error)] += 1
                self.expired = str(error) == "STREAM_EXPIRED"
                await self._pause()
            except (OSError, WebSocketException, TimeoutError) as error:
                code = getattr(getattr(error, "rcvd", None), "code", "")
                self.tally.retries[f"{type(error).__name__} {code}".strip()] += 1
                await self._pause()

    async def read_again(self, world: World) -> None:
        """Read the whole stream once more, at any gateway."""
        while not (self.again or self.expired):
            events: list[Event] = []
            try:
                async with _connected(world.gateway(self.chance), world.key) as socket:
                    await _subscribe(socket, WATCH, {"id": self.id, "after": 0})
                    async for event in _events(socket):
                        events.append(event)
                self.again = events
            except (Refused, OSError, WebSocketException, TimeoutError) as error:
                self.expired = str(error) == "STREAM_EXPIRED"
                if isinstance(error, Refused) and str(error) not in PASSING and not self.expired:
                    raise
                await self._pause()

    async def _watch(self, gateway: Program, key: str) -> None:
        left = self.chance.randint(2, 60) if self.chance.random() < 0.7 else -1
        async with _connected(gateway, key) as socket:
            if self.id is None:
                await _subscribe(socket, GENERATE, {"input": self._input()})
            else:
                await _subscribe(socket, WATCH, {"id": self.id, "after": self.sequence})
            async for event in _events(socket):
                self.take(event)
                left -= 1
                if left == 0 and not self.terminals:
                    self.cut_at = time.perf_counter()
                    socket.transport.abort()
                    return

    def take(self, event: Event) -> None:
        """Apply one event strictly."""
        self.id = event["generationId"]
        assert event["sequence"] > self.sequence or event["__typename"] in TERMINAL, (event, self.sequence)
        self.sequence = event["sequence"]
        if event["__typename"] == "TextDelta":
            if self.cut_at is not None:
                self.tally.resume_seconds.append(time.perf_counter() - self.cut_at)
                self.cut_at = None
            self.lost += max(0, event["offset"] - len(self.text))
            self.doubled += max(0, len(self.text) - event["offset"])
            self.text = self.text[: event["offset"]] + event["text"]
        elif event["__typename"] == "GenerationResumed":
            self.seams.append(event["lossReason"])
        elif event["__typename"] in TERMINAL:
            self.terminals.append(event)

    def _input(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": {"text": f"{self.name} count"},
            "onDisconnect": "CONTINUE",
            "onBackendLoss": "CONTINUE" if self.continues else "FAIL",
            "idempotencyKey": self.name,
        }

    async def _pause(self) -> None:
        await anyio.sleep(self.chance.uniform(0.02, 0.2))


def _connected(gateway: Program, key: str) -> "_Connecting":
    return _Connecting(gateway, key)


class _Connecting:
    """A socket that has been acknowledged."""

    def __init__(self, gateway: Program, key: str) -> None:
        url = gateway.url.replace("http", "ws") + "/graphql"
        self._key = key
        self._connecting = websocket(
            url, subprotocols=[Subprotocol("graphql-transport-ws")], open_timeout=10, close_timeout=1, compression=None
        )

    async def __aenter__(self) -> ClientConnection:
        socket = await self._connecting.__aenter__()
        payload = {"Authorization": f"Bearer {self._key}"}
        await socket.send(orjson.dumps({"type": "connection_init", "payload": payload}).decode())
        with anyio.fail_after(10):
            await socket.recv()
        return socket

    async def __aexit__(self, *exception: Any) -> None:
        await self._connecting.__aexit__(*exception)


async def _subscribe(socket: ClientConnection, query: str, variables: dict[str, Any]) -> None:
    message = {"type": "subscribe", "id": "1", "payload": {"query": query, "variables": variables}}
    await socket.send(orjson.dumps(message).decode())


async def _events(socket: ClientConnection) -> Any:
    while True:
        with anyio.fail_after(30):
            message = orjson.loads(await socket.recv())
        if message["type"] == "ping":
            await socket.send('{"type":"pong"}')
        elif message["type"] == "complete":
            return
        elif message["type"] == "error":
            raise Refused(message["payload"][0]["extensions"]["code"])
        elif message["type"] == "next":
            if "errors" in message["payload"]:
                raise Refused(message["payload"]["errors"][0]["extensions"]["code"])
            event = next(iter(message["payload"]["data"].values()))
            if event["__typename"] == "GenerationRefused":
                raise Refused(event["error"]["code"])
            yield event
