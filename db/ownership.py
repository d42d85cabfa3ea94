"""Whose tables a database holds: ours are brought up to date, and those of others must not be touched."""

from collections.abc import Collection

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from db.revisions import VERSION_TABLE, revisions_of

_OURS = {"users", "api_keys", "generations"}
"""Of our first revision, and in all that came after it."""


class UnusableDatabase(Exception):
    """The database is another program's, or of a newer version. The message says what to do."""


def check_ownership(connection: Connection, known: Collection[str]) -> None:
    """Raise UnusableDatabase unless the database is empty, or ours and at a revision that this version knows."""
    tables = set(inspect(connection).get_table_names()) - _of_extensions(connection)
    revisions = _revisions(connection) if VERSION_TABLE in tables else []
    if not revisions:
        tables.discard(VERSION_TABLE)
        if tables:
            raise UnusableDatabase(_of_another_program(tables))
    elif not tables >= _OURS:
        raise UnusableDatabase(_of_another_program(tables))
    elif newer := [revision for revision in revisions if revision not in known]:
        raise UnusableDatabase(
            f"The database was made by a newer version of Ollagraph (its revision is {newer[0]!r}). "
            "Start that version, or give this one another database."
        )


def _of_another_program(tables: Collection[str]) -> str:
    some = ", ".join(sorted(tables)[:3])
    return f"The database holds tables of another program ({some}). Give Ollagraph a database of its own."


def _revisions(connection: Connection) -> list[str]:
    try:
        return revisions_of(connection)
    except SQLAlchemyError as error:
        raise UnusableDatabase(_of_another_program([VERSION_TABLE])) from error


def _of_extensions(connection: Connection) -> set[str]:
    """Give the tables that came with an extension of PostgreSQL, as PostGIS brings one."""
    if connection.dialect.name != "postgresql":
        return set()
    found = connection.execute(
        text(
            "SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass "
            "WHERE d.deptype = 'e'"
        )
    )
    return {str(name) for (name,) in found}
