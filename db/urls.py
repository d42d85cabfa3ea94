"""Database URLs as people write them, turned into those that SQLAlchemy's asyncio drivers take."""

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_POSTGRESQL_OPTIONS = {"host": "host", "port": "port", "ssl": "ssl", "sslmode": "ssl"}
"""What may stand after the question mark, and what asyncpg calls it."""

_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

_EXAMPLES = "'sqlite:///data/ollagraph.db' or 'postgresql://user:password@host:5432/ollagraph'"


class DatabaseUrlError(ValueError):
    """The database URL cannot be used. The message says what to write, and never holds the password."""


def parse_database_url(url: str) -> URL:
    """Give the URL for SQLAlchemy. Raises DatabaseUrlError for every other database, and for a missing folder."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(f"The database URL cannot be read. Write it like {_EXAMPLES}.") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise DatabaseUrlError(f"There is no database called {parsed.drivername!r} here. Use {_EXAMPLES}.")
    parsed = parsed.set(drivername=driver)
    return _sqlite(parsed) if driver.startswith("sqlite") else _postgresql(parsed)


def _sqlite(url: URL) -> URL:
    """Check what SQLite would only tell later, or not clearly."""
    if url.host:
        raise DatabaseUrlError("A SQLite URL has three slashes before a relative path, four before an absolute one.")
    if not url.database or url.database == ":memory:":
        raise DatabaseUrlError(
            "SQLite in memory cannot be used: every connection would see a database of its own. "
            "Give a file, like 'sqlite:///data/ollagraph.db'."
        )
    if url.query:
        raise DatabaseUrlError(
            "A SQLite URL takes no options after a question mark; one that belongs to the path is written %3F."
        )
    try:
        path = Path(url.database).expanduser()
        is_folder, has_folder = path.is_dir(), path.parent.is_dir()
    except (OSError, RuntimeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "there is no such home folder"
        raise DatabaseUrlError(f"The path of the SQLite database cannot be used ({reason}).") from error
    if is_folder:
        raise DatabaseUrlError(f"The SQLite database {str(path)!r} is a folder. Name a file, such as one in it.")
    if not has_folder:
        raise DatabaseUrlError(
            f"The folder {str(path.parent)!r} for the SQLite database does not exist. Create it first."
        )
    return url.set(database=str(path))


def _postgresql(url: URL) -> URL:
    """Rename the options that psql knows into asyncpg's, and refuse the others."""
    unknown = sorted(set(url.query) - set(_POSTGRESQL_OPTIONS))
    if unknown:
        known = ", ".join(_POSTGRESQL_OPTIONS)
        raise DatabaseUrlError(f"The database URL holds unknown options: {', '.join(unknown)}. It may hold: {known}.")
    query = {_POSTGRESQL_OPTIONS[name]: value for name, value in url.query.items()}
    if query.get("ssl", "prefer") not in _SSL_MODES:
        raise DatabaseUrlError(f"The database URL's sslmode must be one of {', '.join(sorted(_SSL_MODES))}.")
    if not all(part.isdecimal() for part in str(query.get("port", "1")).split(",")):
        raise DatabaseUrlError("The port in the database URL must be a number.")
    return url.set(query=query)
