"""Measures the time to the first token, and the gaps between frames, of a model that takes 20 ms for a token."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import anyio

from bench.fake import PACED
from bench.paths import Path

LONGEST_SECONDS = 180

ANSWER_SECONDS = 64 * 0.02
"""Streams that began at one moment would ask at one moment for ever, and only wait for each other."""


@dataclass
class Times:
    """Milliseconds."""

    first: list[float] = field(default_factory=list[float])
    """From the question to the first token."""
    gaps: list[float] = field(default_factory=list[float])
    """From one frame with tokens to the next."""

    def summary(self) -> dict[str, float]:
        """Medians and 99th percentiles."""
        return {
            "first_median": percentile(self.first, 50),
            "first_p99": percentile(self.first, 99),
            "gap_median": percentile(self.gaps, 50),
            "gap_p99": percentile(self.gaps, 99),
        }


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` of a hundred are not above."""
    return round(sorted(values)[max(0, -(-len(values) * percent // 100) - 1)], 2)


async def times(path: Path, streams: int, answers: int) -> Times:
    """Let each stream ask `answers` times, spread over the time that one takes. The first answer only warms up."""
    measured = Times()

    async def stream(index: int) -> None:
        async with path.connect() as ask:
            await anyio.sleep(ANSWER_SECONDS * index / streams)
            async for _ in ask(PACED):
                pass
            for _ in range(answers):
                came = [time.perf_counter()]
                async for _ in ask(PACED):
                    came.append(time.perf_counter())
                first, *gaps = [(after - before) * 1000 for before, after in pairwise(came)]
                measured.first.append(first)
                measured.gaps.extend(gaps)

    with anyio.fail_after(LONGEST_SECONDS):
        async with anyio.create_task_group() as tasks:
            for index in range(streams):
                tasks.start_soon(stream, index)
    return measured
