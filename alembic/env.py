"""How Alembic reaches the database.

Usually `db.migrations` runs it and hands over a connection. For work on the migrations themselves, give the URL:

    alembic -x url=sqlite:///data/ollagraph.db revision --autogenerate -m "add a table"
    alembic -x url=postgresql://user@host/name upgrade head --sql
"""

import asyncio

from alembic.util import CommandError
from sqlalchemy import Connection

from alembic import context
from db.engine import Database
from db.tables import Table
from db.urls import parse_database_url


def migrate(connection: Connection) -> None:
    """Run the migrations in the transaction that the connection has open already."""
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        transactional_ddl=True,  # SQLite can, once sqlite3's own transaction handling is off
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


def url() -> str:
    """Give the URL from the command line."""
    given = context.get_x_argument(as_dictionary=True).get("url")
    if not isinstance(given, str):
        raise CommandError("Give the database: alembic -x url=sqlite:///data/ollagraph.db ...")
    return given


async def migrate_url() -> None:
    """Run the migrations on the database from the command line."""
    database = Database(url(), pool_size=1)
    try:
        async with database.migrating() as connection:
            await connection.run_sync(migrate)
    finally:
        await database.close()


def write_sql() -> None:
    """Print the statements without a database."""
    context.configure(
        url=parse_database_url(url()),
        target_metadata=Table.metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    write_sql()
elif (given_connection := context.config.attributes.get("connection")) is not None:
    migrate(given_connection)
else:
    asyncio.run(migrate_url())
