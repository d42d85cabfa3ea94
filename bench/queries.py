"""Measures requests a second of a small GraphQL query over HTTP."""

import time

import anyio
import orjson

from bench.http import connected
from bench.paths import Failed

CLIENTS = 32


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
