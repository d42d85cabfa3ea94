"""The way to the database: one `Database` for the whole process, one short transaction for each piece of work.

There is no session for a request. Sibling GraphQL fields run concurrently, and a session can do only one thing at
a time; and a subscription lives for minutes, in which a session would keep a connection from everybody else. So
whoever needs the database opens a block, does its work, and leaves it before awaiting anything else:

    async with database.transaction() as tx:     # commits at the end; rolls back when an exception leaves the block
        ...
    async with database.reading() as session:    # one snapshot, read only
        ...

SQLite lets one connection write at a time. Its writers have an engine with a single connection, so they queue here,
first come first served, and not in SQLite's busy handler, which polls. They begin with BEGIN IMMEDIATE: that waits
for writers of other processes, where a deferred transaction would fail on its first write.
"""

import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from anyio import CancelScope, Semaphore, fail_after, move_on_after
from sqlalchemy import QueuePool, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from db.failures import UNREACHABLE, answering, outage
from db.failures import DatabaseUnavailable as DatabaseUnavailable
from db.postgresql import create_postgresql_engine
from db.reasons import unavailable
from db.slow_statements import watch_statements
from db.sqlite import (
    MIGRATING,
    MIGRATION_BUSY_SECONDS,
    READING,
    WRITING,
    check_file,
    check_foreign_keys,
    create_sqlite_engine,
    run_in_one_trip,
)
from db.together import Line, Piece
from db.urls import parse_database_url

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0
"""How long it may take to get a connection ready, the waiting for another process that writes included."""

QUIET_SECONDS = 60.0
"""How long an outage that was logged is not logged again."""

FINISH_SECONDS = 30.0
"""How long a commit or a rollback may take: it is shielded from cancellation, so it has to end by itself."""

_MIGRATION_LOCK = 0x6F6C6C6167726170  # "ollagrap": what our processes lock in PostgreSQL while they migrate


class ReadSession(AsyncSession):
    """A session that sees one snapshot and cannot write: the database itself refuses it."""


class WriteSession(ReadSession):
    """A session whose changes are committed at the end of its block. It can do all that a ReadSession can."""


_Session = TypeVar("_Session", bound=ReadSession)
_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Told:
    """When the log was told last that a database does not work, and that it works again."""

    failure_at: float = float("-inf")
    return_at: float = float("-inf")


@dataclass(slots=True)
class _Lane:
    """An engine, and as many turns as it has connections.

    The waiting is done here and not in SQLAlchemy's pool: that does not wake those who wait when somebody's attempt
    to connect fails or is cancelled, so they would wait until their time is up.

    `failure` is why the last block failed; None once one has worked. It is logged when it begins and when it ends, once
    a minute where some blocks work and some do not, and not before any has worked: then whoever starts is told. Where
    `fails_together`, whoever waited while another could not begin does not try the same again.
    """

    engine: AsyncEngine
    turns: Semaphore
    connect_seconds: float = CONNECT_SECONDS
    fails_together: bool = False
    failure: str | None = None
    failed_at: float = float("-inf")
    has_worked: bool = False
    told: _Told = field(default_factory=_Told)

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


class Database:
    """The connections to one database, SQLite or PostgreSQL.

    `url` as in `sqlite:///data/ollagraph.db` or `postgresql://user:password@host/name`; raises DatabaseUrlError for
    any other. `pool_size` is the most connections held at once (SQLite: of readers; the writer is one more).
    `wait_seconds` is how long a block waits for one, and `transact` for an answer. A statement that takes
    `slow_statement_time` seconds or more is logged, and all can be counted; 0: none is logged; None: nor counted, which
    costs nothing. Nothing connects before the first block.
    """

    def __init__(
        self, url: str, *, pool_size: int = 5, wait_seconds: float = 30.0, slow_statement_time: float | None = None
    ) -> None:
        self._url = parse_database_url(url)
        self._wait_seconds = wait_seconds
        self.pool_size = pool_size
        self._line = Line(WriteSession)
        self.written = 0  # how many transactions were committed
        if self.dialect == "sqlite":
            writer = create_sqlite_engine(self._url, WRITING)
            reader = create_sqlite_engine(self._url, READING, pool_size=pool_size)
            self._writing = _Lane(writer, Semaphore(1, fast_acquire=True), fails_together=True)
            self._reading = _Lane(reader, Semaphore(pool_size, fast_acquire=True))
            self._engines = (reader, writer)
            self._watch_statements(slow_statement_time)
            return
        engine = create_postgresql_engine(self._url, pool_size=pool_size, connect_seconds=CONNECT_SECONDS)
        self._engines = (engine,)
        self._watch_statements(slow_statement_time)
        turns = Semaphore(pool_size, fast_acquire=True)
        snapshot = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writing = _Lane(engine, turns)
        self._reading = _Lane(snapshot, turns)

    def _watch_statements(self, slow_statement_time: float | None) -> None:
        if slow_statement_time is not None:
            for engine in self._engines:
                watch_statements(engine, slow_statement_time)

    def apart(self) -> "Database":
        """Give the same database over a connection that nothing else uses. SQLite has one writer: there it is this one.

        What does not work is logged once for both.
        """
        if self.dialect == "sqlite":
            return self
        apart = Database(self._url.render_as_string(hide_password=False), pool_size=1, wait_seconds=self._wait_seconds)
        apart._writing.told, apart._reading.told = self._writing.told, self._reading.told
        return apart

    def __repr__(self) -> str:
        return f"Database({self._url.render_as_string(hide_password=True)!r})"

    @property
    def dialect(self) -> str:
        """Which database it is: "sqlite" or "postgresql"."""
        return self._url.get_backend_name()

    @property
    def works(self) -> bool:
        """Whether the last transaction was not stopped by a database that cannot do its work."""
        return self._writing.failure is None

    @property
    def place(self) -> str:
        """Where it is, for people who run the gateway: a path, or the database's name and its server."""
        if self.dialect == "sqlite":
            return str(Path(self._url.database or "").absolute())
        host = self._url.host or self._url.query.get("host") or "localhost"
        return f"{self._url.database or self._url.username} at {host}:{self._url.port or 5432}"

    @property
    def checked_out(self) -> int:
        """How many connections are in use now: 0 while no block is open, however many callers wait for tokens."""
        return sum(cast("QueuePool", engine.pool).checkedout() for engine in self._engines)

    @property
    def most_connections(self) -> int:
        """How many connections may be in use at once."""
        return self.pool_size + (self.dialect == "sqlite")  # which has one more that writes

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[WriteSession]:
        """Open a block whose changes are kept when its end is reached, and undone when an exception leaves it.

        A cancellation counts as an exception, unless it comes during the commit: that is carried to its end first.
        So is every statement on SQLite, where nothing can stop one.
        Never open one inside another. Raises DatabaseUnavailable.
        """
        async with self._session(self._writing, WriteSession) as session:
            yield session
            await session.flush()  # a statement may wait for a lock, and whoever is cancelled need not wait for it
            await _commit(session)
        self.written += 1

    async def transact(self, work: Callable[[WriteSession], Awaitable[_Result]]) -> _Result:
        """Run `work` in a transaction of its own, and give what it gives. For what runs with every generation.

        On SQLite all of it is one trip to the connection's thread, which is shared with what waits at the same time.
        Each trip makes two threads wait for the interpreter's lock, which under load takes longer than any statement.
        So `work` awaits nothing but its statements, and touches nothing that belongs to the event loop: it runs in that
        thread. Once it has begun it is carried to its end, also when cancelled. Raises DatabaseUnavailable.
        """
        if self.dialect == "postgresql":
            with answering(self._wait_seconds):
                async with self.transaction() as tx:
                    return await work(tx)
        piece = self._line.join(work)
        try:
            with piece.waiting:
                async with self._turn(self._writing):
                    if not piece.begun:  # by whoever had the turn before
                        await self._write_together(piece)
        except DatabaseUnavailable:
            if not piece.begun:
                raise
        finally:
            if piece.begun:
                with CancelScope(shield=True):
                    await piece.over.wait()
            else:
                self._line.leave(piece)
        return piece.outcome()

    async def _write_together(self, piece: Piece[WriteSession]) -> None:
        """Do this and what waits with it in one transaction. Raises only where nothing has begun."""
        lane, pieces = self._writing, list[Piece[WriteSession]]()
        try:
            with lane.telling_outages():
                async with self._connected(lane) as connection:
                    with CancelScope(shield=True):  # nothing that has begun may look done when it is not
                        pieces = self._line.take(piece)
                        await run_in_one_trip(connection, self._whole(lane, connection, pieces))
            lane.worked()
            self.written += 1
        except Exception as error:
            if not pieces:
                raise
            for it in pieces:
                it.fail(error)
        finally:
            for it in pieces:
                it.over.set()
                if it is not piece:
                    it.waiting.cancel()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[ReadSession]:
        """Open a block that sees one snapshot and changes nothing. Raises DatabaseUnavailable."""
        async with self._session(self._reading, ReadSession) as session:
            yield session

    @asynccontextmanager
    async def migrating(self) -> AsyncGenerator[AsyncConnection]:
        """Open the one transaction in which migrations run; those of other processes wait until it is over.

        Raises DatabaseUnavailable.
        """
        lane = self._writing
        if self.dialect == "sqlite":
            engine = create_sqlite_engine(self._url, MIGRATING)
            lane = _Lane(engine, lane.turns, MIGRATION_BUSY_SECONDS + CONNECT_SECONDS)
        try:
            async with self._session(lane, WriteSession) as tx:
                if self.dialect == "postgresql":
                    await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                connection = await tx.connection()
                yield connection
                if self.dialect == "sqlite":
                    await check_foreign_keys(connection)
                await _commit(tx)
        finally:
            if lane is not self._writing:
                await _dispose(lane.engine)

    async def ping(self) -> float:
        """Ask the database for a sign of life; gives the seconds it took. Raises DatabaseUnavailable."""
        started = time.perf_counter()
        async with self.reading() as session:
            await session.execute(text("SELECT 1"))
            if self.dialect == "sqlite":
                await check_file(await session.connection())
        return time.perf_counter() - started

    async def close(self) -> None:
        """Close all connections. Call it when no block is open any more."""
        for engine in self._engines:
            await _dispose(engine)

    @asynccontextmanager
    async def _session(self, lane: _Lane, kind: type[_Session]) -> AsyncGenerator[_Session]:
        """Give a session with an open transaction; roll back, and give its connection back, at every end."""
        async with self._turn(lane):
            with lane.telling_outages():
                session = kind(lane.engine, expire_on_commit=False)
                try:
                    await self._begin(lane, session)
                    yield session
                finally:
                    with move_on_after(FINISH_SECONDS, shield=True):
                        await session.close()
            lane.worked()

    async def _begin(self, lane: _Lane, session: ReadSession) -> None:
        with lane.connecting(), fail_after(lane.connect_seconds):
            await session.connection()

    @asynccontextmanager
    async def _connected(self, lane: _Lane) -> AsyncGenerator[AsyncConnection]:
        """Give a connection on which nothing has begun, and take it back at every end."""
        connection = lane.engine.connect()
        try:
            with lane.connecting(), fail_after(lane.connect_seconds):
                await connection
            yield connection
        finally:
            with move_on_after(FINISH_SECONDS, shield=True):
                await connection.close()

    async def _whole(self, lane: _Lane, connection: AsyncConnection, pieces: Sequence[Piece[WriteSession]]) -> None:
        """Do a transaction from its beginning to its end, awaiting nothing but its statements."""
        with lane.connecting():
            await connection.begin()
        await self._line.do(connection, pieces)

    @asynccontextmanager
    async def _turn(self, lane: _Lane) -> AsyncGenerator[None]:
        """Wait until one of the lane's connections is free, and keep it for the block."""
        since = time.monotonic()
        try:
            with fail_after(self._wait_seconds):
                await lane.turns.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(f"No database connection became free within {self._wait_seconds:g} s.") from None
        try:
            if lane.fails_together and lane.failed_at > since:
                raise DatabaseUnavailable(lane.failure or UNREACHABLE)
            yield
        finally:
            lane.turns.release()


async def _commit(session: WriteSession) -> None:
    """Commit, come what may: half-way there is no telling whether the changes were kept."""
    with fail_after(FINISH_SECONDS, shield=True):
        await session.commit()


async def _dispose(engine: AsyncEngine) -> None:
    """Close an engine's connections, also when cancelled."""
    with move_on_after(FINISH_SECONDS, shield=True):
        await engine.dispose()
