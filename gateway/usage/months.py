"""Sums over months of UTC, of which a year's report reads a dozen for each key, and not 365 days.

They are made of the sums over days in the background, since adding each generation to them, too, would cost half as
much again. So a month may lack what came late: it is noted with how many generations it was made of, and a report reads
its days where these have more by now. Days only ever get more, so no other change can be missed.

    noted       none ──▶ none (being made) ──▶ 8,210 ──────────────────▶ none (anew) ──▶ 8,211
    its days    8,210                          8,210 ──▶ 8,211, late
    reports     days     days                  month     days             days            month
"""

from datetime import UTC, datetime, timedelta
from time import perf_counter

import anyio

from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.queries import Month
from gateway.usage.groupings import DAY

KEYS_AT_ONCE = 200
"""Keys that are summed up in one transaction: on SQLite nobody else writes meanwhile."""

OVER_FOR = timedelta(hours=1)
"""How long ago a day must have ended: most rows have come by then."""


class Months:
    """Makes the months that lack something, in transactions of some keys each with as much time between for others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self) -> int:
        """Make all months that lack something; give how many."""
        done = 0
        while (wanted := await self._wanted()) is not None:
            if not await self._make(*wanted):
                break  # another gateway makes it
            done += 1
        return done

    async def _wanted(self) -> tuple[Month, int] | None:
        """Give the first month that lacks a day that is over, or some of what came into one; and how much it has."""
        async with self._database.reading() as session:
            days, made = await queries.usage.months.of_days(session), await queries.usage.months.made(session)
        over = int((now() - OVER_FOR).timestamp())
        months: dict[Month, int] = {}
        for day in sorted(days):
            start, end = month_of(day)
            month = Month(start, min(end, over - over % DAY))
            if day < month.until:
                months[month] = months.get(month, 0) + days[day]
        return next(((month, has) for month, has in months.items() if made.get(month) != has), None)

    async def _make(self, month: Month, generations: int) -> bool:
        """Make one month anew; False where another gateway has begun with it, too.

        The number is noted that its days had before the first of its keys was summed up: where they have the same
        when a report looks, nothing has been added in between.
        """
        maker, after = new_id(), None
        async with self._database.transaction() as tx:
            await queries.usage.months.begin(tx, month, maker)
        while True:
            began = perf_counter()
            async with self._database.transaction() as tx:
                if not await queries.usage.months.is_maker(tx, month, maker):
                    return False
                after = await queries.usage.months.add_some(tx, month, after, KEYS_AT_ONCE)
                if after is None:
                    await queries.usage.months.finish(tx, month, generations)
                    return True
            await anyio.sleep(perf_counter() - began)


def month_of(at: int) -> Month:
    """Give the whole month in which a moment lies."""
    first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=31)).replace(day=1)
    return Month(int(first.timestamp()), int(following.timestamp()))
