"""Bringing a database's tables to the form this version needs, with the scripts in the project's `alembic/` folder.

Alembic is imported where it runs: see `db.revisions`.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from db.engine import Database, DatabaseUnavailable
from db.ownership import UnusableDatabase, check_ownership
from db.reasons import explain, unavailable
from db.revisions import MigrationsMissing, head_revision, known_revisions, revisions_of, scripts_folder

__all__ = [
    "MigrationsMissing",
    "current_revision",
    "downgrade",
    "head_revision",
    "missing_revision",
    "upgrade",
]


async def upgrade(database: Database | str, revision: str = "head") -> None:
    """Bring a database, or the one at a URL, up to a revision. All or nothing; does nothing where nothing is to do.

    Several processes may do so at once: one works, the others wait for it. One process may do so to one database at
    a time, for Alembic keeps the connection in a global. Raises MigrationsMissing, DatabaseUnavailable,
    DatabaseUrlError and UnusableDatabase.
    """
    await _migrate(database, "upgrade", revision)


async def downgrade(database: Database | str, revision: str) -> None:
    """Take a database back to a revision; "base" drops all tables. Raises as `upgrade` does."""
    await _migrate(database, "downgrade", revision)


async def current_revision(database: Database) -> str | None:
    """Give the revision the database is at; None when it was never migrated. Raises as `upgrade` does."""
    known = known_revisions()

    def look(sync: Connection) -> str | None:
        check_ownership(sync, known)
        return next(iter(revisions_of(sync)), None)

    with _naming(database):
        async with database.reading() as session:
            connection = await session.connection()
            return await connection.run_sync(look)


async def missing_revision(database: Database) -> str | None:
    """Tell in a sentence that a database lacks a migration that this version needs; None where it has them all.

    One that is ahead lacks none: during an upgrade gateways of the version before serve on. Raises DatabaseUnavailable.
    """
    needed = head_revision()
    async with database.reading() as session:
        connection = await session.connection()
        found = max(await connection.run_sync(revisions_of), default="none")
    if found.isdecimal() and found >= needed:
        return None
    return f"The database is at revision {found}, and this version needs {needed}: run `ollagraph migrate`."


async def _migrate(target: Database | str, command: Literal["upgrade", "downgrade"], revision: str) -> None:
    """Run one of Alembic's commands. Most starts find a database that is where it should be, and need none."""
    known = known_revisions()
    wanted = head_revision() if revision == "head" else revision

    def run(connection: Connection) -> None:
        check_ownership(connection, known)
        if revisions_of(connection) != [wanted]:
            _alembic(connection, command, revision)

    async with _opened(target) as database:
        with _naming(database):
            async with database.migrating() as connection:
                await connection.run_sync(run)


def _alembic(connection: Connection, command: str, revision: str) -> None:
    """Have Alembic work on a connection of ours, which `alembic/env.py` finds in the attributes."""
    import alembic.command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    getattr(alembic.command, command)(config, revision)


@contextmanager
def _naming(database: Database) -> Generator[None]:
    """Tell what keeps a database from being used, and which one it is, to people who start the gateway."""
    try:
        yield
    except UnusableDatabase as error:
        raise UnusableDatabase(f"{error} It is {database.place}.") from error
    except DatabaseUnavailable as error:
        said = str(error) if explain(error) is None else unavailable(error)
        raise DatabaseUnavailable(f"{said} It is {database.place}.") from error
    except DBAPIError as error:  # while tables are made
        if explain(error) is None:
            raise
        raise DatabaseUnavailable(f"{unavailable(error)} It is {database.place}.") from error


@asynccontextmanager
async def _opened(target: Database | str) -> AsyncGenerator[Database]:
    """Give the database; close it afterwards if it was opened here."""
    if isinstance(target, Database):
        yield target
        return
    database = Database(target, pool_size=1)
    try:
        yield database
    finally:
        await database.close()
