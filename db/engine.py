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

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, cast

from anyio import CancelScope, Semaphore, fail_after, move_on_after
from anyio.lowlevel import checkpoint_if_cancelled
from sqlalchemy import QueuePool, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.failures import DatabaseUnavailable as DatabaseUnavailable
from db.failures import answering
from db.lane import CONNECT_SECONDS, FINISH_SECONDS, Lane
from db.postgresql import create_postgresql_engine
from db.sessions import ReadSession as ReadSession
from db.sessions import WriteSession as WriteSession
from db.slow_statements import statement_note, watch_statements
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
from db.together import Line, Piece, do_together
from db.urls import parse_database_url

_MIGRATION_LOCK = 0x6F6C6C6167726170  # "ollagrap": what our processes lock in PostgreSQL while they migrate

_Session = TypeVar("_Session", bound=ReadSession)
_Result = TypeVar("_Result")


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
        self._line = Line()
        self.written = 0  # how many transactions were committed
        note = None if slow_statement_time is None else statement_note(slow_statement_time)
        if self.dialect == "sqlite":
            writer = create_sqlite_engine(self._url, WRITING, note=note)
            reader = create_sqlite_engine(self._url, READING, pool_size=pool_size, note=note)
            self._writing = Lane(writer, Semaphore(1, fast_acquire=True), wait_seconds, fails_together=True)
            self._reading = Lane(reader, Semaphore(pool_size, fast_acquire=True), wait_seconds)
            self._engines = (reader, writer)
            return
        engine = create_postgresql_engine(self._url, pool_size=pool_size, connect_seconds=CONNECT_SECONDS)
        self._engines = (engine,)
        if note is not None:
            watch_statements(engine, note)
        turns = Semaphore(pool_size, fast_acquire=True)
        snapshot = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writing = Lane(engine, turns, wait_seconds)
        self._reading = Lane(snapshot, turns, wait_seconds)

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
        held = sum(cast("QueuePool", engine.pool).checkedout() for engine in self._engines)
        return held - self._writing.is_idle

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
        await checkpoint_if_cancelled()
        piece, lane = self._line.join(work), self._writing
        try:
            if lane.take_turn():
                try:
                    await self._write_together(piece)
                finally:
                    lane.turns.release()
            else:
                with CancelScope() as piece.waiting:
                    async with lane.turn():
                        if not piece.begun:  # by whoever had the turn before
                            await self._write_together(piece)
        except DatabaseUnavailable:
            if not piece.begun:
                raise
        finally:
            if not piece.begun:
                self._line.leave(piece)
            elif not piece.over.is_set():
                with CancelScope(shield=True):
                    await piece.over.wait()
        return piece.outcome()

    async def _write_together(self, piece: Piece) -> None:
        """Do this and what waits with it in one transaction. Raises only where nothing has begun."""
        lane, pieces = self._writing, list[Piece]()
        try:
            with lane.telling_outages():
                connection = await lane.connection()
                with CancelScope(shield=True):  # nothing that has begun may look done when it is not
                    pieces = self._line.take(piece)
                    await run_in_one_trip(connection, self._whole(lane, connection, pieces))
            lane.worked()
            self.written += 1
        except Exception as error:
            await lane.give_back()
            if not pieces:
                raise
            for it in pieces:
                it.fail(error)
        finally:
            for it in pieces:
                it.over.set()
                if it.waiting is not None and it is not piece:
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
            lane = Lane(engine, lane.turns, self._wait_seconds, MIGRATION_BUSY_SECONDS + CONNECT_SECONDS)
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
                check_file(await session.connection())
        return time.perf_counter() - started

    async def close(self) -> None:
        """Close all connections. Call it when no block is open any more."""
        await self._writing.give_back()
        for engine in self._engines:
            await _dispose(engine)

    @asynccontextmanager
    async def _session(self, lane: Lane, kind: type[_Session]) -> AsyncGenerator[_Session]:
        """Give a session with an open transaction; roll back, and give its connection back, at every end."""
        async with lane.turn():
            await lane.give_back()
            with lane.telling_outages():
                session = kind(lane.engine, expire_on_commit=False)
                try:
                    await self._begin(lane, session)
                    yield session
                finally:
                    with move_on_after(FINISH_SECONDS, shield=True):
                        await session.close()
            lane.worked()

    async def _begin(self, lane: Lane, session: ReadSession) -> None:
        with lane.connecting(), fail_after(lane.connect_seconds):
            await session.connection()

    async def _whole(self, lane: Lane, connection: AsyncConnection, pieces: Sequence[Piece]) -> None:
        """Do a transaction from its beginning to its end, awaiting nothing but its statements."""
        with lane.connecting():
            await connection.begin()
        await do_together(connection, pieces)


async def _commit(session: WriteSession) -> None:
    """Commit, come what may: half-way there is no telling whether the changes were kept."""
    with fail_after(FINISH_SECONDS, shield=True):
        await session.commit()


async def _dispose(engine: AsyncEngine) -> None:
    """Close an engine's connections, also when cancelled."""
    with move_on_after(FINISH_SECONDS, shield=True):
        await engine.dispose()
