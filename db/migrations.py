"""Bringing a database's tables to the form this version needs, with the scripts in the project's `alembic/` folder."""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from db.engine import Database, DatabaseUnavailable
from db.ownership import UnusableDatabase, check_ownership
from db.reasons import explain, unavailable

_SCRIPTS = Path(__file__).resolve().parent.parent / "alembic"


class MigrationsMissing(Exception):
    """The folder with the migrations is not beside the code."""


async def upgrade(database: Database | str, revision: str = "head") -> None:
    """Bring a database, or the one at a URL, up to a revision. All or nothing; does nothing where nothing is to do.

    Several processes may do so at once: one works, the others wait for it. One process may do so to one database at
    a time, for Alembic keeps the connection in a global. Raises MigrationsMissing, DatabaseUnavailable,
    DatabaseUrlError and UnusableDatabase.
    """
    await _migrate(database, lambda config: alembic.command.upgrade(config, revision), revision)


async def downgrade(database: Database | str, revision: str) -> None:
    """Take a database back to a revision; "base" drops all tables. Raises as `upgrade` does."""
    await _migrate(database, lambda config: alembic.command.downgrade(config, revision), revision)


async def current_revision(database: Database) -> str | None:
    """Give the revision the database is at; None when it was never migrated. Raises as `upgrade` does."""
    known = _known_revisions()

    def look(sync: Connection) -> str | None:
        check_ownership(sync, known)
        return MigrationContext.configure(sync).get_current_revision()

    with _naming(database):
        async with database.reading() as session:
            connection = await session.connection()
            return await connection.run_sync(look)


def head_revision() -> str:
    """Give the revision this version needs. Raises MigrationsMissing."""
    head = _scripts(_folder()).get_current_head()
    if head is None:
        raise MigrationsMissing(f"There are no migrations in {str(_SCRIPTS / 'versions')!r}.")
    return head


async def _migrate(target: Database | str, command: Callable[[Config], None], revision: str) -> None:
    """Run one of Alembic's commands on a connection of ours, which `alembic/env.py` finds in the attributes.

    Most starts find a database that is where it should be, and need not wait for the command.
    """
    config = _config()
    known = _known_revisions()
    wanted = head_revision() if revision == "head" else revision

    def run(connection: Connection) -> None:
        check_ownership(connection, known)
        if MigrationContext.configure(connection).get_current_heads() == (wanted,):
            return
        config.attributes["connection"] = connection
        command(config)

    async with _opened(target) as database:
        with _naming(database):
            async with database.migrating() as connection:
                await connection.run_sync(run)


def _known_revisions() -> frozenset[str]:
    return frozenset(script.revision for script in _scripts(_folder()).walk_revisions())


@cache
def _scripts(folder: Path) -> ScriptDirectory:
    """Read the scripts once: a process asks for them several times, and they do not change under it."""
    return ScriptDirectory(folder)


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


def _folder() -> Path:
    """Find our scripts, wherever the process was started. Raises MigrationsMissing."""
    # Not only the folder: in an installed copy the folder of that name is the library itself.
    if not (_SCRIPTS / "env.py").is_file():
        raise MigrationsMissing(
            "The migrations are not beside the code: run Ollagraph from its project folder, "
            "or copy the folder 'alembic' next to the folder 'db'."
        )
    return _SCRIPTS


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    return config
