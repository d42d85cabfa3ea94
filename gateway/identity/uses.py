"""When and from where keys and sessions were used last. Written beside the requests: none waits or fails by it."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

import anyio

from auth.client import UNKNOWN, Client, shown_address
from db import queries
from db.engine import Database, DatabaseUnavailable, WriteSession
from db.queries import KeyUse, SessionUse
from db.tables import ApiKey, Session

logger = logging.getLogger(__name__)

RESOLUTION = timedelta(minutes=1)

WRITE_SECONDS = 5
"""How long uses are collected before they are written, in one transaction."""

LAST_WRITE_SECONDS = 2

LONGEST_ADDRESS = 64
"""Characters that are kept: an IPv6 address has up to 45, and the name of its interface may follow."""

_Use = TypeVar("_Use")


class Uses(Generic[_Use]):
    """The last uses that are not in the database yet. While that takes no writes they wait here, one for each thing."""

    def __init__(
        self, database: Database, kind: str, write: Callable[[WriteSession, Mapping[UUID, _Use]], Awaitable[None]]
    ) -> None:
        self._database = database
        self._kind = kind
        self._write_all = write
        self._noted: dict[UUID, _Use] = {}
        self._came = anyio.Event()

    def put(self, id: UUID, use: _Use) -> None:
        """Note a use."""
        self._noted[id] = use
        self._came.set()

    def get(self, id: UUID) -> _Use | None:
        """Give the use that waits here."""
        return self._noted.get(id)

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
                await self._write_all(tx, uses)
        except DatabaseUnavailable:
            self._came.set()  # the database has told the log
            return
        except Exception:
            logger.exception("%d %s were used last at moments that cannot be written", len(uses), self._kind)
        self._noted = {id: use for id, use in self._noted.items() if uses.get(id) != use}


class KeyUses:
    """The last uses of API keys."""

    def __init__(self, database: Database) -> None:
        self._uses: Uses[KeyUse] = Uses(database, "API keys", queries.api_key.note_key_uses)
        self.run = self._uses.run

    def note(self, key: ApiKey, at: datetime, address: str | None) -> None:
        """Note that a key was used, unless that is known to the minute."""
        last = self.told(key).last_used_at
        if last is None or last < at - RESOLUTION:
            use = KeyUse(at, address and address[:LONGEST_ADDRESS])
            self._uses.put(key.id, use)
            key.last_used_at, key.last_used_address = use  # the row may be remembered for longer than it waits here

    def told(self, key: ApiKey) -> ApiKey:
        """Give the key with its last use, as far as this gateway knows it."""
        noted = self._uses.get(key.id)
        if noted is not None and (key.last_used_at is None or key.last_used_at < noted.at):
            key.last_used_at, key.last_used_address = noted
        return key


class SessionUses:
    """The last uses of sessions."""

    def __init__(self, database: Database) -> None:
        self._uses: Uses[SessionUse] = Uses(database, "sessions", queries.session.note_session_uses)
        self.run = self._uses.run

    def note(self, session: Session, client: Client, at: datetime) -> None:
        """Note that a session was used, unless that is known: to the minute, and from this address."""
        address, last = address_of(client), self.last(session)
        if last.at < at - RESOLUTION or (last.address != address and last.at < at):
            self._uses.put(session.id, SessionUse(at, address))

    def last(self, session: Session) -> SessionUse:
        """When and from where it was used last, as far as this gateway knows."""
        written = SessionUse(session.last_used_at, session.address)
        return max(written, self._uses.get(session.id) or written)


def address_of(client: Client) -> str:
    """Give the address of a client as it is kept with its session."""
    return shown_address(client.host) or UNKNOWN
