"""Which migrations there are, told by the names of their files, and which of them a database has.

Alembic could tell, too, but most starts find a database that needs no migration: importing Alembic for that alone took
0.15 s of each start and 10 MB for as long as the gateway ran.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

VERSION_TABLE = "alembic_version"
SCRIPTS = Path(__file__).resolve().parent.parent / "alembic"


class MigrationsMissing(Exception):
    """The folder with the migrations is not beside the code."""


def scripts_folder() -> Path:
    """Find our scripts, wherever the process was started. Raises MigrationsMissing."""
    # Not only the folder: in an installed copy the folder of that name is the library itself.
    if not (SCRIPTS / "env.py").is_file():
        raise MigrationsMissing(
            "The migrations are not beside the code: run Ollagraph from its project folder, "
            "or copy the folder 'alembic' next to the folder 'db'."
        )
    return SCRIPTS


def known_revisions() -> list[str]:
    """Give all revisions of this version, oldest first: each file is named after its own. Raises MigrationsMissing."""
    return sorted(script.name.partition("_")[0] for script in (scripts_folder() / "versions").glob("[0-9]*_*.py"))


def head_revision() -> str:
    """Give the revision this version needs. Raises MigrationsMissing."""
    known = known_revisions()
    if not known:
        raise MigrationsMissing(f"There are no migrations in {str(SCRIPTS / 'versions')!r}.")
    return known[-1]


def revisions_of(connection: Connection) -> list[str]:
    """Give the revisions that a database is at: none where it was never migrated, else one."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return []
    return [str(it) for (it,) in connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))]  # noqa: S608 - a constant
