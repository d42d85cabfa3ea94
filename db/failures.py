"""What went wrong with a statement: the database cannot do its work now, or it refused what was asked of it."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from anyio import fail_after
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout


class DatabaseUnavailable(Exception):
    """The database cannot be reached, takes no writes, or has no free connection.

    The message is fit for strangers: it holds no address, no password and nothing of a statement.
    """


UNREACHABLE = "The database cannot be reached."
_READ_ONLY = "The database takes no writes: it is read-only."
_FULL = "The database takes no writes: its disk is full."
_BUSY = "The database takes no writes: another program holds it locked."

_LATE = "The database did not answer in time."

_SQLITE = {
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_NOMEM: "The database has no memory left.",
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: UNREACHABLE,
    sqlite3.SQLITE_IOERR: "The database cannot read or write its files.",
    sqlite3.SQLITE_CORRUPT: "The database is damaged.",
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CANTOPEN: UNREACHABLE,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_AUTH: _READ_ONLY,
    sqlite3.SQLITE_NOTADB: "The database is damaged.",
}
"""By primary result code. The others, as of a missing table, say that the statement is at fault."""

_POSTGRESQL = {
    "08": UNREACHABLE,  # connection exception
    "25006": _READ_ONLY,
    "28": UNREACHABLE,  # invalid authorization
    "3D000": UNREACHABLE,  # the database is not there
    "40": "The database was too busy with the same rows.",  # serialization failure, deadlock
    "42501": "The database lacks a permission for this.",
    "53100": _FULL,
    "53": "The database has no resources left.",  # memory, connections
    "55P03": "The database was too busy with the same rows.",  # a lock was not to be had
    "57": UNREACHABLE,  # shutting down, or starting up
    "57014": _LATE,  # a statement was cancelled, as by statement_timeout
    "58": "The database cannot read or write its files.",
    "F0": "The database cannot read or write its files.",  # its configuration file, or its lock
    "XX001": "The database is damaged.",
    "XX002": "The database is damaged.",
}
"""By SQLSTATE, whole or its class (PostgreSQL documentation, appendix A)."""


@contextmanager
def answering(within: float) -> Generator[None]:
    """Raise DatabaseUnavailable where the block takes longer: a statement may wait for a lock for ever."""
    try:
        with fail_after(within):
            yield
    except TimeoutError as error:
        raise DatabaseUnavailable(_LATE) from error


def outage(error: BaseException) -> str | None:
    """Say why the database cannot do its work now; None where the error is about what was asked of it."""
    if isinstance(error, DatabaseUnavailable):
        return str(error)
    if isinstance(error, OSError | PoolTimeout):  # a refused connection, and TimeoutError
        return UNREACHABLE
    if isinstance(error, sqlite3.Error):
        return _outage_of_sqlite(error)
    if not isinstance(error, DBAPIError):
        return None
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _outage_of_sqlite(cause)
    state: str | None = getattr(cause, "sqlstate", None)
    if state is not None:
        known = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
        return known or (UNREACHABLE if error.connection_invalidated else None)
    if cause is not None and isinstance(cause.__cause__, ValueError | TypeError):
        return None  # the driver's own complaint about a parameter comes as an InterfaceError
    lost = isinstance(error, InterfaceError | OperationalError) or error.connection_invalidated
    return UNREACHABLE if lost else None


def _outage_of_sqlite(error: sqlite3.Error) -> str | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:  # the driver's own: the connection is closed
        return UNREACHABLE if isinstance(error, sqlite3.OperationalError) else None
    return _SQLITE.get(code & 0xFF)
