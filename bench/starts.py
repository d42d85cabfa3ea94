"""Measures the time from the start of the gateway's process to its first answer."""

import statistics
from pathlib import Path

from bench.processes import gateway


def start_seconds(folder: Path, model_server: str, times: int) -> dict[str, float]:
    """The very first start, which makes the database and an administrator, and the median of the later ones."""
    found: list[float] = []
    for _ in range(1 + times):
        with gateway(folder, model_server) as process:
            found.append(process.started_in)
    return {"first_seconds": round(found[0], 2), "later_seconds": round(statistics.median(found[1:]), 2)}
