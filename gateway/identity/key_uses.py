"""When and from where API keys were used last. It is written beside the requests: none waits for it or fails by it."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

import anyio

from db import queries
from db.engine import Database, DatabaseUnavailable
from db.queries import KeyUse
from db.tables import ApiKey

logger = logging.getLogger(__name__)

RESOLUTION = timedelta(minutes=1)

WRITE_SECONDS = 5
"""How long uses are collected before they are written, in one transaction."""

LAST_WRITE_SECONDS = 2

LONGEST_ADDRESS = 64
"""Characters that are kept: an IPv6 address has up to 45, and the name of its interface may follow."""


class KeyUses:
    """The uses that are not in the database yet. While that takes no writes they wait here, one for each key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[UUID, KeyUse] = {}
        self._came = anyio.Event()

    def note(self, key: ApiKey, at: datetime, address: str | None) -> None:
        """Note that a key was used, unless that is known to the minute."""
        last = self.told(key).last_used_at
        if last is None or last < at - RESOLUTION:
            use = KeyUse(at, address and address[:LONGEST_ADDRESS])
            self._noted[key.id] = use
            key.last_used_at, key.last_used_address = use  # the row may be remembered for longer than it waits here
            self._came.set()

    def told(self, key: ApiKey) -> ApiKey:
        """Give the key with its last use, as far as this gateway knows it."""
        noted = self._noted.get(key.id)
        if noted is not None and (key.last_used_at is None or key.last_used_at < noted.at):
            key.last_used_at, key.last_used_address = noted
        return key

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
                await queries.api_key.note_key_uses(tx, uses)
        except DatabaseUnavailable:
            self._came.set()  # the database has told the log
            return
        except Exception:
            logger.exception("%d API keys were used last at moments that cannot be written", len(uses))
        self._noted = {key_id: use for key_id, use in self._noted.items() if uses.get(key_id) != use}
