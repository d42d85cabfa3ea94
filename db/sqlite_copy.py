"""Whole copies of a SQLite database: made while others write, checked, and put in the place of another."""

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

PAGES_AT_ONCE = 2_000

BUSY_SECONDS = 10.0

_FILES = ("", "-wal", "-shm", "-journal")


class DatabaseInUse(Exception):
    """Some process has the database open."""


class DatabaseDamaged(Exception):
    """The file is no whole SQLite database. The message says what is wrong with it."""


def copy_database(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy a database as it is at this moment, while others read and write. `progress` gets done and all pages.

    The copy is one snapshot: without the read transaction around it, the copying would begin anew with each commit of
    another process, and under load never end. Writers are not held up; their log grows until the copy is done.
    Raises sqlite3.Error, and DatabaseDamaged for a copy that is not whole.
    """
    with (
        closing(sqlite3.connect(source, isolation_level=None, timeout=BUSY_SECONDS)) as reading,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        reading.execute("PRAGMA query_only = ON")
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # with which the snapshot begins
        reading.backup(copy, pages=PAGES_AT_ONCE, progress=lambda _, left, pages: progress(pages - left, pages))
        reading.execute("ROLLBACK")
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()  # so that the copy is one file
    check_whole(target)


def check_whole(path: Path) -> None:
    """Read all of a database. Raises DatabaseDamaged."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            told = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(5)")]
    except sqlite3.DatabaseError as error:
        raise DatabaseDamaged(str(error)) from error
    if told != ["ok"]:
        raise DatabaseDamaged("; ".join(told))


def revision_of(path: Path) -> str | None:
    """Give the revision that a file is at; None where it holds none."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
    return None if row is None else str(row[0])


def check_alone(path: Path) -> None:
    """Raise DatabaseInUse if another process has the database open."""
    with _alone(path):
        pass


def replace_database(path: Path, new: Path, aside: Path) -> bool:
    """Put a new database in the place of that at `path`, and keep the old one; tell whether there was one.

    There is a whole database at `path` at every moment. Raises DatabaseInUse, and then nothing has changed.
    """
    if not path.exists():
        new.replace(path)
        return False
    with _alone(path):
        try:
            os.link(path, aside)
        except OSError:  # a file system without hard links
            path.rename(aside)
        new.replace(path)
        for suffix in _FILES[1:]:  # of a damaged one; else nothing would be left
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return True


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Keep all others out for the block. A file that is no database is kept from nobody: nobody can have it open."""
    if not path.exists():
        yield
        return
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0.5)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
            # Every connection in WAL mode holds a lock for as long as it is open, idle or not, and this needs it.
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise DatabaseInUse(f"{path} is open in another process.") from error
        except sqlite3.DatabaseError:
            pass
        yield
