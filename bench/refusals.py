"""Measures what refusing hostile requests costs: time for the client, and processor time of the worker."""

import asyncio
import gzip
import statistics
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit

import anyio
import orjson
import psutil
from anyio import to_thread

from bench.documents import Search, search
from bench.fake import HOLD
from bench.memory import START
from bench.paths import PROMPT, graphql_socket, subscribe
from bench.processes import Gateway
from bench.queries import requests_per_second

REPEATS = 50
OPERATIONS = 10_000
SLOW = 500
LONGEST_SECONDS = 120
SEARCHED_SECONDS = 30

DOCUMENTS = {
    "40 nested fragments that double (2^40 fields)": "{ ...F0 } "
    + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40))
    + " fragment F40 on Query { a: me { id } }",
    "1,100 aliases": "{ " + " ".join(f"a{n}:me{{id}}" for n in range(1100)) + " }",
    "2,000 directives on a field": "{ me { id " + "@a " * 2000 + "} }",
    "introspection 60 levels deep": "{ __schema { types { " + "ofType { " * 58 + "name" + " }" * 61,
    "230 equal fields": "{ generations(first: 1) { nodes { " + "user{id} " * 230 + "} } }",
    "a page that may cost 10,201": "{ generations(first: 100) { nodes { user { apiKeys { id } } } } }",
}


async def costs(gateway: Gateway) -> dict[str, Mapping[str, float]]:
    """For each kind, the milliseconds until the refusal and the worker's processor time for it."""
    kinds = {name: _request({"query": query}) for name, query in DOCUMENTS.items()}
    kinds["a body of 100 MB, announced"] = _head(100_000_000)
    packed = gzip.compress(bytes(10_000_000))
    kinds["10 MB packed into 10 kB"] = _head(len(packed), "Content-Encoding: gzip\r\n") + packed
    with anyio.fail_after(LONGEST_SECONDS):
        found = {name: await _refused(gateway, request) for name, request in kinds.items()}
        found[f"one of {OPERATIONS:,} operations on one socket"] = await _flooded(gateway)
    for name, deed in (("document", Search.documents), ("variables", Search.variables)):
        searched = await to_thread.run_sync(partial(search, deed, SEARCHED_SECONDS, seed=1))  # it has a loop of its own
        worst = searched.best[0].milliseconds
        found[f"the worst {name} of {SEARCHED_SECONDS} s of random search"] = {
            "milliseconds": round(worst, 2),
            "cpu_ms": round(worst, 2),
        }
    return found


async def beside_slow_clients(gateway: Gateway, seconds: float) -> dict[str, int]:
    """Queries a second with nobody else there, and beside 500 connections that never finish their first line."""
    alone = await requests_per_second(gateway.url, "{ me { username } }", seconds, gateway.key)
    address = urlsplit(gateway.url)
    async with AsyncExitStack() as stack:
        for _ in range(SLOW):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            stack.callback(writer.close)
            writer.write(b"POST /gra")
        beside = await requests_per_second(gateway.url, "{ me { username } }", seconds, gateway.key)
    return {"alone": alone, "beside": beside}


def _head(length: int, others: str = "") -> bytes:
    return (
        f"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{others}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def _request(body: object) -> bytes:
    data = orjson.dumps(body)
    return _head(len(data)) + data


async def _refused(gateway: Gateway, request: bytes) -> Mapping[str, float]:
    """Each time on a connection of its own, since some refusals end it."""
    address = urlsplit(gateway.url)
    process = psutil.Process(gateway.pid)
    times: list[float] = []
    cpu = _cpu(process)
    for _ in range(REPEATS):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        begun = time.perf_counter()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        times.append((time.perf_counter() - begun) * 1000)
        if b" 200 " in answer and b"errors" not in await reader.read(100):
            raise AssertionError(f"not refused: {answer[:200]!r}")
        writer.close()
    return {"milliseconds": round(statistics.median(times), 2), "cpu_ms": round((_cpu(process) - cpu) / REPEATS, 2)}


async def _flooded(gateway: Gateway) -> Mapping[str, float]:
    """As many operations as are allowed wait for their model; then come ten thousand more."""
    process = psutil.Process(gateway.pid)
    async with graphql_socket(gateway.url, gateway.key) as socket:
        for number in range(20):
            await subscribe(socket, f"held-{number}", START, {"input": {"model": HOLD, "prompt": {"text": PROMPT}}})
            await socket.recv()
        cpu, begun, refused = _cpu(process), time.perf_counter(), 0

        async def flood() -> None:
            for number in range(OPERATIONS):
                await subscribe(socket, f"flood-{number}", "{ me { username } }", {})

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flood)
            while refused < OPERATIONS:
                refused += orjson.loads(await socket.recv())["type"] == "error"
        elapsed = time.perf_counter() - begun
    return {
        "milliseconds": round(elapsed * 1000 / OPERATIONS, 3),
        "cpu_ms": round((_cpu(process) - cpu) / OPERATIONS, 3),
    }


def _cpu(process: psutil.Process) -> float:
    """Milliseconds."""
    times = process.cpu_times()
    return (times.user + times.system) * 1000
