"""PostgreSQL through asyncpg, straight or through a pooler such as PgBouncer.

A pooler in transaction mode gives each transaction another connection of the server's. What was prepared in one under
a name is not known in the next ("prepared statement … does not exist"), or is there already from somebody else. So
through a pooler each statement is prepared anew and without a name, which lasts for one use. That is a round trip and
a plan for each statement, a third of the time of a small transaction: straight to the server, prepared statements are
kept.
"""

import select
import time
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

_UNNAMED = {"statement_cache_size": 0, "prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
"""Every statement gets the name "", which is none, and neither asyncpg nor SQLAlchemy keeps one."""

_TRUSTED_SECONDS = 1.0
"""For how long a connection that has worked is taken without asking whether it still does.

To ask takes three round trips, as many as a small query. That the server has closed one is known without.
"""

_WORKED_AT = "worked_at"


def create_postgresql_engine(url: URL, *, pool_size: int, connect_seconds: float) -> AsyncEngine:
    """Make an engine. A pooler between is found at each connection, for it may be put there at any time."""
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # an error tells the statement and not its values: prompts may be among them
        connect_args={
            "timeout": connect_seconds,
            "server_settings": {"application_name": "ollagraph"},
        },
    )
    event.listen(engine.sync_engine, "do_connect", _connect)
    event.listen(engine.sync_engine, "checkin", _note_use)
    event.listen(engine.sync_engine, "checkout", partial(_check, engine.dialect))
    return engine


def _note_use(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info[_WORKED_AT] = time.monotonic()


def _check(dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
    """Look whether a connection from the pool still works. Raises InvalidatePoolError: a new one takes its place."""
    worked_at = record.info.get(_WORKED_AT)
    if worked_at is None:  # it is new
        return
    if time.monotonic() - worked_at < _TRUSTED_SECONDS and not _has_said_something(connection.driver_connection):
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        if not dialect.is_disconnect(error, connection, None):
            raise
        raise InvalidatePoolError from error


def _has_said_something(connection: Any) -> bool:
    """Tell whether the server has closed the connection, or said why it will, though nothing was asked."""
    if connection.is_closed():
        return True
    socket = connection._transport.get_extra_info("socket")  # asyncpg has no other way to it
    unread = select.poll()
    unread.register(socket, select.POLLIN)
    return bool(unread.poll(0))


def _connect(dialect: Dialect, _record: object, args: tuple[Any, ...], options: dict[str, Any]) -> DBAPIConnection:
    connection: Any = dialect.connect(*args, **options)
    try:
        if not connection.run_async(_is_pooled):
            return connection
        connection.close()
    except BaseException:  # as a cancellation: nobody else knows of this connection yet
        connection.driver_connection.terminate()
        raise
    return dialect.connect(*args, **options, **_UNNAMED)


async def _is_pooled(connection: Any) -> bool:
    """Tell whether somebody stands between: the process that answers is not the one that greeted us.

    A pooler greets with a number of its own, by which it finds the statement to cancel.
    """
    asked = await connection.prepare("SELECT pg_backend_pid()", name="")
    return await asked.fetchval() != connection.get_server_pid()
