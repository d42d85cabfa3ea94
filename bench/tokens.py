"""Measures tokens a second, and the processor time of the process in the middle."""

import time
from dataclasses import dataclass

import anyio
import psutil

from bench.fake import COUNT
from bench.paths import Path

LONGEST_SECONDS = 120


@dataclass(frozen=True)
class Rate:
    """What one path did with one number of streams."""

    tokens_per_second: float
    microseconds_per_token: float
    """Processor time of the process in the middle: what does not change with the load of the machine."""
    most_memory_mb: float


async def rate(path: Path, streams: int, seconds: float) -> Rate:
    """Let each stream ask again and again for `seconds`, and end the answer it is at."""
    assert path.pid is not None
    gateway = tree(path.pid)
    run = _Run(streams)
    with anyio.fail_after(LONGEST_SECONDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(streams):
                tasks.start_soon(run.stream, path)
            await run.connected.wait()
            cpu, begun = sum(map(cpu_seconds, gateway)), time.perf_counter()
            run.deadline = begun + seconds
            run.go.set()
            most = 0
            while run.left:
                most = max(most, sum(process.memory_info().rss for process in gateway))
                await anyio.sleep(0.1)
        used = sum(map(cpu_seconds, gateway)) - cpu
    return Rate(
        tokens_per_second=round(run.tokens / (run.ended - begun)),
        microseconds_per_token=round(used / run.tokens * 1e6, 1),
        most_memory_mb=round(most / 1e6, 1),
    )


class _Run:
    """The streams of one measurement. All are connected before the first one begins."""

    def __init__(self, streams: int) -> None:
        self.tokens = 0
        self.deadline = self.ended = 0.0
        self.left = self._cold = streams
        self.connected = anyio.Event()
        self.go = anyio.Event()

    async def stream(self, path: Path) -> None:
        async with path.connect() as ask:
            self._cold -= 1
            if not self._cold:
                self.connected.set()
            await self.go.wait()
            while True:
                async for tokens in ask(COUNT):
                    self.tokens += tokens
                self.ended = time.perf_counter()
                if self.ended > self.deadline:
                    break
            self.left -= 1


def tree(pid: int) -> list[psutil.Process]:
    """Give a process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_seconds(process: psutil.Process) -> float:
    """Give the processor time that it has used."""
    times = process.cpu_times()
    return times.user + times.system
