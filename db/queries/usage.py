"""The statements about the usage ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, cast, func, select

from db.engine import ReadSession
from db.tables import UsageRecord


@dataclass(frozen=True, slots=True)
class UsageBucket:
    """What was used on one UTC day with one model through one key (None: signed in with a password)."""

    day: date
    model: str
    api_key_id: UUID | None
    generations: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


async def usage_buckets(session: ReadSession, user_id: UUID, start: datetime, end: datetime) -> Sequence[UsageBucket]:
    """A user's usage from `start` up to and without `end`, by day, model and key.

    In no order: the databases sort text differently.
    """
    group = (UsageRecord.day, UsageRecord.model, UsageRecord.api_key_id)
    rows = await session.execute(
        select(
            *group,
            func.count(),
            # PostgreSQL's sum of integers is a bigint, of bigints a numeric: the cast keeps both databases alike
            cast(func.sum(UsageRecord.prompt_tokens), BigInteger),
            cast(func.sum(UsageRecord.completion_tokens), BigInteger),
            cast(func.sum(func.coalesce(UsageRecord.cached_tokens, 0)), BigInteger),
        )
        .where(UsageRecord.user_id == user_id, UsageRecord.at >= start, UsageRecord.at < end)
        .group_by(*group)
    )
    return [UsageBucket(*row) for row in rows]
