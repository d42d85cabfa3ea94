"""Keeps the ledger in order: adds to the sums what they do not have yet, makes months of days, removes what is old."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import perf_counter

import anyio

from db import queries
from db.clock import now
from db.engine import Database
from gateway.tasks import purge_regularly
from gateway.usage.months import Months
from gateway.usage.rollups import Rollups

ROLLED_UP_AT_ONCE = 200
"""Rows that are added in one transaction: on SQLite nobody else writes meanwhile."""

REMOVED_AT_ONCE = 1_000

CATCH_UP_SECONDS = 5
"""How often rows are looked for that the sums do not have. Reports read those themselves, so this delays nothing."""

MONTHS_SECONDS = 300

PURGE_SECONDS = 3_600


class UsageUpkeep:
    """Works in the background, in short transactions with as much time between them for others.

    Rows are kept for `usage_retention` seconds, 0: for ever; sums always.
    """

    def __init__(self, database: Database, usage_retention: float) -> None:
        self._database = database
        self._usage_retention = usage_retention
        self._rollups = Rollups()
        self._months = Months(database)

    async def run(self) -> None:
        """Work until cancelled. To be started in the application's task group."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(purge_regularly, "usage in roll-ups", self.catch_up, CATCH_UP_SECONDS)
            tasks.start_soon(purge_regularly, "months of usage", self.make_months, MONTHS_SECONDS)
            if self._usage_retention:
                tasks.start_soon(purge_regularly, "old rows of the ledger", self.purge, PURGE_SECONDS)

    async def catch_up(self) -> int:
        """Add all rows to the sums that they do not have, many at once; give how many.

        An end by itself would change some forty rows of sums, and its generation would wait for them.
        """
        return await _portions(self._roll_up_some, ROLLED_UP_AT_ONCE)

    async def make_months(self) -> int:
        """Sum up the days of months that lack some; give how many months."""
        return await self._months.make()

    async def purge(self) -> int:
        """Remove the rows that are older than `usage_retention`, whole UTC days at a time; give how many."""
        return await _portions(self._remove_some, REMOVED_AT_ONCE)

    async def _roll_up_some(self, most: int) -> int:
        async with self._database.transaction() as tx:
            rows = await queries.usage.waiting.not_rolled_up(tx, most)
            if rows:
                await self._rollups.add(tx, rows)
                await queries.usage.waiting.mark_rolled_up(tx, [row["generation_id"] for row in rows])
        self._rollups.committed()
        return len(rows)

    async def _remove_some(self, most: int) -> int:
        oldest = now() - timedelta(seconds=self._usage_retention)
        before = oldest.replace(hour=0, minute=0, second=0, microsecond=0)
        async with self._database.transaction() as tx:
            return await queries.usage.waiting.remove_before(tx, before, most)


async def _portions(work: Callable[[int], Awaitable[int]], most: int) -> int:
    """Do some work again and again until there is no more, with as much time between for others as it takes."""
    done = 0
    while True:
        began = perf_counter()
        some = await work(most)
        done += some
        if some < most:
            return done
        await anyio.sleep(perf_counter() - began)
