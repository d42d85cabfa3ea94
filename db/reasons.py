"""Why a database cannot be used, told from the errors of its drivers: in a sentence, without a name or a password."""

import socket
import ssl
from collections.abc import Iterator

_STATES = {
    "28P01": "the password or the name of the user is wrong",
    "28000": "the server does not let this user in (it may demand TLS: ?sslmode=require; see its pg_hba.conf)",
    "3D000": "the server has no database of this name",
    "55000": "the server takes no connections to this database",
    "57P03": "the server is starting or stopping",
    "53300": "the server has no connection left",
    "53100": "the server's disk is full",
    "25006": "the server takes no writes: it is a replica, or set to read only",
    "42501": "the user may not make tables there: grant it CREATE and USAGE on the schema",
    "3F000": "there is no schema to make tables in: see the user's search_path",
}
"""Of PostgreSQL's error codes (its manual, appendix A), those that a person who installs it meets."""

_SQLITE = {
    "SQLITE_NOTADB": "the file is not a SQLite database",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_CANTOPEN": "the file cannot be opened or made",
    "SQLITE_READONLY": "the file or its folder is read-only",
    "SQLITE_PERM": "the file may not be read",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the disk is full or fails",
    "SQLITE_BUSY": "another program is writing to it",
}
"""SQLite's primary result codes (https://www.sqlite.org/rescode.html); the extended ones begin with them."""

_NETWORK: tuple[tuple[type[Exception], str], ...] = (
    (socket.gaierror, "the name of its host is not known"),
    (UnicodeError, "the name of its host is not known"),
    (ConnectionRefusedError, "nothing listens at its address"),
    (FileNotFoundError, "its socket or a certificate is not where the URL says"),
    (PermissionError, "its socket may not be opened"),
    (TimeoutError, "it did not answer in time"),
    (ssl.SSLError, "TLS with it failed, as with a certificate that is not trusted"),
    (ConnectionError, "the connection was cut"),
)


def explain(error: BaseException) -> str | None:
    """Give the reason as a clause; None where the error does not tell one."""
    for cause in _causes(error):
        state = getattr(cause, "sqlstate", None)
        if state in _STATES:
            return _STATES[state]
        name = str(getattr(cause, "sqlite_errorname", ""))
        for code, reason in _SQLITE.items():
            if name.startswith(code):
                return reason
        if isinstance(cause, ConnectionError) and "SSL upgrade" in str(cause):
            return "the server offers no TLS, and the URL demands it"
        for kind, reason in _NETWORK:
            if isinstance(cause, kind):
                return reason
    return None


def unavailable(error: BaseException) -> str:
    """Say that the database cannot be reached, and why if the error tells it; no name and no password is in it."""
    reason = explain(error)
    return "The database cannot be reached." if reason is None else f"The database cannot be reached: {reason}."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Go from the error to the one behind it: SQLAlchemy keeps the driver's in `orig`."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = getattr(cause, "orig", None) or cause.__cause__ or cause.__context__
