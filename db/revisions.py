"""Which migrations there are, told by the names of their files, and which of them a database has.

Alembic could tell, too, but most starts find a database that needs no migration: importing Alembic for that alone took
0.15 s of each start and 10 MB for as long as the gateway ran.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

VERSION_TABLE = "alembic_version"
_BESIDE = Path(__file__).resolve().parent.parent
PLACES = (_BESIDE / "alembic", _BESIDE / "ollagraph_data" / "alembic")
"""Where the scripts may be: in a checkout, and in an installed copy (setup.py), whose `alembic` is the library."""


class MigrationsMissing(Exception):
    """This copy of Ollagraph has no migrations."""


def scripts_folder() -> Path:
    """Find our scripts, wherever the process was started. Raises MigrationsMissing."""
    for place in PLACES:
        if (place / "env.py").is_file():  # not only the folder: see PLACES
            return place
    raise MigrationsMissing(
        "This copy of Ollagraph is not whole: it has no migrations. Install it again, "
        "or run it from its project folder."
    )


def known_revisions() -> list[str]:
    """Give all revisions of this version, oldest first: each file is named after its own. Raises MigrationsMissing."""
    return sorted(script.name.partition("_")[0] for script in (scripts_folder() / "versions").glob("[0-9]*_*.py"))


def head_revision() -> str:
    """Give the revision this version needs. Raises MigrationsMissing."""
    known = known_revisions()
    if not known:
        raise MigrationsMissing(f"There are no migrations in {str(scripts_folder() / 'versions')!r}.")
    return known[-1]


def revisions_of(connection: Connection) -> list[str]:
    """Give the revisions that a database is at: none where it was never migrated, else one."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return []
    return [str(it) for (it,) in connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))]  # noqa: S608 - a constant
