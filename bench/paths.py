"""The ways from a client to the model server. All give the same: how many tokens came, each time some came."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.http import connected

GENERATE = """
subscription($input: GenerateInput!) { generate(input: $input) {
  __typename ... on GenerationEvent { sequence }
  ... on TextDelta { text tokens }
  ... on GenerationCompleted { finishReason }
  ... on GenerationFailed { error { code message } }
} }
"""

PROMPT = "Count."

Ask = Callable[[str], AsyncIterator[int]]
"""Asks a model, and gives the number of tokens in each frame that has any."""


@dataclass(frozen=True)
class Path:
    """One way. `connect` makes a connection on which one question at a time can be asked."""

    name: str
    connect: Callable[[], AbstractAsyncContextManager[Ask]]
    pid: int | None = None
    """The process that stands between client and model server."""


class Failed(Exception):
    """An answer did not end as it should; no number made of it would mean anything."""


def direct(url: str) -> Path:
    """Ollama's own API, asked directly."""
    return Path("direct", lambda: _streaming(url, "/api/chat", {}, b'"done":false'))


def litellm(url: str, key: str, pid: int) -> Path:
    """LiteLLM's OpenAI-compatible API: server-sent events."""
    headers = {"Authorization": f"Bearer {key}"}
    return Path("litellm", lambda: _streaming(url, "/v1/chat/completions", headers, b'"content":"'), pid)


@asynccontextmanager
async def _streaming(url: str, path: str, headers: dict[str, str], mark: bytes) -> AsyncGenerator[Ask]:
    async with connected(url, headers) as connection:

        async def ask(model: str) -> AsyncIterator[int]:
            body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": True}
            async for line in connection.lines(path, body):
                if mark in line:
                    yield 1

        yield ask


def gateway(url: str, key: str, pid: int, name: str = "ollagraph") -> Path:
    """A GraphQL subscription over a WebSocket, with an API key."""
    return Path(name, lambda: _subscribing(url, key), pid)


@asynccontextmanager
async def _subscribing(url: str, key: str) -> AsyncGenerator[Ask]:
    async with graphql_socket(url, key) as socket:

        async def ask(model: str) -> AsyncIterator[int]:
            await subscribe(socket, "1", GENERATE, {"input": {"model": model, "prompt": {"text": PROMPT}}})
            while (message := orjson.loads(await socket.recv(decode=False)))["type"] != "complete":
                event = _event(message)
                if event["__typename"] == "TextDelta":
                    yield event["tokens"]

        yield ask


def _event(message: dict[str, Any]) -> dict[str, Any]:
    if message["type"] != "next" or "errors" in message["payload"]:
        raise Failed(str(message))
    event = message["payload"]["data"]["generate"]
    if event["__typename"] in {"GenerationFailed", "GenerationRefused"}:
        raise Failed(str(event))
    return event


@asynccontextmanager
async def graphql_socket(url: str, key: str) -> AsyncGenerator[ClientConnection]:
    """A WebSocket that speaks graphql-transport-ws and has been acknowledged."""
    address = url.replace("http://", "ws://") + "/graphql"
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(address, subprotocols=protocols, compression=None, ping_interval=None, proxy=None) as socket:
        payload = {"Authorization": f"Bearer {key}"}
        await socket.send(orjson.dumps({"type": "connection_init", "payload": payload}).decode())
        if orjson.loads(await socket.recv())["type"] != "connection_ack":
            raise Failed("the connection was not acknowledged")
        yield socket


async def subscribe(socket: ClientConnection, id: str, query: str, variables: dict[str, Any]) -> None:
    """Begin an operation."""
    payload = {"query": query, "variables": variables}
    await socket.send(orjson.dumps({"type": "subscribe", "id": id, "payload": payload}).decode())


def relay(url: str, pid: int) -> Path:
    """The raw relay (bench/relay.py)."""
    return Path("raw relay", lambda: _relayed(url), pid)


@asynccontextmanager
async def _relayed(url: str) -> AsyncGenerator[Ask]:
    address = url.replace("http://", "ws://")
    async with connect(address, compression=None, ping_interval=None, proxy=None) as socket:

        async def ask(model: str) -> AsyncIterator[int]:
            await socket.send(orjson.dumps({"model": model}).decode())
            while "text" in orjson.loads(await socket.recv(decode=False)):
                yield 1

        yield ask
