"""The statements about the usage ledger."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    Subquery,
    TableValuedAlias,
    case,
    cast,
    extract,
    func,
    literal,
    null,
    select,
    true,
    tuple_,
    type_coerce,
    union_all,
)

from db.engine import ReadSession
from db.tables import UsageRecord

_Select: TypeAlias = Select[*tuple[Any, ...]]

DIMENSIONS = {
    "model": UsageRecord.model,
    "api_key_id": UsageRecord.api_key_id,
    "user_id": UsageRecord.user_id,
    "backend": UsageRecord.backend,
    "state": UsageRecord.state,
    "finish_reason": UsageRecord.finish_reason,
    "end_user": UsageRecord.end_user,
}
"""The columns that usage can be summed by and chosen by."""

_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens")
"""The columns that are added up, in the order of UsageSums; null counts as nothing."""

TAG = ("tag_name", "tag_value")
"""The dimensions that a tag has. They are no columns: a generation has as many values of them as it has tags."""

_EACH_TAG = {"sqlite": "json_each", "postgresql": "json_each_text"}
"""The function that gives the tags of a row as rows of `key` and `value`."""


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


@dataclass(frozen=True, slots=True)
class UsageGroups:
    """Groups, and the sums over every row counted once; None where each row is in one group."""

    groups: Sequence[UsageGroup]
    once: UsageSums | None


async def usage_groups(
    session: ReadSession,
    start: datetime,
    end: datetime,
    *,
    runs: Sequence[BucketRun],
    dimensions: Sequence[str],
    chosen: Mapping[str, Sequence[object]],
    tags: Collection[tuple[str, str]] | None = None,
    limit: int,
) -> UsageGroups:
    """Sum up the rows from `start` up to and without `end`, by bucket and dimensions; no more than `limit` groups.

    `chosen` has the values that are wanted of a column; rows of all values count for the others. `tags` chooses rows
    that have one of the values for each of the names. In no order: the databases sort text differently.
    """
    dialect = session.get_bind().dialect.name
    bucket = _bucket(runs, _epoch(dialect))
    columns = [DIMENSIONS[name] for name in dimensions if name not in TAG]
    numbers = [getattr(UsageRecord, name) for name in _TOKENS]
    # the bucket is computed inside: PostgreSQL does not see that two expressions with parameters are the same
    ledger = (
        select(bucket.label("bucket"), *columns, UsageRecord.state.label("ended_as"), *numbers)
        .where(UsageRecord.at >= start, UsageRecord.at < end)
        .where(*(DIMENSIONS[name].in_(values) for name, values in chosen.items()))
    )
    if tags is not None:
        ledger = ledger.where(_has_tags(tags, dialect))
    by_tag = any(name in TAG for name in dimensions)
    if by_tag:
        statement = _by_tag(ledger, dimensions, dialect, limit)
    else:
        rows = ledger.subquery()
        group = [rows.c.bucket, *(rows.c[name] for name in dimensions)]
        statement = select(*group, *_sums(rows)).group_by(*group).limit(limit)
    found = (await session.execute(statement)).all()
    width = 1 + len(dimensions)
    groups = [
        UsageGroup(row[0], dict(zip(dimensions, row[1:width], strict=True)), UsageSums(*row[width:]))
        for row in found
        if row[0] is not None
    ]
    once = next((UsageSums(*(part or 0 for part in row[width:])) for row in found if row[0] is None), None)
    return UsageGroups(groups[:limit], once)


def _by_tag(ledger: _Select, dimensions: Sequence[str], dialect: str, limit: int) -> CompoundSelect[*tuple[Any, ...]]:
    """Sum up rows of the ledger in a group for each of their tags, and in one with the bucket NULL, each row once.

    One statement, so that groups and totals agree. Where groups are too many, the totals may be missing.
    """
    rows = ledger.add_columns(UsageRecord.tags).cte("rows")
    tag = _tags_of(rows.c.tags, dialect)
    parts: dict[str, ColumnElement[Any]] = dict(zip(TAG, (tag.c.key, tag.c.value), strict=True))
    group = [rows.c.bucket, *(parts[name] if name in TAG else rows.c[name] for name in dimensions)]
    groups = select(*group, *_sums(rows)).select_from(rows.outerjoin(tag, true())).group_by(*group)
    once = select(*(null() for _ in group), *_sums(rows)).select_from(rows)
    return union_all(groups, once).limit(limit + 1)


def _has_tags(tags: Collection[tuple[str, str]], dialect: str) -> ColumnElement[bool]:
    """Tell whether a row has one of the values for each of the names. A row has one value for a name."""
    if not tags:
        return literal(0) == 1
    tag = _tags_of(UsageRecord.tags, dialect)
    found = select(func.count()).select_from(tag).where(tuple_(tag.c.key, tag.c.value).in_(list(tags)))
    return found.correlate(UsageRecord).scalar_subquery() == len({name for name, _ in tags})


def _tags_of(column: ColumnElement[Any] | Any, dialect: str) -> TableValuedAlias:
    """Give the tags of each row as rows of their own, none for NULL."""
    return getattr(func, _EACH_TAG[dialect])(column).table_valued("key", "value", name="tag", joins_implicitly=True)


def _sums(rows: Subquery | CTE) -> list[ColumnElement[Any]]:
    """Give what UsageSums has, in its order."""
    # PostgreSQL's sum of integers is a bigint, of bigints a numeric: the cast keeps both databases alike
    return [func.count(), *(cast(func.sum(part), BigInteger) for part in _parts(rows))]


def _parts(rows: Subquery | CTE) -> list[ColumnElement[Any]]:
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
