"""What the bench found: as a table for people and as JSON for later comparison."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("ollagraph", "strawberry-graphql", "graphql-core", "fastapi", "uvicorn", "httpx", "websockets", "uvloop")

Results = dict[str, Any]


def write(results: Results, litellm: str | None) -> Path:
    """Keep the results with the versions and the kind of machine, and nothing that names the machine itself."""
    now = datetime.now(UTC)
    versions = {name: version(name) for name in PACKAGES} | ({"litellm": litellm} if litellm else {})
    machine = {
        "cpus": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.machine()}",
    }
    file = RESULTS / f"{now:%Y-%m-%d}.json"
    file.parent.mkdir(exist_ok=True)
    content = {"measured_at": f"{now:%Y-%m-%dT%H:%MZ}", "machine": machine, "versions": versions, "results": results}
    dump(file, content)
    return file


def dump(file: Path, content: Results) -> None:
    """Write JSON that people and `git diff` can read."""
    file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def show(results: Results) -> str:
    """All results as tables in plain text."""
    sections = [
        _tokens(results["tokens"]),
        *(_latency(streams, found) for streams, found in results["latency_ms"].items()),
        *([capacity(results["capacity"])] if "capacity" in results else []),
        _memory(results),
        _streams(results["streams"]),
        _queries(results["queries"]),
        _refusals(results),
        _table("Start without the embedded model", ["", "seconds"], [
            ["first start, making the database", f"{results['start']['first_seconds']:.2f}"],
            ["later starts, median", f"{results['start']['later_seconds']:.2f}"],
        ]),
    ]  # fmt: skip
    return "\n\n".join(sections)


def _tokens(tokens: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    rows: list[list[str]] = []
    for streams, paths in tokens.items():
        ours = paths["ollagraph"]["tokens_per_second"]
        for name, found in paths.items():
            rate, cpu = found["tokens_per_second"], found["microseconds_per_token"]
            rows.append([streams, name, f"{rate:,.0f}", f"{ours / rate:.2f}", f"{cpu:,.0f}"])
    heads = ["streams", "path", "tokens/s", "ollagraph is x times that", "CPU microseconds/token"]
    return _table("Tokens through one worker", heads, rows)


def _latency(streams: str, found: Mapping[str, Mapping[str, float]]) -> str:
    base = found["direct"]
    rows = [
        [name, *(f"{values[key]:.2f} ({values[key] - base[key]:+.2f})" for key in values)]
        for name, values in found.items()
    ]
    heads = ["path", "first token, median", "first token, p99", "gap, median", "gap, p99"]
    return _table(f"64 tokens, 20 ms each, {streams} stream(s): ms (and more than direct)", heads, rows)


def capacity(found: Mapping[str, Mapping[str, Any]]) -> str:
    """How many paced streams each path holds, and what that costs it."""
    ours = found["ollagraph"]["streams"]
    rows: list[list[str]] = []
    for name, path in found.items():
        best = path["best"]
        if best is None:
            rows.append([name, "0", "", "", "", ""])
            continue
        first, gap = (" / ".join(f"{best[f'{it}_p{p}']:.1f}" for p in (50, 95, 99)) for it in ("first", "gap"))
        rows.append([name, str(path["streams"]), f"{ours / path['streams']:.2f}", first, gap, f"{best['cpu_percent']}"])
    heads = ["path", "streams", "ollagraph is x times that", "first token p50 / p95 / p99, ms", "gap, ms", "CPU %"]
    return _table(
        "Streams of 50 tokens/s that one worker holds (gap p99 < 40 ms, first token p99 < 100 ms)", heads, rows
    )


def _memory(results: Results) -> str:
    rows = [
        [f"{name}, 128 streams", f"{found['most_memory_mb']:,.0f} MB"]
        for name, found in results["tokens"]["128"].items()
    ]
    idle = results["idle"]
    rows += [
        ["ollagraph, one idle subscription more", f"{idle['subscription_kb']:.1f} kB"],
        ["ollagraph, one idle socket more", f"{idle['socket_kb']:.1f} kB"],
        ["ollagraph, one open stream more (socket, generation, connection)", f"{idle['open_stream_kb']:.1f} kB"],
        [
            f"ollagraph with {idle['count']:,.0f} idle subscriptions and as many open streams",
            f"{idle['worker_mb']:,.0f} MB",
        ],
    ]
    return _table("Memory of the worker", ["", "resident"], rows)


def _streams(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [f"{log} log, {place}", f"{kept[f'open_{place}_kb']:.1f}", f"{kept[f'finished_{place}_kb']:.1f}"]
        for log, kept in found.items()
        for place in ("worker", "valkey")
        if f"open_{place}_kb" in kept
    ]
    return _table("Memory of one stream more", ["", "open: kB", "finished, 256 tokens: kB"], rows)


def _queries(found: Mapping[str, Mapping[str, int]]) -> str:
    names = {
        "ollagraph": "ollagraph: { me { username } } with an API key",
        "bare": "Strawberry + FastAPI: { hello }",
    }
    rows: list[list[str]] = []
    for name, told in names.items():
        rate, cpu = found[name]["requests_per_second"], found[name]["microseconds_per_request"]
        times = [rate / found["bare"]["requests_per_second"], found["bare"]["microseconds_per_request"] / cpu]
        rows.append([told, f"{rate:,}", f"{times[0]:.2f}", f"{cpu:,}", f"{times[1]:.2f}"])
    heads = ["", "requests/s", "of bare", "CPU microseconds/request", "bare is x times that"]
    return _table("Queries over HTTP", heads, rows)


def _refusals(results: Results) -> str:
    rows = [
        [name, f"{found['milliseconds']:.2f}", f"{found['cpu_ms']:.2f}"] for name, found in results["refusals"].items()
    ]
    slow = results["slow_clients"]
    heads = ["", "ms until refused", "CPU ms of the worker"]
    beside = f"Queries/s: {slow['alone']:,} alone, {slow['beside']:,} beside 500 connections that never end their head"
    return _table("Refusing hostile requests", heads, rows) + "\n  " + beside


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([title, *("  " + line.rstrip() for line in lines)])
