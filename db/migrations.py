"""Bringing a database's tables to the form this version needs, with the scripts in the project's `alembic/` folder."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from db.engine import Database

_SCRIPTS = Path(__file__).resolve().parent.parent / "alembic"


class MigrationsMissing(Exception):
    """The folder with the migrations is not beside the code."""


async def upgrade(database: Database | str, revision: str = "head") -> None:
    """Bring a database, or the one at a URL, up to a revision. All or nothing; does nothing where nothing is to do.

    Several processes may do so at once: one works, the others wait for it. One process may do so to one database at
    a time, for Alembic keeps the connection in a global. Raises MigrationsMissing,
    DatabaseUnavailable, DatabaseUrlError and Alembic's CommandError (a revision that this version does not know).
    """
    await _migrate(database, lambda config: alembic.command.upgrade(config, revision))


async def downgrade(database: Database | str, revision: str) -> None:
    """Take a database back to a revision; "base" drops all tables. Raises as `upgrade` does."""
    await _migrate(database, lambda config: alembic.command.downgrade(config, revision))


async def current_revision(database: Database) -> str | None:
    """Give the revision the database is at; None when it was never migrated. Raises DatabaseUnavailable."""
    async with database.reading() as session:
        connection = await session.connection()
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


def head_revision() -> str:
    """Give the revision this version needs. Raises MigrationsMissing."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise MigrationsMissing(f"There are no migrations in {str(_SCRIPTS / 'versions')!r}.")
    return head


async def _migrate(target: Database | str, command: Callable[[Config], None]) -> None:
    """Run one of Alembic's commands on a connection of ours, which `alembic/env.py` finds in the attributes."""
    config = _config()

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command(config)

    async with _opened(target) as database, database.migrating() as connection:
        await connection.run_sync(run)


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


def _config() -> Config:
    """Point Alembic at our scripts, wherever the process was started. Raises MigrationsMissing."""
    # Not only the folder: in an installed copy the folder of that name is the library itself.
    if not (_SCRIPTS / "env.py").is_file():
        raise MigrationsMissing(
            "The migrations are not beside the code: run Ollagraph from its project folder, "
            "or copy the folder 'alembic' next to the folder 'db'."
        )
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
