"""Tells followers of usage what other replicas have ended, where no Valkey tells it: by looking into the ledger.

It looks while somebody follows, every few seconds, for rows that are new; an index has them by their time. The sums of
the ledger would tell it later, and in quarters of an hour.
"""

from datetime import datetime, timedelta
from uuid import UUID

import anyio

from db import queries
from db.clock import now
from db.engine import Database, DatabaseUnavailable
from gateway.usage.feed import UsageFeed

POLL_SECONDS = 2.0

MOST_AT_ONCE = 1_000
"""Rows of one look. What there is more is read by the next one, at once."""

LAST_ID = UUID(int=2**128 - 1)

LAG = timedelta(seconds=2)
"""How much later than its time a row may come into the ledger, and still be seen: rows are read once, by their time."""


class UsageElsewhere:
    """Looks for what others than `replica_id` have written."""

    def __init__(self, database: Database, feed: UsageFeed, replica_id: UUID) -> None:
        self._database = database
        self._feed = feed
        self._replica_id = replica_id
        self._read: tuple[datetime, UUID] | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                more = await self.look()
            except DatabaseUnavailable:
                more = False  # which has told the log
            await anyio.sleep(0 if more else POLL_SECONDS)

    async def look(self) -> bool:
        """Look once; True where there may be more at once."""
        until, since = now() - LAG, self._feed.followed_since
        if since is None or until < since:
            self._read = None
            return False
        if self._read is None:
            self._read = since, UUID(int=0)
        async with self._database.reading() as session:
            rows = await queries.usage.waiting.written_elsewhere(
                session, self._replica_id, self._read, until, MOST_AT_ONCE
            )
        self._feed.note_elsewhere(rows)
        if len(rows) == MOST_AT_ONCE:
            self._read = rows[-1]["at"], rows[-1]["generation_id"]
            return True
        self._read = until, LAST_ID
        return False
