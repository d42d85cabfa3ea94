"""The statements that read the rows of the ledger."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    String,
    Subquery,
    TableValuedAlias,
    and_,
    case,
    cast,
    extract,
    func,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
    type_coerce,
)
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from db.engine import ReadSession
from db.queries.usage.sums import GROUP, NANO, STATES, TAG, TOKENS, TimedGroup, UsageChoice, UsageGroup, group_of
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

_EACH_TAG = {"sqlite": "json_each", "postgresql": "json_each_text"}
"""The function that gives the tags of a row as rows of `key` and `value`."""

_EACH_GROUP = {"sqlite": "json_each", "postgresql": "json_array_elements_text"}
"""The function that gives the groups of a row as rows of `value`."""

Span: TypeAlias = tuple[datetime, datetime]
"""A time, its end not included."""


@dataclass(frozen=True, slots=True)
class BucketRun:
    """Neighbouring buckets of one length: the first begins at `start`, has the number `first`, and each `seconds`.

    `seconds` is None for a bucket by itself. `start` may have a fraction of a second only there.
    """

    start: datetime
    seconds: int | None
    first: int


async def sums(
    session: ReadSession,
    choice: UsageChoice,
    spans: Sequence[Span],
    *,
    runs: Sequence[BucketRun],
    rolled_up: bool | None = None,
    limit: int,
) -> list[UsageGroup]:
    """Sum up the rows of some times, by bucket, dimensions and currency; no more than `limit` groups, in no order.

    With `rolled_up` those alone that the roll-ups have, or have not.
    """
    rows = _rows(choice, spans, runs, session.get_bind().dialect.name, rolled_up)
    group = [rows.c.bucket, *(rows.c[name] for name in choice.dimensions), rows.c.currency]
    found = await session.execute(select(*group, *_sums(rows)).group_by(*group).limit(limit))
    return [group_of(row, len(choice.dimensions)) for row in found]


async def has_more(session: ReadSession, span: Span, user_ids: Sequence[object] | None, number: int) -> bool:
    """Tell whether a time has more rows, of these users if any are given. They are counted in an index, up to there."""
    rows: _Select = select(literal(1)).where(UsageRecord.at >= span[0], UsageRecord.at < span[1])
    if user_ids is not None:
        rows = rows.where(UsageRecord.user_id.in_(user_ids))
    counted = select(func.count()).select_from(rows.limit(number + 1).subquery())
    return (await session.scalar(counted) or 0) > number


async def times(
    session: ReadSession,
    choice: UsageChoice,
    spans: Sequence[Span],
    *,
    runs: Sequence[BucketRun],
    rolled_up: bool | None = None,
    limit: int,
) -> list[TimedGroup]:
    """Give what percentiles are computed from, of each row of some times that has it; no more than `limit`."""
    rows = _rows(choice, spans, runs, session.get_bind().dialect.name, rolled_up)
    names = ("completion_tokens", "eval_ms", "time_to_first_token_ms", "last_token_ms", "total_ms")
    columns = [rows.c.bucket, *(rows.c[name] for name in (*choice.dimensions, *names))]
    timed = or_(rows.c.time_to_first_token_ms.is_not(None), rows.c.eval_ms.is_not(None))
    found = await session.execute(select(*columns).where(timed).limit(limit))
    width = 1 + len(choice.dimensions)
    return [TimedGroup(row[0], tuple(row[1:width]), *row[width:]) for row in found]


def _rows(
    choice: UsageChoice, spans: Sequence[Span], runs: Sequence[BucketRun], dialect: str, rolled_up: bool | None
) -> Subquery:
    """Give the rows that count, with the number of their bucket: by tag and by group a row once for each of them."""
    wanted = dict.fromkeys((*(name for name in choice.dimensions if name in DIMENSIONS), *_ALWAYS))
    # the bucket is computed inside: PostgreSQL does not see that two expressions with parameters are the same
    bucket = _bucket(runs, _epoch(dialect)).label("bucket")
    ledger: _Select = select(bucket, *(getattr(UsageRecord, name) for name in wanted))
    source: FromClause = UsageRecord.__table__
    if any(name in TAG for name in choice.dimensions):
        tag = _tags_of(UsageRecord.tags, dialect)
        parts: dict[str, ColumnElement[Any]] = dict(zip(TAG, (tag.c.key, tag.c.value), strict=True))
        ledger, source = ledger.add_columns(*(parts[name].label(name) for name in TAG)), source.outerjoin(tag, true())
    if GROUP in choice.dimensions:
        group = _groups_of(UsageRecord.group_ids, dialect)
        ledger, source = ledger.add_columns(group.c.value.label(GROUP)), source.outerjoin(group, true())
    ledger = ledger.select_from(source).where(
        or_(*(and_(UsageRecord.at >= start, UsageRecord.at < end) for start, end in spans))
    )
    columns = {name: DIMENSIONS[name] for name in choice.chosen or ()}
    if rolled_up is False and dialect == "sqlite":  # it would rather look at all rows of a user than at these few
        columns = {name: _without_index(each) for name, each in columns.items()}
    ledger = ledger.where(*(columns[name].in_(values) for name, values in (choice.chosen or {}).items()))
    if rolled_up is not None:
        ledger = ledger.where(UsageRecord.rolled_up if rolled_up else text("NOT usage.rolled_up"))
    if choice.tags is not None:
        ledger = ledger.where(_has_tags(choice.tags, dialect))
    if choice.group_ids is not None:
        among = _groups_of(UsageRecord.group_ids, dialect)
        found = select(literal(1)).select_from(among).where(among.c.value.in_(list(choice.group_ids)))
        ledger = ledger.where(found.correlate(UsageRecord).exists())
    return ledger.subquery("rows")


def _without_index(each: Any) -> ColumnElement[Any]:
    """Give a column as SQLite uses no index for it: a plus sign before it says so."""
    return UnaryExpression(each, operator=custom_op[Any]("+"), type_=each.type)


_ALWAYS = (
    *("state", "currency", "cost_nano", *TOKENS),
    *("eval_ms", "time_to_first_token_ms", "last_token_ms", "total_ms"),
)


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


def _groups_of(column: ColumnElement[Any] | Any, dialect: str) -> TableValuedAlias:
    """Give the groups of each row as rows of their own, none for NULL."""
    each = getattr(func, _EACH_GROUP[dialect])(column)
    if dialect == "postgresql":
        return each.table_valued("value", name="member", joins_implicitly=True).render_derived()
    return each.table_valued("value", name="member", joins_implicitly=True)


def _sums(rows: Subquery) -> list[ColumnElement[Any]]:
    """Give the cost and what UsageSums has, in its order."""
    ended = [case((rows.c.state == state, 1), else_=0) for state in STATES]
    tokens = [func.coalesce(rows.c[name], 0) for name in TOKENS]
    # units and billionths by themselves: together a year's costs may be more than 64 bits hold
    cost = [rows.c.cost_nano // NANO, rows.c.cost_nano % NANO]
    # PostgreSQL's sum of integers is a bigint, of bigints a numeric: the cast keeps both databases alike
    money, counts = ([cast(func.sum(part), BigInteger) for part in parts] for parts in (cost, [*ended, *tokens]))
    return [*money, func.count(), *counts]


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
