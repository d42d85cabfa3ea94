"""The statements about rows that are too old, whatever table they are in: how many there are, and removing some."""

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete, func, inspect, or_, select, tuple_

from db.engine import ReadSession, WriteSession
from db.tables import Limit, LimitCounter, Table


@dataclass(frozen=True, slots=True)
class Stale:
    """The rows of one table to which a condition applies."""

    table: type[Table]
    condition: ColumnElement[bool]


async def count(session: ReadSession, stale: Stale) -> int:
    """Count them."""
    return int(await session.scalar(select(func.count()).select_from(stale.table).where(stale.condition)) or 0)


async def remove_some(session: WriteSession, stale: Stale, most: int) -> int:
    """Remove at most so many, and give how many."""
    key = list(inspect(stale.table).primary_key)
    some = select(*key).where(stale.condition).limit(most)
    among = key[0].in_(some) if len(key) == 1 else tuple_(*key).in_(some)
    removed = await session.execute(delete(stale.table).where(among), execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", removed).rowcount


def either(first: ColumnElement[bool], *others: ColumnElement[bool]) -> ColumnElement[bool]:
    """Give the condition that one of these holds."""
    return or_(first, *others)


def counters_of_removed_limits() -> ColumnElement[bool]:
    """Give the condition of counters of limits that there are no more."""
    return LimitCounter.limit_id.not_in(select(Limit.id))
