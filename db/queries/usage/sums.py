"""What the statements about usage are asked for, and what they give."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple
from uuid import UUID

NANO = 1_000_000_000
"""The money in the database is in billionths of the currency's unit."""

DAY = 86_400
MONTH = 30 * DAY
"""The `seconds` of sums over a month of UTC, however many days it has."""

TAG = ("tag_name", "tag_value")
"""The dimensions that a tag has. They are no columns: a generation has as many values of them as it has tags."""

GROUP = "group_id"
"""The dimension of the groups that the user was in: as many values as there were groups."""

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens")
"""The columns that are added up, in the order of UsageSums; null counts as nothing."""

STATES = ("COMPLETED", "CANCELLED", "FAILED")
"""The states that are counted, in the order of UsageSums."""


class UsageSums(NamedTuple):
    """Sums over some generations; a tuple, for a report makes many. `costs` are billionths by currency.

    Those without a price are not among them.
    """

    generations: int = 0
    completed: int = 0
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    costs: tuple[tuple[str, int], ...] = ()


def added(parts: Iterable[UsageSums]) -> UsageSums:
    """Add sums up."""
    *counts, costs = zip(UsageSums(), *parts, strict=True)
    together = dict[str, int]()
    for currency, nano in chain.from_iterable(costs):
        together[currency] = together.get(currency, 0) + nano
    return UsageSums(*map(sum, counts), costs=tuple(sorted(together.items())))


@dataclass(frozen=True, slots=True)
class UsageChoice:
    """By which dimensions usage is summed up, and of which generations.

    `chosen` has the values that are wanted of a column; those of all values count for the others. `tags` chooses those
    that have one of the values for each of the names, `group_ids` those whose user was in one of the groups.
    """

    dimensions: Sequence[str] = ()
    chosen: Mapping[str, Sequence[object]] | None = None
    tags: Collection[tuple[str, str]] | None = None
    group_ids: Collection[str] | None = None


UsageValues = tuple[str | UUID | None, ...]
"""The values of the dimensions of a choice, in their order."""


class UsageGroup(NamedTuple):
    """What was used in one bucket under one value of each dimension, in one currency."""

    bucket: int
    values: UsageValues
    sums: UsageSums


@dataclass(frozen=True, slots=True)
class BinGroup:
    """How many generations of one group fall into one bin of one measure's histogram."""

    bucket: int
    values: UsageValues
    measure: int
    bin: int
    generations: int


@dataclass(frozen=True, slots=True)
class TimedGroup:
    """What the measures of one generation are computed from, and the group that it is in."""

    bucket: int
    values: UsageValues
    completion_tokens: int
    eval_ms: int | None
    time_to_first_token_ms: int | None
    last_token_ms: int | None
    total_ms: int | None


def group_of(row: Sequence[object], width: int) -> UsageGroup:
    """Read a row: bucket, dimensions, currency, whole units and billionths of the cost, counts."""
    bucket, *values = row[: 1 + width]
    currency, units, nano, *counts = row[1 + width :]
    costs = () if currency is None else ((str(currency), int(units or 0) * NANO + int(nano or 0)),)  # type: ignore[call-overload]
    return UsageGroup(bucket, tuple(values), UsageSums(*counts, costs=costs))  # type: ignore[arg-type]
