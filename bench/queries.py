"""Measures requests a second of a small GraphQL query over HTTP."""

import time
from dataclasses import dataclass

import anyio
import orjson
import psutil

from bench.http import connected
from bench.paths import Failed
from bench.processes import Process
from bench.tokens import cpu_seconds

CLIENTS = 32


@dataclass(frozen=True)
class Rate:
    """What one process did."""

    requests_per_second: float
    microseconds_per_request: float
    """Processor time of the process: what changes least with the load of the machine."""


async def rate(process: Process, query: str, seconds: float, key: str | None = None) -> Rate:
    """Send a query again and again. Raises Failed for an answer with errors."""
    measured = psutil.Process(process.pid)
    cpu, begun = cpu_seconds(measured), time.perf_counter()
    found = await requests_per_second(process.url, query, seconds, key)
    done = found * (time.perf_counter() - begun)
    return Rate(found, (cpu_seconds(measured) - cpu) / done * 1e6)


async def requests_per_second(url: str, query: str, seconds: float, key: str | None = None) -> int:
    """Send a query again and again from 32 connections. Raises Failed for an answer with errors."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    done = 0

    async def client() -> None:
        nonlocal done
        async with connected(url, headers) as connection:
            while time.perf_counter() < deadline:
                answer = orjson.loads(await connection.post("/graphql", {"query": query}))
                if "errors" in answer:
                    raise Failed(str(answer))
                done += 1

    begun = time.perf_counter()
    deadline = begun + seconds
    with anyio.fail_after(seconds + 30):
        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                tasks.start_soon(client)
    return round(done / (time.perf_counter() - begun))
