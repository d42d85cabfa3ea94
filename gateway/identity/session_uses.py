"""When and from where sessions were used last: written beside the requests, as the uses of keys are."""

import logging
from datetime import datetime
from uuid import UUID

import anyio

from auth.client import Client
from db import queries
from db.engine import Database, DatabaseUnavailable
from db.queries import SessionUse
from db.tables import Session
from gateway.identity.addresses import UNKNOWN, shown_address
from gateway.identity.key_uses import LAST_WRITE_SECONDS, RESOLUTION, WRITE_SECONDS

logger = logging.getLogger(__name__)


class SessionUses:
    """The uses that are not in the database yet, one for each session."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[UUID, SessionUse] = {}
        self._came = anyio.Event()

    def note(self, session: Session, client: Client, at: datetime) -> None:
        """Note that a session was used, unless that is known: to the minute, and from this address."""
        address, last = address_of(client), self.last(session)
        if last.at < at - RESOLUTION or (last.address != address and last.at < at):
            self._noted[session.id] = SessionUse(at, address)
            self._came.set()

    def last(self, session: Session) -> SessionUse:
        """When and from where it was used last, as far as this gateway knows."""
        written = SessionUse(session.last_used_at, session.address)
        return max(written, self._noted.get(session.id, written))

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
                await queries.session.note_session_uses(tx, uses)
        except DatabaseUnavailable:
            self._came.set()  # the database has told the log
            return
        except Exception:
            logger.exception("%d sessions were used last at moments that cannot be written", len(uses))
        self._noted = {session_id: use for session_id, use in self._noted.items() if uses.get(session_id) != use}


def address_of(client: Client) -> str:
    """Give the address of a client as it is kept with its session."""
    return shown_address(client.host) or UNKNOWN
