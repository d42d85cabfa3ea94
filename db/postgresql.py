"""PostgreSQL through asyncpg, straight or through a pooler such as PgBouncer.

A pooler in transaction mode gives each transaction another connection of the server's. What was prepared in one under
a name is not known in the next ("prepared statement … does not exist"), or is there already from somebody else. So
through a pooler each statement is prepared anew and without a name, which lasts for one use. That is a round trip and
a plan for each statement, a third of the time of a small transaction: straight to the server, prepared statements are
kept.
"""

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_UNNAMED = {"statement_cache_size": 0, "prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
"""Every statement gets the name "", which is none, and neither asyncpg nor SQLAlchemy keeps one."""


def create_postgresql_engine(url: URL, *, pool_size: int, connect_seconds: float) -> AsyncEngine:
    """Make an engine. A pooler between is found at each connection, for it may be put there at any time."""
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,  # an error tells the statement and not its values: prompts may be among them
        connect_args={
            "timeout": connect_seconds,
            "server_settings": {"application_name": "ollagraph"},
        },
    )
    event.listen(engine.sync_engine, "do_connect", _connect)
    return engine


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
