"""SQLite set up for a server: WAL, foreign keys, and transactions that begin where SQLAlchemy says so."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import aiosqlite
from anyio import CancelScope, sleep, to_thread
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

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


class _Connection(aiosqlite.Connection):
    """A connection whose statements are awaited to their end, cancelled or not.

    A statement runs in the connection's thread, where nothing stops it. When only the waiting for it is cancelled,
    SQLAlchemy closes the connection in a task of nobody's, and that may wait for ever for a thread which has ended
    (aiosqlite 0.22.1, SQLAlchemy 2.1.9), also when the event loop is shut down.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
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

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with CancelScope(shield=True):
            return await super()._execute(fn, *args, **kwargs)  # pyright: ignore[reportUnknownMemberType] - no types


def create_sqlite_engine(url: URL, settings: Mapping[str, str], *, pool_size: int = 1) -> AsyncEngine:
    """Make an engine whose connections have these settings.

    Python's sqlite3 begins transactions at moments of its own choosing; `isolation_level=None` stops that, and the
    "begin" event does it (see "Transactions with SQLite and the sqlite3 driver" in SQLAlchemy's documentation).
    """
    script = "; ".join(f"PRAGMA {name} = {value}" for name, value in settings.items())

    def connector() -> sqlite3.Connection:
        return sqlite3.connect(url.database or "", isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)

    async def connect() -> aiosqlite.Connection:
        connection = _Connection(connector)
        await connection.open(script)
        return connection

    engine = create_async_engine(url, pool_size=pool_size, max_overflow=0, async_creator=connect)
    event.listen(engine.sync_engine, "begin", _begin if "query_only" in settings else _begin_immediate)
    return engine


async def check_foreign_keys(connection: AsyncConnection) -> None:
    """Refuse a migration that left references to nothing."""
    broken = (await connection.execute(text("PRAGMA foreign_key_check"))).first()
    if broken is not None:
        raise RuntimeError(f"the migration left rows in {broken[0]!r} that refer to missing rows in {broken[2]!r}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


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
