"""The statements about sums over months, which are made of the sums over days."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast
from uuid import UUID

from sqlalchemy import BigInteger, Table, bindparam, func, literal, select, update
from sqlalchemy import cast as as_type
from sqlalchemy.dialects import postgresql, sqlite

from db.engine import ReadSession, WriteSession
from db.queries.usage.rollups import SUMMED
from db.queries.usage.sums import DAY, MONTH
from db.tables import UsageBin, UsageKey, UsageMonth, UsageRollup

_TOTAL = "TOTAL"
"""The grouping set in which every generation is once."""


class Month(NamedTuple):
    """A month that is summed up from `start` to `until`: its end, or the end of the last day that was over."""

    start: int
    until: int


async def of_days(session: ReadSession) -> dict[int, int]:
    """Give how many generations each day has."""
    query = select(UsageRollup.start, func.sum(UsageRollup.generations)).join(
        UsageKey, UsageKey.id == UsageRollup.key_id
    )
    query = query.where(UsageKey.grouping == _TOTAL, UsageRollup.seconds == DAY).group_by(UsageRollup.start)
    return {int(start): int(generations) for start, generations in await session.execute(query)}


async def made(session: ReadSession) -> dict[Month, int | None]:
    """Give how many generations each month had when it was made; None while somebody makes it."""
    query = select(UsageMonth.start, UsageMonth.until, UsageMonth.generations)
    return {Month(start, until): generations for start, until, generations in await session.execute(query)}


async def valid(session: ReadSession, low: int, high: int) -> list[Month]:
    """Give the months of a time that have all that their days have, in their order."""
    days = select(func.sum(UsageRollup.generations)).join(UsageKey, UsageKey.id == UsageRollup.key_id)
    days = days.where(
        UsageKey.grouping == _TOTAL,
        UsageRollup.seconds == DAY,
        UsageRollup.start >= UsageMonth.start,
        UsageRollup.start < UsageMonth.until,
    )
    query = select(UsageMonth.start, UsageMonth.until).where(UsageMonth.until > low, UsageMonth.start < high)
    query = query.where(UsageMonth.generations == days.correlate(UsageMonth).scalar_subquery())
    return [Month(start, until) for start, until in await session.execute(query.order_by(UsageMonth.start))]


async def begin(session: WriteSession, month: Month, maker: UUID) -> None:
    """Note that `maker` makes a month, and nobody else any more. Reports read its days meanwhile."""
    dialect = session.get_bind().dialect.name
    values = {"start": month.start, "until": month.until, "generations": None, "maker": maker}
    insert = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(UsageMonth).values(values)
    await session.execute(insert.on_conflict_do_update(index_elements=["start"], set_=values))


async def is_maker(session: WriteSession, month: Month, maker: UUID) -> bool:
    """Tell whether nobody else has begun with a month, and let nobody until the transaction ends.

    Else one that knows fewer days could write over the sums of one that knows more.
    """
    mine = select(UsageMonth.start).where(UsageMonth.start == month.start, UsageMonth.maker == maker)
    return await session.scalar(mine.with_for_update()) is not None


async def add_some(session: WriteSession, month: Month, after: int | None, limit: int) -> int | None:
    """Sum up some keys after `after`, anew where they were; give the last of them, None where there is none."""
    query = select(UsageKey.id).order_by(UsageKey.id).limit(limit)
    ids = list(await session.scalars(query if after is None else query.where(UsageKey.id > after)))
    if not ids:
        return None
    dialect = session.get_bind().dialect.name
    tables = (UsageRollup, (), SUMMED), (UsageBin, ("measure", "bin"), ("generations",))
    for table, names, summed in tables:
        statement = _made_of_days(cast("Table", table.__table__), names, summed, dialect)
        await session.execute(statement, {"first": month.start, "until": month.until, "ids": ids})
    return ids[-1]


async def finish(session: WriteSession, month: Month, generations: int) -> None:
    """Note that a month has all of so many generations."""
    await session.execute(update(UsageMonth).where(UsageMonth.start == month.start).values(generations=generations))


@cache
def _made_of_days(table: Table, names: Sequence[str], summed: Sequence[str], dialect: str) -> Any:
    column = table.c
    month = literal(MONTH).label("seconds"), as_type(bindparam("first", type_=BigInteger), BigInteger)
    group = [column.key_id, *(column[name] for name in names)]
    days = select(*group, *month, *(as_type(func.sum(column[name]), BigInteger) for name in summed))
    days = days.where(
        column.key_id.in_(bindparam("ids", expanding=True)),
        column.seconds == DAY,
        column.start >= bindparam("first", type_=BigInteger),
        column.start < bindparam("until", type_=BigInteger),
    )
    insert = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)
    insert = insert.from_select(["key_id", *names, "seconds", "start", *summed], days.group_by(*group))
    return insert.on_conflict_do_update(
        index_elements=[each.name for each in table.primary_key],
        set_={name: insert.excluded[name] for name in summed},
    )
