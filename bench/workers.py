"""Measures one process beside several workers: `python -m bench.workers`.

Both run at the same time and take turns, so that a slow minute of the machine meets both. Where client and model server
share the cores with them, tokens a second tell little; the processor time for a token tells what the sharing of streams
costs, and how evenly the workers took their part.
"""

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import anyio
import psutil

from bench import paths, processes, tokens

STREAMS = 64


async def compare(all_paths: list[paths.Path], turns: int, seconds: float) -> None:
    """Print for each path the median of its turns."""
    found: dict[str, list[tokens.Rate]] = {path.name: [] for path in all_paths}
    for path in all_paths:
        await tokens.rate(path, 8, 0)  # warms it up
    for _ in range(turns):
        for path in all_paths:
            found[path.name].append(await tokens.rate(path, STREAMS, seconds))
    for name, rates in found.items():
        speed = statistics.median(rate.tokens_per_second for rate in rates)
        cost = statistics.median(rate.microseconds_per_token for rate in rates)
        print(f"{name:<12} {speed:>8,.0f} tokens/s  {cost:>6.1f} CPU microseconds/token")


def _shares(gateway: processes.Gateway) -> list[str]:
    """Tell of each process of a gateway what it has used of the processor, and how much memory it has for itself."""
    return [
        f"{_name(process):<20} {tokens.cpu_seconds(process):>6.1f} s {_megabytes(process):>5.0f} MB"
        for process in tokens.tree(gateway.pid)
    ]


def _megabytes(process: psutil.Process) -> float:
    """Of its own; what several processes share counts for none of them."""
    return process.memory_full_info().uss / 1e6


def _name(process: psutil.Process) -> str:
    return next((Path(part).name for part in process.cmdline() if part.endswith(".py")), process.name())


def main() -> None:
    """Read the options, measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long one turn lasts")
    options = parser.parse_args()
    processes.allow_open_files()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        model_server = stack.enter_context(processes.fake_model_server(Path(name)))
        gateways: list[processes.Gateway] = []
        for workers in (1, options.workers):
            folder = Path(name, f"workers{workers}")
            folder.mkdir()
            gateways.append(stack.enter_context(processes.gateway(folder, model_server, WORKERS=str(workers))))
        labels = ("1 process", f"{options.workers} workers")
        both = [
            paths.gateway(gateway.url, gateway.key, gateway.pid, label)
            for label, gateway in zip(labels, gateways, strict=True)
        ]
        anyio.run(compare, both, options.turns, options.seconds, backend_options={"use_uvloop": True})
        print(f"Each process, of {psutil.cpu_count()} cores, and memory of its own:", *_shares(gateways[1]), sep="\n  ")


if __name__ == "__main__":
    main()
