"""`python -m bench.capacity`: how many streams, paced at 50 tokens a second, one worker holds.

A path holds a number of streams while the 99th percentile of the gap between frames stays under 40 ms and that of the
first token under 100 ms. The number is doubled until a path fails twice, then bisected. Paths take turns at each step,
so that a slow minute of the machine meets all of them.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path as Folder
from typing import Any

import anyio
import psutil

from bench import litellm, paths, processes, report
from bench.fake import PACED_LONG
from bench.latency import percentile
from bench.paths import Failed, Path
from bench.tokens import cpu_seconds
from tests.support.valkeys import valkey_server

GAP_MS = 40
FIRST_MS = 100
"""What a path must stay under, at the 99th percentile, to hold a number of streams."""

ANSWER_SECONDS = 256 * 0.02
WARM_SECONDS = ANSWER_SECONDS + 1
"""Streams begin spread over the time of one answer; what comes until all of them run is cut."""

CONNECT_SECONDS = 60
FEWEST = 16
MOST = 4096
EXACT = 0.06
"""A search ends when what holds and what fails are nearer than this, as a part of what holds."""


@dataclass
class Probe:
    """What one path did under one number of streams. Milliseconds."""

    streams: int
    first: list[float] = field(default_factory=list[float])
    gaps: list[float] = field(default_factory=list[float])
    cpu_percent: float = 0
    failure: str | None = None

    @property
    def holds(self) -> bool:
        """Whether it stayed under both limits."""
        return (
            self.failure is None
            and bool(self.first)
            and percentile(self.first, 99) < FIRST_MS
            and percentile(self.gaps, 99) < GAP_MS
        )

    def summary(self) -> dict[str, Any]:
        """Percentiles, and how often each whole millisecond was measured: all that a later reader may ask."""
        found: dict[str, Any] = {"streams": self.streams, "holds": self.holds, "cpu_percent": self.cpu_percent}
        for name, values in (("first", self.first), ("gap", self.gaps)):
            found |= {f"{name}_p{percent}": percentile(values, percent) for percent in (50, 95, 99) if values}
            found[f"{name}_histogram"] = {str(ms): n for ms, n in sorted(Counter(map(int, values)).items())}
        return found | ({"failure": self.failure} if self.failure else {})


async def probe(path: Path, streams: int, seconds: float) -> Probe:
    """Let so many streams ask again and again, and measure for `seconds` once all of them run."""
    found = Probe(streams)
    run = _Run(found, streams)
    process = psutil.Process(path.pid) if path.pid is not None else None
    try:
        async with anyio.create_task_group() as tasks:
            for index in range(streams):
                tasks.start_soon(run.stream, path, index)
            with anyio.fail_after(CONNECT_SECONDS):
                await run.connected.wait()
            run.go.set()
            await anyio.sleep(WARM_SECONDS)
            cpu, begun = _cpu(process), time.perf_counter()
            run.measuring = True
            await anyio.sleep(seconds)
            run.count_who_waits()
            found.cpu_percent = round(100 * (_cpu(process) - cpu) / (time.perf_counter() - begun), 1)
            tasks.cancel_scope.cancel()
    except* (Failed, OSError, TimeoutError, EOFError) as failures:
        found.failure = str(failures.exceptions[0])[:200]
    return found


class _Run:
    """The streams of one probe. All are connected before the first one begins."""

    def __init__(self, found: Probe, streams: int) -> None:
        self._found = found
        self._streams = self._cold = streams
        self._waiting: dict[int, tuple[list[float], float]] = {}
        self.measuring = False
        self.connected = anyio.Event()
        self.go = anyio.Event()

    async def stream(self, path: Path, index: int) -> None:
        """Connect, wait for the others, and ask again and again until cancelled."""
        async with path.connect() as ask:
            self._cold -= 1
            if not self._cold:
                self.connected.set()
            await self.go.wait()
            await anyio.sleep(ANSWER_SECONDS * index / self._streams)
            while True:
                self._waiting[index] = (self._found.first, time.perf_counter())
                async for _ in ask(PACED_LONG):
                    now = time.perf_counter()
                    values, since = self._waiting[index]
                    if self.measuring:
                        values.append((now - since) * 1000)
                    self._waiting[index] = (self._found.gaps, now)

    def count_who_waits(self) -> None:
        """Count the streams that have waited for longer than the limit and still do: a stall is not a missing value."""
        self.measuring = False
        now = time.perf_counter()
        for values, since in self._waiting.values():
            waited = (now - since) * 1000
            if waited > (FIRST_MS if values is self._found.first else GAP_MS):
                values.append(waited)


def _cpu(process: psutil.Process | None) -> float:
    return 0 if process is None else cpu_seconds(process)


class Search:
    """Searches for the largest number of streams that one path holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best: Probe | None = None
        self.probes: list[Probe] = []
        self._failed_once: int | None = None
        self._fails: int | None = None

    @property
    def held(self) -> int:
        """The most streams that it held so far."""
        return self.best.streams if self.best is not None else 0

    def next_streams(self) -> int | None:
        """How many to try next; None when the answer is near enough."""
        if self._fails is None:
            return max(FEWEST, 2 * self.held) if self.held < MOST else None
        if self._fails - self.held <= max(1, EXACT * self.held):
            return None
        return (self.held + self._fails) // 2

    async def step(self, streams: int, seconds: float) -> None:
        """Try a number of streams. One that fails is tried again when the others had their turns: a minute was slow."""
        found = await probe(self.path, streams, seconds)
        self.probes.append(found)
        if found.holds:
            self.best = found
        elif self._failed_once == streams:
            self._fails = streams
        else:
            self._failed_once = streams


async def measure(all_paths: Sequence[Path], seconds: float) -> report.Results:
    """Search on all paths, in turns."""
    searches = [Search(path) for path in all_paths]
    while waiting := [(search, streams) for search in searches if (streams := search.next_streams())]:
        for search, streams in waiting:
            print(f"measuring capacity: {search.path.name}, {streams} streams ...", flush=True)
            await search.step(streams, seconds)
    return {
        search.path.name: {
            "streams": search.held,
            "best": search.best.summary() if search.best else None,
            "probes": [found.summary() for found in search.probes],
        }
        for search in searches
    }


def _measure_alone(options: argparse.Namespace, folder: Folder) -> report.Results:
    """Start the gateway and its peers for this measure alone."""
    with ExitStack() as stack:
        model_server = stack.enter_context(processes.fake_model_server(folder))
        relay = stack.enter_context(processes.module("bench.relay", folder, "/", model_server))
        gateway = stack.enter_context(processes.gateway(folder, model_server))
        shared_folder = folder / "shared"
        shared_folder.mkdir()
        valkey = stack.enter_context(valkey_server(folder))
        anyio.run(valkey.answers)
        shared = stack.enter_context(processes.gateway(shared_folder, model_server, REDIS_URL=valkey.url))
        peers = [
            paths.direct(model_server),
            paths.gateway(gateway.url, gateway.key, gateway.pid),
            paths.gateway(shared.url, shared.key, shared.pid, "ollagraph, shared log"),
            paths.relay(relay.url, relay.pid),
        ]
        if options.litellm and litellm.install():
            with suppress(processes.NotStarted):
                proxy = stack.enter_context(litellm.proxy(folder, model_server))
                peers += [proxy] if proxy is not None else []
        return anyio.run(measure, peers, options.seconds, backend_options={"use_uvloop": True})


def main() -> None:
    """Read the options, measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--no-litellm", dest="litellm", action="store_false", help="leave LiteLLM out")
    parser.add_argument("--seconds", type=float, default=6, help="how long each number of streams is measured")
    parser.add_argument("--json", type=Folder, help="write all that was measured to this file")
    options = parser.parse_args()
    processes.allow_open_files()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = _measure_alone(options, Folder(folder))
    print(f"\n{report.capacity(results)}")
    if options.json:
        report.dump(options.json, results)


if __name__ == "__main__":
    main()
