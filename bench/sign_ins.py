"""`python -m bench.sign_ins`: sign-ins that one process sustains, and what running streams notice of them.

Streams that are paced at 20 ms for a token go on all the time. In turns, nobody, one and eight clients sign in with a
password as fast as they can; each turn tells the gaps between frames, so that all stand beside each other in one run.
"""

import argparse
import tempfile
import time
from pathlib import Path

import anyio
import httpx

from bench import latency, paths, processes
from bench.latency import percentile

LOGIN = 'mutation($p: String!) { login(input: {username: "admin", password: $p}) { __typename } }'
PASSWORD = "bench: correct horse battery"


async def sign_in_for_ever(url: str, times: list[float]) -> None:
    """Sign in again and again; note how many seconds each took."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while True:
            begun = time.perf_counter()
            response = await client.post("/graphql", json={"query": LOGIN, "variables": {"p": PASSWORD}})
            answer = response.json()
            if (answer.get("data") or {}).get("login") != {"__typename": "LoginSuccess"}:
                raise paths.Failed(str(answer))
            times.append(time.perf_counter() - begun)


async def turn(path: paths.Path, url: str, streams: int, clients: int) -> None:
    """Let streams run, with so many clients that sign in beside them, and tell what came of it."""
    times: list[float] = []
    begun = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(clients):
            tasks.start_soon(sign_in_for_ever, url, times)
        found = (await latency.times(path, streams, 4)).summary()
        tasks.cancel_scope.cancel()
    seconds = time.perf_counter() - begun
    print(
        f"{clients} clients sign in beside {streams} streams: gaps p50 {found['gap_median']} p99 {found['gap_p99']} ms"
    )
    if times:
        milliseconds = [1000 * it for it in times]
        print(
            f"    {len(times) / seconds:.1f} sign-ins a second, p50 {percentile(milliseconds, 50):.0f} "
            f"p99 {percentile(milliseconds, 99):.0f} ms"
        )


async def measure(streams: int, turns: int) -> None:
    """Let nobody, one and eight clients sign in, in turns."""
    folder = Path(tempfile.mkdtemp())
    with (
        processes.fake_model_server(folder) as model_server,
        processes.gateway(folder, model_server, ADMIN_PASSWORD=PASSWORD) as gateway,
    ):
        path = paths.gateway(gateway.url, gateway.key, gateway.pid)
        for _ in range(turns):
            for clients in (0, 1, 8):
                await turn(path, gateway.url, streams, clients)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--turns", type=int, default=2)
    given = parser.parse_args()
    anyio.run(measure, given.streams, given.turns)
