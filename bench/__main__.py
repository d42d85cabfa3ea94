"""`python -m bench`: measure everything, print a table, keep the numbers in bench/results/."""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
import orjson

from bench import capacity, latency, litellm, memory, paths, processes, queries, refusals, report, starts, tokens
from tests.support.valkeys import valkey_server

STREAMS = (1, 16, 128)
REPEATS = 3
SECONDS = 4.0
IDLE = 5000
KEPT = 1000
ANSWERS = {1: 21, 32: 6}
"""For each number of paced streams, how many answers each of them reads."""


async def measure_tokens(all_paths: Sequence[paths.Path], repeats: int, seconds: float) -> report.Results:
    """Tokens a second. The paths take turns, so that a slow minute of the machine meets all of them."""
    results: report.Results = {}
    for path in all_paths:
        await tokens.rate(path, 1, 0)  # warms it up
    for streams in STREAMS:
        rates: dict[str, list[tokens.Rate]] = {path.name: [] for path in all_paths}
        for turn in range(repeats):
            for path in all_paths:
                if turn == 0 or path.name != "litellm":  # one turn of it takes as long as all the others together
                    said(f"tokens/s: {path.name}, {streams} streams")
                    rates[path.name].append(await tokens.rate(path, streams, seconds))
        results[str(streams)] = {name: asdict(_middle(found)) for name, found in rates.items()}
    return results


def _middle(rates: Sequence[tokens.Rate]) -> tokens.Rate:
    return tokens.Rate(
        round(statistics.median(rate.tokens_per_second for rate in rates)),
        statistics.median(rate.microseconds_per_token for rate in rates),
        max(rate.most_memory_mb for rate in rates),
    )


async def measure_latency(all_paths: Sequence[paths.Path], repeats: int) -> report.Results:
    """Time to the first token, and gaps."""
    results: report.Results = {}
    for streams, answers in ANSWERS.items():
        results[str(streams)] = {}
        for path in all_paths:
            said(f"latency: {path.name}, {streams} streams")
            found = await latency.times(path, streams, -(-answers * repeats // REPEATS))
            results[str(streams)][path.name] = found.summary()
    return results


async def measure_queries(
    gateway: processes.Gateway, bare: processes.Process, repeats: int, seconds: float
) -> report.Results:
    """Small queries, in many short turns; the first, in which both warm up, does not count."""
    said("queries")
    turns, seconds = 4 * repeats, seconds / 4
    found: dict[str, list[queries.Rate]] = {"bare": [], "ollagraph": []}
    for _ in range(turns + 1):
        found["bare"].append(await queries.rate(bare, "{ hello }", seconds))
        found["ollagraph"].append(await queries.rate(gateway, "{ me { username } }", seconds, gateway.key))
    return {
        name: {
            "requests_per_second": round(statistics.median(rate.requests_per_second for rate in rates[1:])),
            "microseconds_per_request": round(statistics.median(rate.microseconds_per_request for rate in rates[1:])),
        }
        for name, rates in found.items()
    }


async def measure(
    gateway: processes.Gateway,
    peers: Sequence[paths.Path],
    model_server: str,
    bare: processes.Process,
    options: argparse.Namespace,
    results: report.Results,
) -> None:
    """Add everything that is measured on running processes."""
    ours = paths.gateway(gateway.url, gateway.key, gateway.pid)
    results["tokens"] = await measure_tokens([ours, *peers], options.repeats, options.seconds)
    results["latency_ms"] = await measure_latency([paths.direct(model_server), ours, *peers], options.repeats)
    results["capacity"] = await capacity.measure([paths.direct(model_server), ours, *peers], options.seconds)
    results["queries"] = await measure_queries(gateway, bare, options.repeats, options.seconds)


def said(what: str) -> None:
    """Tell how far it is."""
    print(f"measuring {what} ...", flush=True)


def run(options: argparse.Namespace, folder: Path, results: report.Results) -> bool:
    """Start everything, measure, end everything, and add what was found. Tells whether LiteLLM took part."""
    with ExitStack() as stack:
        model_server = stack.enter_context(processes.fake_model_server(folder))
        relay = stack.enter_context(processes.module("bench.relay", folder, "/", model_server))
        peers = [paths.relay(relay.url, relay.pid)]
        if options.litellm and litellm.install():
            proxy = stack.enter_context(litellm.proxy(folder, model_server))
            peers += [proxy] if proxy is not None else []
        bare = stack.enter_context(processes.module("bench.bare", folder, "/docs"))
        valkey = stack.enter_context(valkey_server(folder))
        _run(valkey.answers)
        shared_folder = folder / "shared"
        shared_folder.mkdir()
        with (
            processes.gateway(folder, model_server) as gateway,
            processes.gateway(shared_folder, model_server, REDIS_URL=valkey.url) as shared,
        ):
            peers.insert(0, paths.gateway(shared.url, shared.key, shared.pid, "ollagraph, shared log"))
            _run(measure, gateway, peers, model_server, bare, options, results)
        # a worker of its own, which has not grown yet
        with processes.gateway(folder, model_server) as gateway:
            said("memory")
            results["idle"] = _run(memory.idle_kb, gateway, options.idle)
        results["streams"] = {}
        for name, url in (("memory", None), ("shared", valkey.url)):
            settings = {} if url is None else {"REDIS_URL": url}
            with processes.gateway(folder, model_server, **settings) as gateway:
                results["streams"][name] = _run(memory.stream_kb, gateway, KEPT, url)
        with processes.gateway(folder, model_server, MAX_OPERATIONS_PER_SOCKET="20") as gateway:
            said("refusals")
            results["refusals"] = _run(refusals.costs, gateway)
            results["slow_clients"] = _run(refusals.beside_slow_clients, gateway, options.seconds)
        said("start")
        fresh = folder / "fresh"
        fresh.mkdir()
        results["start"] = starts.start_seconds(fresh, model_server, 5)
    return any(path.name == "litellm" for path in peers)


def _run(function: Any, *arguments: Any) -> Any:
    return anyio.run(function, *arguments, backend_options={"use_uvloop": True})


def main() -> None:
    """Read the options, measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--no-litellm", dest="litellm", action="store_false", help="leave LiteLLM out")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="turns of each measurement; the median counts")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long one turn lasts")
    parser.add_argument("--idle", type=int, default=IDLE, help="idle subscriptions to open")
    parser.add_argument("--no-results", dest="keep", action="store_false", help="do not write bench/results/")
    options = parser.parse_args()
    processes.allow_open_files()
    results: report.Results = {}
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            with_litellm = run(options, Path(folder), results)
    except BaseException:
        print(f"\nFound before it failed: {orjson.dumps(results).decode()}")  # it took a quarter of an hour
        raise
    print(f"\n{report.show(results)}")
    if options.keep:
        file = report.write(results, litellm.VERSION if with_litellm else None)
        print(f"\nWritten to bench/results/{file.name}")


if __name__ == "__main__":
    main()
