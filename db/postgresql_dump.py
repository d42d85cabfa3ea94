"""PostgreSQL databases dumped and restored with its own programs, `pg_dump` and `pg_restore`.

They get the address and the password in their environment: what is on a command line can be read by all users of a
machine.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from db.engine import Database
from db.urls import parse_database_url

_OPTIONS = ("--no-owner", "--no-privileges", "--no-comments", "--no-password")

_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'ollagraph' AND pid <> pg_backend_pid()"
)
_TABLES = (
    "SELECT format('DROP TABLE %I.%I CASCADE', current_schema(), relname) FROM pg_class it "
    "WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace "
    "AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = it.oid AND d.deptype = 'e')"
)
_FUNCTIONS = (
    "SELECT format('DROP FUNCTION %s CASCADE', it.oid::regprocedure) FROM pg_proc it "
    "WHERE pronamespace = current_schema()::regnamespace AND prokind = 'f' "
    "AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = it.oid AND d.deptype = 'e')"
)
"""What came with an extension stays."""


CLIENT_PROGRAMS = "Install PostgreSQL's client programs of the server's version or newer, and have them first in PATH."


class DumpFailed(Exception):
    """A program of PostgreSQL is missing, or failed. The message says which, and what it said."""


async def dump(url: str, target: Path, environment: Mapping[str, str]) -> None:
    """Write one snapshot of a database to a file in the custom format, while others write. Raises DumpFailed."""
    await _run("pg_dump", url, environment, "--format=custom", f"--file={target}")


async def restore(url: str, source: Path, environment: Mapping[str, str]) -> None:
    """Restore a dump into a database that has no tables: all of it, or nothing. Raises DumpFailed."""
    name = parse_database_url(url).database or ""
    await _run(
        "pg_restore", url, environment, "--single-transaction", "--exit-on-error", f"--dbname={name}", str(source)
    )


async def dump_obstacle(database: Database, environment: Mapping[str, str]) -> str | None:
    """Tell why pg_dump could not dump this database; None where it could."""
    path = shutil.which("pg_dump", path=environment.get("PATH"))
    if path is None:
        return "pg_dump is not installed"
    said = (await anyio.run_process([path, "--version"], check=False)).stdout.decode(errors="replace")
    version = re.search(r"\d+", said)
    server = await _number(database, "SHOW server_version_num") // 10_000
    if version is None or int(version[0]) < server:
        return f"pg_dump is of version {version[0] if version else 'unknown'}, and the server of {server}"
    return None


async def others_connected(database: Database) -> int:
    """Count the connections of other processes of ours to this database."""
    return await _number(database, _OTHERS)


async def _number(database: Database, query: str) -> int:
    def read(sync: Connection) -> int:
        return int(sync.exec_driver_sql(query).scalar_one())

    async with database.reading() as session:
        return await (await session.connection()).run_sync(read)


async def clear(database: Database) -> None:
    """Drop all tables and functions of the schema, but those of extensions, in one transaction."""

    def drop(sync: Connection) -> None:
        for query in (_TABLES, _FUNCTIONS):
            for (statement,) in sync.exec_driver_sql(query).all():
                sync.exec_driver_sql(statement)

    async with database.migrating() as connection:
        await connection.run_sync(drop)


async def _run(program: str, url: str, environment: Mapping[str, str], *arguments: str) -> None:
    path = shutil.which(program, path=environment.get("PATH"))
    if path is None:
        raise DumpFailed(f"{program} is not installed. {CLIENT_PROGRAMS}")
    done = await anyio.run_process(
        [path, *_OPTIONS, *arguments],
        env={**environment, **_address(parse_database_url(url))},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        told = f"{program} failed: {' '.join(line.strip() for line in said[:3]) or done.returncode}"
        raise DumpFailed(f"{told}. {CLIENT_PROGRAMS}" if "version mismatch" in told else told)


def _address(url: URL) -> dict[str, str]:
    """Give the address as libpq's variables. Without a password, its own (PGPASSWORD, PGPASSFILE) count."""
    query: Mapping[str, Any] = url.query
    values = {
        "PGHOST": url.host or query.get("host"),
        "PGPORT": url.port or query.get("port"),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": query.get("ssl"),
    }
    return {name: str(value) for name, value in values.items() if value is not None}
