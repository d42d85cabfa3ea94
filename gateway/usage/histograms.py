"""Histograms of how fast generations were, which can be added up, and the percentiles that are read from them.

A bin has one sixteenth of the numbers between two powers of two; numbers under 32 have a bin each. So what is read from
the middle of a bin is at most 1/32 (3.2 %) away from what is in it, whatever its size, and bins are found with whole
numbers alone: the same in every process, on every machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import ceil

MEASURABLE_MS = 20
"""Less time between the first and the last piece of an answer says nothing of its speed."""

_EXACT = 32
_PER_OCTAVE = 16
_LARGEST = 2**40 - 1


class Measure(IntEnum):
    """What histograms are kept of, with the unit of a bin's numbers. The numbers are in the database."""

    TIME_TO_FIRST_TOKEN = 1
    """Milliseconds."""
    TOKENS_PER_SECOND = 2
    """Hundredths."""


SCALES = {Measure.TIME_TO_FIRST_TOKEN: 1, Measure.TOKENS_PER_SECOND: 100}
"""How many of a bin's units are one of those that are told."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """What so many of a hundred generations did not exceed; `generations` are those of which it is known."""

    generations: int
    p50: float
    p90: float
    p95: float
    p99: float


def bin_of(number: int) -> int:
    """Give the bin of a number, which is not negative."""
    if number < _EXACT:
        return number
    number = min(number, _LARGEST)
    shift = number.bit_length() - _PER_OCTAVE.bit_length()
    return _EXACT + (shift - 1) * _PER_OCTAVE + (number >> shift) - _PER_OCTAVE


def middle_of(number: int) -> float:
    """Give the middle of the numbers of a bin."""
    if number < _EXACT:
        return number
    octave, part = divmod(number - _EXACT, _PER_OCTAVE)
    low, width = (_PER_OCTAVE + part) << (octave + 1), 1 << (octave + 1)
    return low + (width - 1) / 2


def percentiles(bins: Mapping[int, int], measure: Measure) -> Percentiles | None:
    """Read percentiles from counts by bin; None where there are none."""
    total = sum(bins.values())
    if not total:
        return None
    told: list[float] = []
    numbers = sorted(bins)
    for percent in (50, 90, 95, 99):
        wanted, seen = ceil(total * percent / 100), 0
        for number in numbers:
            seen += bins[number]
            if seen >= wanted:
                told.append(middle_of(number) / SCALES[measure])
                break
    return Percentiles(total, *told)


def tokens_per_second(
    completion_tokens: int | None,
    eval_ms: int | None,
    time_to_first_token_ms: int | None,
    last_token_ms: int | None,
    total_ms: int | None,
) -> float | None:
    """Divide the tokens by the time that the model server tells, else those after the first by the time after it.

    To two decimals. None where there is one token, or it came in one piece.
    """
    if completion_tokens is None or completion_tokens < 2:
        return None
    if eval_ms:
        return round(completion_tokens * 1000 / eval_ms, 2)
    last_ms = total_ms if last_token_ms is None else last_token_ms  # older gateways noted no last token
    if last_ms is None or time_to_first_token_ms is None:
        return None
    milliseconds = last_ms - time_to_first_token_ms
    return round((completion_tokens - 1) * 1000 / milliseconds, 2) if milliseconds >= MEASURABLE_MS else None


def measured(
    completion_tokens: int | None,
    eval_ms: int | None,
    time_to_first_token_ms: int | None,
    last_token_ms: int | None,
    total_ms: int | None,
) -> dict[Measure, int]:
    """Give the bins of one generation, for each measure that is known of it."""
    found: dict[Measure, int] = {}
    if time_to_first_token_ms is not None:
        found[Measure.TIME_TO_FIRST_TOKEN] = bin_of(max(time_to_first_token_ms, 0))
    speed = tokens_per_second(completion_tokens, eval_ms, time_to_first_token_ms, last_token_ms, total_ms)
    if speed is not None:
        found[Measure.TOKENS_PER_SECOND] = bin_of(round(speed * SCALES[Measure.TOKENS_PER_SECOND]))
    return found
