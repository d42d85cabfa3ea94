"""The statements about the database itself: its tables, what they take, its clock, and what a crash left in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, inspect, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import ReadSession
from db.tables import AuditEvent, Generation, Replica, User


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """A column as the database has it."""

    name: str
    type: str
    nullable: bool
    primary_key: bool


@dataclass(frozen=True, slots=True)
class IndexShape:
    """An index. `scans` is how often it was used since statistics were reset; None where the database does not count.

    `covered_by` is another index of the table that begins with the same columns, so that this one is not needed.
    """

    name: str
    columns: Sequence[str]
    unique: bool
    bytes: int | None
    scans: int | None
    covered_by: str | None


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table. `bytes` is what it takes without its indexes; None where the database does not tell."""

    name: str
    rows: int
    bytes: int | None
    columns: Sequence[ColumnShape]
    indexes: Sequence[IndexShape]


@dataclass(frozen=True, slots=True)
class Connections:
    """How many connections a PostgreSQL server has, and how many it takes from users without special rights."""

    used: int
    most: int


async def tables(session: ReadSession) -> list[TableShape]:
    """Give all tables with exact numbers of rows: each is counted, which takes a while for large ones."""
    connection = await session.connection()
    sizes, scans = await _sizes(connection), await _scans(connection)
    return await connection.run_sync(_tables, sizes, scans)


async def clock(session: ReadSession) -> datetime | None:
    """Give the time of the database's server; None for SQLite, which has no clock of its own."""
    if _dialect(session) == "sqlite":
        return None
    return await session.scalar(text("SELECT clock_timestamp()"))


async def connections(session: ReadSession) -> Connections | None:
    """Give the connections of the server; None for SQLite."""
    if _dialect(session) == "sqlite":
        return None
    query = (
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
        " current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    )
    used, most = (await session.execute(text(query))).one()
    return Connections(used, most)


async def damage(session: ReadSession) -> list[str]:
    """Look through all of a SQLite file for damage: sentences, none where it is whole. PostgreSQL is not looked at."""
    if _dialect(session) != "sqlite":
        return []
    found = [str(row[0]) for row in await session.execute(text("PRAGMA quick_check(20)"))]
    orphans = (await session.execute(text("PRAGMA foreign_key_check"))).all()
    broken = [f"a row of {row[0]} refers to a missing row of {row[2]}" for row in orphans[:20]]
    return [line for line in found if line != "ok"] + broken


async def administrators(session: ReadSession, role: str) -> int:
    """Count the active users with a role."""
    query = select(func.count()).select_from(User).where(User.role == role, User.disabled_at.is_(None))
    return int(await session.scalar(query.where(User.deleted_at.is_(None))) or 0)


async def abandoned(session: ReadSession) -> int:
    """Count the unfinished generations that belong to no replica in the table of those alive."""
    alive = select(Replica.id)
    query = select(func.count()).select_from(Generation).where(Generation.finished_at.is_(None))
    theirs = or_(Generation.replica_id.is_(None), Generation.replica_id.not_in(alive))
    return int(await session.scalar(query.where(theirs)) or 0)


async def silent_replicas(session: ReadSession, since: datetime) -> int:
    """Count the replicas that have not been seen since then, and did not say that they stop."""
    return int(await session.scalar(select(func.count()).select_from(Replica).where(Replica.seen_at < since)) or 0)


async def latest_moment(session: ReadSession) -> datetime | None:
    """Give the newest moment that a gateway has written: of an event of the audit log, or a heartbeat."""
    found = [await session.scalar(select(func.max(it))) for it in (AuditEvent.at, Replica.seen_at)]
    return max((moment for moment in found if moment is not None), default=None)


def _dialect(session: ReadSession) -> str:
    return session.get_bind().dialect.name


async def _sizes(connection: AsyncConnection) -> Mapping[str, int]:
    """Give the bytes of each table and index, by name. Not every build of SQLite tells them."""
    if connection.dialect.name == "sqlite":
        told = await connection.scalar(
            text("SELECT 1 FROM pragma_compile_options WHERE compile_options LIKE '%DBSTAT%'")
        )
        query = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name"
    else:
        told = True
        query = (
            "SELECT relname, CASE relkind WHEN 'r' THEN pg_table_size(oid) ELSE pg_relation_size(oid) END FROM pg_class"
            " WHERE relkind IN ('r', 'i') AND relnamespace = current_schema()::regnamespace"
        )
    return {str(name): int(size) for name, size in await connection.execute(text(query))} if told else {}


async def _scans(connection: AsyncConnection) -> Mapping[str, int]:
    if connection.dialect.name == "sqlite":
        return {}
    query = "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE schemaname = current_schema()"
    return {str(name): int(scans) for name, scans in await connection.execute(text(query))}


def _tables(connection: Connection, sizes: Mapping[str, int], scans: Mapping[str, int]) -> list[TableShape]:
    inspector, found = inspect(connection), list[TableShape]()
    quote = connection.dialect.identifier_preparer.quote
    for name in sorted(inspector.get_table_names()):
        key = inspector.get_pk_constraint(name).get("constrained_columns", [])
        columns = [
            ColumnShape(str(it["name"]), str(it["type"]), bool(it["nullable"]), it["name"] in key)
            for it in inspector.get_columns(name)
        ]
        rows = connection.execute(text(f"SELECT count(*) FROM {quote(name)}")).scalar_one()  # noqa: S608 - quoted
        indexes = _indexes(list[Mapping[str, Any]](inspector.get_indexes(name)), key, sizes, scans)
        found.append(TableShape(name, int(rows), sizes.get(name), columns, indexes))
    return found


def _indexes(
    told: Sequence[Mapping[str, Any]], key: Sequence[str], sizes: Mapping[str, int], scans: Mapping[str, int]
) -> list[IndexShape]:
    columns = {str(it["name"]): [str(column) for column in it["column_names"]] for it in told}
    partial = {
        str(it["name"])
        for it in told
        if any(str(option).endswith("_where") for option in it.get("dialect_options", {}))
    }
    whole = {name: it for name, it in columns.items() if name not in partial} | (
        {"the primary key": list(key)} if key else {}
    )

    def covering(name: str, unique: bool) -> str | None:
        own = columns[name]
        if unique or name in partial:
            return None
        return next((other for other, theirs in whole.items() if other != name and theirs[: len(own)] == own), None)

    return [
        IndexShape(
            name=name,
            columns=columns[name],
            unique=bool(it["unique"]),
            bytes=sizes.get(name),
            scans=scans.get(name),
            covered_by=covering(name, bool(it["unique"])),
        )
        for it in told
        for name in [str(it["name"])]
    ]
