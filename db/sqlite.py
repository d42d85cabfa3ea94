"""SQLite set up for a server: WAL, foreign keys, and transactions that begin where SQLAlchemy says so."""

import os
import sqlite3
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from threading import get_ident
from typing import Any, TypeVar

import aiosqlite
from anyio import CancelScope, sleep, to_thread
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from db.failures import DatabaseUnavailable
from db.slow_statements import Note

_Result = TypeVar("_Result")

_BUSY_SECONDS = 5.0
_WAL_RETRY_SECONDS = 0.02

MIGRATION_BUSY_SECONDS = 60.0
"""How long a migration waits for another process's."""

WRITING = {
    "journal_mode": "WAL",  # readers never wait for the writer, nor it for them
    "synchronous": "NORMAL",  # in WAL mode a power cut may undo the last commits, but damages nothing
    "foreign_keys": "ON",  # off by default, and set for each connection anew
    "busy_timeout": f"{_BUSY_SECONDS * 1000:.0f}",  # how long to wait for another process that writes
}
"""Settings of a connection that writes."""

READING = WRITING | {"query_only": "ON"}
"""Settings of a connection that cannot write."""

MIGRATING = WRITING | {"foreign_keys": "OFF", "busy_timeout": f"{MIGRATION_BUSY_SECONDS * 1000:.0f}"}
"""Settings for migrations.

SQLite cannot alter most of a table: Alembic makes a new one and drops the old. With foreign keys on, that would
delete the rows that refer to it (https://www.sqlite.org/lang_altertable.html#otheralter). `check_foreign_keys`
makes up for it at the end.
"""


EAGER_ROWS = 5
"""How many rows come along with a statement's execution. Most statements have fewer, and need no second trip.

No more than are streamed at once where rows hold megabytes (`db.queries.transcript`).
"""


class _Cursor:
    """A cursor for SQLAlchemy that goes to the connection's thread once for a statement with few rows.

    aiosqlite's own goes there four times: to be made, to execute, to fetch and to be closed. A trip costs more than
    most statements do, and each waits for the interpreter's lock. A statement with many rows keeps its cursor open.
    """

    arraysize = 1

    def __init__(self, connection: "_Connection") -> None:
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self._connection = connection
        self._rows: list[Any] = []
        self._open: sqlite3.Cursor | None = None

    async def __aenter__(self) -> "_Cursor":
        return self

    async def execute(self, operation: str, parameters: Any = ()) -> None:
        """Run a statement and fetch its first rows."""
        await self._run(sqlite3.Cursor.execute, operation, parameters)

    async def executemany(self, operation: str, parameters: Any) -> None:
        """Run a statement with each of these parameters."""
        await self._run(sqlite3.Cursor.executemany, operation, parameters)

    async def fetchmany(self, size: int = 1) -> list[Any]:
        """Give the next rows, no more than `size`."""
        if self._open is not None and len(self._rows) < size:
            self._rows += await self._connection.run(self._open.fetchmany, size - len(self._rows))
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    async def fetchone(self) -> Any:
        """Give the next row; None behind the last."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchall(self) -> list[Any]:
        """Give all rows that are left."""
        rows, self._rows = self._rows, []
        if self._open is not None:
            rows += await self._connection.run(self._open.fetchall)
            await self.close()
        return rows

    async def close(self) -> None:
        """End the statement."""
        if self._open is not None:
            cursor, self._open = self._open, None
            await self._connection.run(cursor.close)

    async def _run(self, execute: Callable[..., object], operation: str, parameters: Any) -> None:
        began, note = time.perf_counter(), self._connection.note
        await self._connection.run(self._execute, execute, operation, parameters)
        if note is not None:
            note(operation, time.perf_counter() - began)

    def _execute(self, execute: Callable[..., object], operation: str, parameters: Any) -> None:
        sqlite = self._connection.sqlite
        if self._connection.begins:
            self._connection.begins = False
            sqlite.execute("BEGIN")
        cursor, within = sqlite.cursor(), sqlite.in_transaction
        try:
            execute(cursor, operation, parameters)
            rows = cursor.fetchmany(EAGER_ROWS) if cursor.description else []
        except BaseException as error:
            cursor.close()
            if within and not sqlite.in_transaction:
                self._connection.undone_by = error
            raise
        # A statement that changes rows and returns some knows how many when all have been fetched.
        self.description, self.rowcount, self.lastrowid = cursor.description, cursor.rowcount, cursor.lastrowid
        self._rows = rows
        if len(rows) < EAGER_ROWS:
            cursor.close()
        else:
            self._open = cursor


@dataclass(frozen=True, slots=True)
class _File:
    """A file and what the file system knows it by, whatever its name is later."""

    path: str
    device: int
    number: int

    @classmethod
    def at(cls, path: str | None) -> "_File | None":
        """Give the file with this name now; None where there is none."""
        try:
            found = os.stat(path or "")
        except OSError:
            return None
        return cls(path or "", found.st_dev, found.st_ino)


class _Connection(aiosqlite.Connection):
    """A connection whose statements are awaited to their end, cancelled or not.

    A statement runs in the connection's thread, where nothing stops it. When only the waiting for it is cancelled,
    SQLAlchemy closes the connection in a task of nobody's, and that may wait for ever for a thread which has ended
    (aiosqlite 0.22.1, SQLAlchemy 2.1.9), also when the event loop is shut down.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self.undone_by: BaseException | None = None
        self.begins = False
        """Whether the next statement begins a transaction. One that only reads sees the file as it is then."""
        self.file: _File | None = None
        self.note: Note | None = None
        self._thread.daemon = True  # else a connection that was not closed keeps the process alive

    async def open(self, script: str) -> None:
        """Connect and run a script of settings; leaves nothing behind where that fails."""
        with CancelScope(shield=True):
            try:
                await self
            except BaseException:
                await to_thread.run_sync(self._thread.join)  # it still reports to the event loop
                raise
            try:
                await _set(self, script)
            except BaseException:
                await self.close()
                raise

    @property
    def sqlite(self) -> sqlite3.Connection:
        """The connection itself, for the use of its thread."""
        return self._conn

    async def create_function(
        self, name: str, num_params: int, func: Callable[..., Any], deterministic: bool = False
    ) -> None:
        """Define a function without a trip: SQLAlchemy defines two on each connection that nobody uses yet."""
        self.sqlite.create_function(name, num_params, func, deterministic=deterministic)

    def cursor(self) -> Any:
        """Make a cursor; SQLAlchemy enters it."""
        return _Cursor(self)

    async def run(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """Do something in the connection's thread, to its end."""
        return await self._execute(do, *arguments)

    async def rollback(self) -> None:
        """Undo what was not committed; without a trip where nothing is open, as whenever the pool gets it back."""
        self.begins = False
        if self.sqlite.in_transaction:
            await super().rollback()

    async def run_all(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine that awaits only this connection in its thread: one trip, which the caller shields."""
        return await super()._execute(copy_context().run, drive, work)  # pyright: ignore[reportUnknownMemberType] - no types

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if get_ident() == self._thread.ident:
            return fn(*args, **kwargs)  # within `run_all`
        with CancelScope(shield=True):
            return await super()._execute(fn, *args, **kwargs)  # pyright: ignore[reportUnknownMemberType] - no types


def drive(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Take a coroutine to its end without an event loop, which is possible where nothing has to be waited for."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("A transaction in one trip may await nothing but its statements.")


async def run_in_one_trip(connection: AsyncConnection, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run what awaits nothing but this connection with one trip to its thread, instead of one for each statement."""
    driver = _driver(connection)
    driver.undone_by = None
    return await driver.run_all(work)


@contextmanager
def savepoint(connection: AsyncConnection) -> Generator[None]:
    """Undo what a part of a trip has done where it fails. Past SQLAlchemy: its own takes as long as two statements."""
    sqlite = _driver(connection).sqlite
    sqlite.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if sqlite.in_transaction:  # else all of it is undone
            sqlite.execute("ROLLBACK TO part")
            sqlite.execute("RELEASE part")
        raise
    sqlite.execute("RELEASE part")


def undoing(connection: AsyncConnection) -> BaseException | None:
    """Give the error at which SQLite has undone this trip's transaction by itself, savepoints and all; None where not.

    It does so on a full disk, for one (https://www.sqlite.org/lang_transaction.html, section 3).
    """
    return _driver(connection).undone_by


def check_file(connection: AsyncConnection) -> None:
    """Raise DatabaseUnavailable where the file that SQLite has open is no longer the one with its name.

    SQLite goes on with it, and whoever opens the database next finds another one, or none.
    """
    opened = _driver(connection).file
    if opened is not None and _File.at(opened.path) != opened:
        raise DatabaseUnavailable(
            "The file of the database was moved, removed or replaced while it was in use. Put it back where it was, or "
            "start the gateway again to use what is there now."
        )


def _driver(connection: AsyncConnection | Connection) -> _Connection:
    sync = connection if isinstance(connection, Connection) else connection.sync_connection
    driver = sync and sync.connection.driver_connection
    assert isinstance(driver, _Connection)  # noqa: S101 - the engine makes no others
    return driver


def create_sqlite_engine(
    url: URL, settings: Mapping[str, str], *, pool_size: int = 1, note: Note | None = None
) -> AsyncEngine:
    """Make an engine whose connections have these settings. `note` is told of statements.

    Python's sqlite3 begins transactions at moments of its own choosing; `isolation_level=None` stops that, and the
    "begin" event does it (see "Transactions with SQLite and the sqlite3 driver" in SQLAlchemy's documentation).
    """
    script = "; ".join(f"PRAGMA {name} = {value}" for name, value in settings.items())

    def connector() -> sqlite3.Connection:
        return sqlite3.connect(url.database or "", isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)

    async def connect() -> aiosqlite.Connection:
        connection = _Connection(connector)
        await connection.open(script)
        connection.file, connection.note = _File.at(url.database), note
        return connection

    # an error tells the statement and not its values: prompts may be among them, and errors are logged
    engine = create_async_engine(url, pool_size=pool_size, max_overflow=0, async_creator=connect, hide_parameters=True)
    event.listen(engine.sync_engine, "begin", _begin if "query_only" in settings else _begin_immediate)
    return engine


async def check_foreign_keys(connection: AsyncConnection) -> None:
    """Refuse a migration that left references to nothing."""
    broken = (await connection.execute(text("PRAGMA foreign_key_check"))).first()
    if broken is not None:
        raise RuntimeError(f"the migration left rows in {broken[0]!r} that refer to missing rows in {broken[2]!r}")


def _begin(connection: Connection) -> None:
    """Begin to read. SQLite does nothing before the first statement, and so it needs no trip of its own."""
    _driver(connection).begins = True


def _begin_immediate(connection: Connection) -> None:
    """Take the right to write. Past SQLAlchemy, which takes some fifty calls for a statement without rows."""
    driver = _driver(connection)
    await_only(driver.run(driver.sqlite.execute, "BEGIN IMMEDIATE"))


async def _set(connection: aiosqlite.Connection, script: str) -> None:
    """Make all settings in one go, for each statement is a trip to the connection's thread."""
    attempts = int(_BUSY_SECONDS / _WAL_RETRY_SECONDS)
    for attempt in range(attempts):
        try:
            await connection.executescript(script)
            return
        except sqlite3.OperationalError as error:
            # Who turns WAL on first needs the file for a moment, and SQLite does not make the others wait.
            if "locked" not in str(error) or attempt == attempts - 1:
                raise
            await sleep(_WAL_RETRY_SECONDS)
