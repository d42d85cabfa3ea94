"""When API keys were used last: written beside the requests, for none of them shall wait for it or fail by it."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

import anyio

from db import queries
from db.engine import Database, DatabaseUnavailable
from db.tables import ApiKey

logger = logging.getLogger(__name__)

RESOLUTION = timedelta(minutes=1)

WRITE_SECONDS = 5
"""How long uses are collected before they are written, in one transaction."""

LAST_WRITE_SECONDS = 2


class KeyUses:
    """The uses that are not in the database yet. While that takes no writes they wait here, one for each key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[UUID, datetime] = {}
        self._came = anyio.Event()

    def note(self, key: ApiKey, at: datetime) -> None:
        """Note that a key was used, unless that is known to the minute."""
        last = self.last(key)
        if last is None or last < at - RESOLUTION:
            self._noted[key.id] = key.last_used_at = at  # the row may be remembered for longer than it waits here
            self._came.set()

    def last(self, key: ApiKey) -> datetime | None:
        """When it was used last, as far as this gateway knows."""
        moments = [at for at in (key.last_used_at, self._noted.get(key.id)) if at is not None]
        return max(moments, default=None)

    async def run(self) -> None:
        """Write until cancelled, and then once more."""
        try:
            while True:
                await self._came.wait()
                self._came = anyio.Event()
                await self._write()
                await anyio.sleep(WRITE_SECONDS)
        finally:
            with anyio.move_on_after(LAST_WRITE_SECONDS, shield=True):
                await self._write()

    async def _write(self) -> None:
        uses = dict(self._noted)
        if not uses:
            return
        try:
            async with self._database.transaction() as tx:
                await queries.identity.note_key_uses(tx, uses)
        except DatabaseUnavailable:
            self._came.set()  # the database has told the log
            return
        except Exception:
            logger.exception("%d API keys were used last at moments that cannot be written", len(uses))
        self._noted = {key_id: at for key_id, at in self._noted.items() if uses.get(key_id) != at}
