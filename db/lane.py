"""The turns of those who want a connection, and what is known of whether the database works."""

import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from anyio import Semaphore, WouldBlock, fail_after, move_on_after
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.failures import UNREACHABLE, DatabaseUnavailable, outage
from db.reasons import unavailable

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0
"""How long it may take to get a connection ready, the waiting for another process that writes included."""

QUIET_SECONDS = 60.0
"""How long an outage that was logged is not logged again."""

FINISH_SECONDS = 30.0
"""How long a commit or a rollback may take: it is shielded from cancellation, so it has to end by itself."""


@dataclass(slots=True)
class _Told:
    """When the log was told last that a database does not work, and that it works again."""

    failure_at: float = float("-inf")
    return_at: float = float("-inf")


@dataclass(slots=True)
class Lane:
    """An engine, and as many turns as it has connections.

    The waiting is done here and not in SQLAlchemy's pool: that does not wake those who wait when somebody's attempt
    to connect fails or is cancelled, so they would wait until their time is up.

    A block waits `wait_seconds` for its turn, and `connect_seconds` for its connection.
    `failure` is why the last block failed; None once one has worked. It is logged when it begins and when it ends, once
    a minute where some blocks work and some do not, and not before any has worked: then whoever starts is told. Where
    `fails_together`, whoever waited while another could not begin does not try the same again.
    """

    engine: AsyncEngine
    turns: Semaphore
    wait_seconds: float
    connect_seconds: float = CONNECT_SECONDS
    fails_together: bool = False
    failure: str | None = None
    failed_at: float = float("-inf")
    has_worked: bool = False
    told: _Told = field(default_factory=_Told)
    _kept: AsyncConnection | None = None

    def worked(self) -> None:
        """Note that a block has come to its end."""
        if self.failure is not None and self.told.failure_at > self.told.return_at:
            logger.warning("the database works again")
            self.told.return_at = time.monotonic()
        self.failure, self.has_worked = None, True

    @contextmanager
    def telling_outages(self, *, connecting: bool = False) -> Generator[None]:
        """Turn the many errors of a database that cannot work into DatabaseUnavailable.

        The errors that are about what was asked of it go through, but while `connecting` nothing was asked yet. A
        UnicodeError is a host that cannot be one.
        """
        try:
            yield
        except DatabaseUnavailable:
            raise
        except (OSError, SQLAlchemyError, sqlite3.Error, UnicodeError) as error:
            reason = outage(error)
            if connecting and reason in (None, UNREACHABLE):
                reason = unavailable(error)
            if reason is None:
                raise
            if self.has_worked and time.monotonic() - self.told.failure_at > QUIET_SECONDS:
                cause = getattr(error, "orig", None) or error
                logger.error("%s What it said: %s: %s", reason, type(cause).__name__, cause)
                self.told.failure_at = time.monotonic()
            self.failure = reason
            raise DatabaseUnavailable(reason) from error

    @contextmanager
    def connecting(self) -> Generator[None]:
        """Note a failure to begin, for those who wait meanwhile."""
        try:
            with self.telling_outages(connecting=True):
                yield
        except DatabaseUnavailable:
            self.failed_at = time.monotonic()
            raise

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait until one of the connections is free, and keep it for the block. Raises DatabaseUnavailable."""
        since = time.monotonic()
        try:
            with fail_after(self.wait_seconds):
                await self.turns.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(f"No database connection became free within {self.wait_seconds:g} s.") from None
        try:
            if self.fails_together and self.failed_at > since:
                raise DatabaseUnavailable(self.failure or UNREACHABLE)
            yield
        finally:
            self.turns.release()

    def take_turn(self) -> bool:
        """Take a turn that is free, to be given back to `turns`; False where others come first."""
        try:
            self.turns.acquire_nowait()
        except WouldBlock:
            return False
        return True

    @property
    def is_idle(self) -> bool:
        """Whether it has a connection that nobody uses now."""
        return self._kept is not None and self.turns.value > 0

    async def connection(self) -> AsyncConnection:
        """Give the connection of a lane that has one only, with nothing begun on it, for whoever has the turn.

        It is kept for the next one: to get it from the pool and to give it back took as long as a small transaction.
        """
        if self._kept is None:
            connection = self.engine.connect()
            with self.connecting(), fail_after(self.connect_seconds):
                await connection  # where that fails there is nothing to give back
            self._kept = connection
        return self._kept

    async def give_back(self) -> None:
        """Give the connection back to the pool, which undoes what was begun: it failed, or others need it."""
        if self._kept is not None:
            connection, self._kept = self._kept, None
            with move_on_after(FINISH_SECONDS, shield=True):
                await connection.close()
