"""The statements about the usage ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    String,
    Subquery,
    case,
    cast,
    extract,
    func,
    literal,
    select,
    type_coerce,
)

from db.engine import ReadSession
from db.tables import UsageRecord

DIMENSIONS = {
    "model": UsageRecord.model,
    "api_key_id": UsageRecord.api_key_id,
    "user_id": UsageRecord.user_id,
    "backend": UsageRecord.backend,
    "state": UsageRecord.state,
    "finish_reason": UsageRecord.finish_reason,
}
"""The columns that usage can be summed by and chosen by."""

_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens")
"""The columns that are added up, in the order of UsageSums; null counts as nothing."""


@dataclass(frozen=True, slots=True)
class BucketRun:
    """Neighbouring buckets of one length: the first begins at `start`, has the number `first`, and each `seconds`.

    `seconds` is None for a bucket by itself. `start` may have a fraction of a second only there.
    """

    start: datetime
    seconds: int | None
    first: int


@dataclass(frozen=True, slots=True)
class UsageSums:
    """Sums over some rows of the ledger."""

    generations: int = 0
    completed: int = 0
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """What was used in one bucket under one value of each dimension; None where it was not asked for, or is none."""

    bucket: int
    values: Mapping[str, str | UUID | None]
    sums: UsageSums


async def usage_groups(
    session: ReadSession,
    start: datetime,
    end: datetime,
    *,
    runs: Sequence[BucketRun],
    dimensions: Sequence[str],
    chosen: Mapping[str, Sequence[object]],
    limit: int,
) -> Sequence[UsageGroup]:
    """Sum up the rows from `start` up to and without `end`, by bucket and dimensions; no more than `limit` groups.

    `chosen` has the values that are wanted of a column; rows of all values count for the others. In no order: the
    databases sort text differently.
    """
    bucket = _bucket(runs, _epoch(session.get_bind().dialect.name))
    columns = [DIMENSIONS[name] for name in dimensions]
    numbers = [getattr(UsageRecord, name) for name in _TOKENS]
    # the bucket is computed inside: PostgreSQL does not see that two expressions with parameters are the same
    rows = (
        select(bucket.label("bucket"), *columns, UsageRecord.state.label("ended_as"), *numbers)
        .where(UsageRecord.at >= start, UsageRecord.at < end)
        .where(*(DIMENSIONS[name].in_(values) for name, values in chosen.items()))
        .subquery()
    )
    group = [rows.c.bucket, *(rows.c[name] for name in dimensions)]
    # PostgreSQL's sum of integers is a bigint, of bigints a numeric: the cast keeps both databases alike
    sums = [cast(func.sum(part), BigInteger) for part in _parts(rows)]
    found = await session.execute(select(*group, func.count(), *sums).group_by(*group).limit(limit))
    width = 1 + len(dimensions)
    return [
        UsageGroup(row[0], dict(zip(dimensions, row[1:width], strict=True)), UsageSums(*row[width:])) for row in found
    ]


def _parts(rows: Subquery) -> list[ColumnElement[Any]]:
    """Give what is added up of each row, in the order of UsageSums."""
    ended = [case((rows.c.ended_as == state, 1), else_=0) for state in ("COMPLETED", "CANCELLED", "FAILED")]
    tokens = [func.coalesce(rows.c[name], 0) for name in _TOKENS]
    return [*ended, *tokens]


def _bucket(runs: Sequence[BucketRun], epoch: ColumnElement[int]) -> ColumnElement[int]:
    """Give the number of the bucket that a row falls into."""
    *earlier, last = [_number(run, epoch) for run in runs]
    if not earlier:
        return last
    ends = [following.start for _, following in pairwise(runs)]
    return case(*((UsageRecord.at < end, number) for end, number in zip(ends, earlier, strict=True)), else_=last)


def _number(run: BucketRun, epoch: ColumnElement[int]) -> ColumnElement[int]:
    first = literal(run.first, BigInteger)
    if run.seconds is None:
        return first
    return first + (epoch - literal(int(run.start.timestamp()), BigInteger)) // literal(run.seconds, BigInteger)


def _epoch(dialect: str) -> ColumnElement[int]:
    """Give the whole seconds of a row's time since 1970, rounded down."""
    if dialect == "postgresql":
        return cast(func.floor(extract("epoch", UsageRecord.at)), BigInteger)
    # without its fraction: SQLite rounds that to milliseconds, and so the end of a bucket into the next one
    second = func.substr(type_coerce(UsageRecord.at, String), 1, 19)
    return cast(func.strftime("%s", second), BigInteger)
