"""Measures what waiting costs: how much the worker grows with each socket, subscription and generation that is open."""

from contextlib import AsyncExitStack

import anyio
import orjson
import psutil
from redis import asyncio as redis
from websockets.asyncio.client import ClientConnection

from bench import paths
from bench.fake import COUNT, HOLD
from bench.paths import PROMPT, Failed, graphql_socket, subscribe
from bench.processes import Gateway

START = """
subscription($input: GenerateInput!) { generate(input: $input) {
  __typename ... on GenerationEvent { generationId sequence }
} }
"""
WATCH = """
subscription($id: ID!) { generation(id: $id) { __typename sequence ... on TextDelta { text tokens } } }
"""
LONGEST_SECONDS = 120
AT_ONCE = 20


async def idle_kb(gateway: Gateway, count: int) -> dict[str, float]:
    """Kilobytes of the worker: for a socket alone, for one more subscription, and for all of an open stream.

    A subscription watches a generation that its model holds. An open stream is all that one client's question
    takes: a socket, a subscription, a generation and the connection to the model server.
    """
    process = psutil.Process(gateway.pid)
    async with AsyncExitStack() as stack:
        with anyio.fail_after(LONGEST_SECONDS):
            sockets = await _sockets(stack, gateway, 10)
            for socket in sockets:
                generation = await _start(socket, "first")
            start = process.memory_info().rss
            for number in range(count):
                socket = sockets[number % len(sockets)]
                await subscribe(socket, f"watch-{number}", WATCH, {"id": generation})
                await _next(socket)
            watching = process.memory_info().rss
            more = await _sockets(stack, gateway, count)
            connected = process.memory_info().rss
            for socket in more:
                await _start(socket, "1")
            streaming = process.memory_info().rss
    return {
        "count": count,
        "subscription_kb": round((watching - start) / count / 1000, 1),
        "socket_kb": round((connected - watching) / count / 1000, 1),
        "open_stream_kb": round((streaming - watching) / count / 1000, 1),
        "worker_mb": round(streaming / 1e6, 1),
    }


async def stream_kb(gateway: Gateway, count: int, valkey_url: str | None) -> dict[str, float]:
    """Kilobytes for each stream that is open and silent, and for each that ended after 256 tokens.

    Of the worker, and of Valkey where the streams are shared. All are asked for on few sockets.
    """
    async with AsyncExitStack() as stack:
        sockets = await _sockets(stack, gateway, AT_ONCE)
        await _finish(gateway, count // 10)
        begun = await _held(gateway, valkey_url)
        for number in range(count):
            await _start(sockets[number % AT_ONCE], str(number))
        opened = await _held(gateway, valkey_url)
        await _finish(gateway, count)
        finished = await _held(gateway, valkey_url)
    found: dict[str, float] = {"count": count}
    for name, before, after in (("open", begun, opened), ("finished", opened, finished)):
        for place in after:
            found[f"{name}_{place}_kb"] = round((after[place] - before[place]) / count / 1000, 2)
    return found


async def _finish(gateway: Gateway, count: int) -> None:
    """Have so many answers, and some more to fill the last round."""
    path = paths.gateway(gateway.url, gateway.key, gateway.pid)

    async def ask_again_and_again() -> None:
        async with path.connect() as ask:
            for _ in range(-(-count // AT_ONCE)):
                async for _ in ask(COUNT):
                    pass

    with anyio.fail_after(LONGEST_SECONDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(ask_again_and_again)


async def _held(gateway: Gateway, valkey_url: str | None) -> dict[str, int]:
    """Bytes that the worker holds, and Valkey."""
    held = {"worker": psutil.Process(gateway.pid).memory_info().rss}
    if valkey_url is not None:
        async with redis.Redis.from_url(valkey_url) as client:
            held["valkey"] = (await client.info("memory"))["used_memory"]
    return held


async def _sockets(stack: AsyncExitStack, gateway: Gateway, count: int) -> list[ClientConnection]:
    return [await stack.enter_async_context(graphql_socket(gateway.url, gateway.key)) for _ in range(count)]


async def _start(socket: ClientConnection, id: str) -> str:
    await subscribe(socket, id, START, {"input": {"model": HOLD, "prompt": {"text": PROMPT}}})
    return (await _next(socket))["generate"]["generationId"]


async def _next(socket: ClientConnection) -> dict[str, dict[str, str]]:
    message = orjson.loads(await socket.recv())
    if message["type"] != "next" or "errors" in message["payload"]:
        raise Failed(str(message))
    return message["payload"]["data"]
