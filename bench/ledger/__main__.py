"""Measures usage reports over a large ledger: `python -m bench.ledger --rows 1000000`, on SQLite and on PostgreSQL.

Fills a week with generations of many users (the same for the same number of rows), adds them to the sums as the gateway
does, and copies it to the other weeks of the year within the database, which takes a tenth of the time. Then it prints
how long reports take from the sums and from the rows, the plan of the statement that reads the sums, and how large the
tables are for a million generations.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import anyio
from sqlalchemy import Table as CoreTable
from sqlalchemy import bindparam, event, insert, text

from auth.principal import Principal
from auth.scopes import ALL_SCOPES
from db.clock import new_id
from db.engine import Database
from db.migrations import upgrade
from db.tables import UsageBin, UsageRecord, UsageRollup, User
from gateway.errors import InvalidInput
from gateway.usage import Granularity, Rollups, Usage, UsageDimension, UsageFilter, UsageRequest, UsageUpkeep
from server.serve import spare_the_collector
from tests.support.databases import postgresql_server

WEEK, WEEKS = timedelta(days=7), 52
START = datetime(2025, 1, 1, tzinfo=UTC)
END = START + WEEKS * WEEK
USERS, MODELS, TAGS = 200, 8, 20
AT_ONCE = 10_000
TIMES = 5
TABLES = ("usage", "usage_rollups", "usage_bins", "usage_keys")

_LEDGER = cast("CoreTable", UsageRecord.__table__)
_TOTALS = UsageFilter(all_users=True)


def rows(number: int, users: list[UUID]) -> Iterator[dict[str, Any]]:
    """Give rows in the order of their time, most of them by day, of few users more than of many."""
    rng = random.Random(number)
    keys = {user: new_id() for user in users}
    groups = [str(new_id()) for _ in range(10)]
    step = WEEK / number
    for place in range(number):
        user = users[int(USERS * rng.random() ** 2)]
        first = int(rng.lognormvariate(5.5, 0.7))
        yield {
            "generation_id": new_id(),
            "user_id": user,
            "api_key_id": keys[user],
            "model": f"model-{int(MODELS * rng.random() ** 2)}",
            "backend": rng.choice(("ollama", "vllm")),
            "state": "COMPLETED" if rng.random() < 0.95 else "FAILED",
            "finish_reason": "stop",
            "tags": {"team": f"team-{rng.randrange(TAGS)}"},
            "end_user": None,
            "group_ids": [groups[users.index(user) % 10]],
            "prompt_tokens": rng.randrange(2_000),
            "completion_tokens": rng.randrange(2, 800),
            "cached_tokens": 0,
            "thinking_tokens": None,
            "source": "BACKEND",
            "at": (START + step * place).replace(microsecond=0),
            "queued_ms": 1,
            "time_to_first_token_ms": first,
            "last_token_ms": None,
            "eval_ms": rng.randrange(500, 20_000),
            "total_ms": first + 20_000,
            "cost_nano": rng.randrange(10**9),
            "currency": "EUR",
            "rolled_up": True,
        }


async def fill(database: Database, number: int) -> Principal:
    """Write the rows and their sums."""
    users = [User(id=new_id(), username=f"user-{place}", password_hash="!") for place in range(USERS)]
    async with database.transaction() as tx:
        tx.add_all(users)
    rollups, made = Rollups(), rows(number // WEEKS, [user.id for user in users])
    while some := [row for _, row in zip(range(AT_ONCE), made, strict=False)]:
        async with database.transaction() as tx:
            await (await tx.connection()).execute(insert(_LEDGER), some)
            await rollups.add(tx, some)
        rollups.committed()
    filled = 1
    while filled < WEEKS:
        await copy(database, weeks := min(filled, WEEKS - filled), behind=filled)
        filled += weeks
    begun = time.perf_counter()
    months = await UsageUpkeep(database, 0).make_months()
    print(f"\n{database.dialect}: {months} months of days in {time.perf_counter() - begun:.1f} s")
    return Principal(users[0].id, "user-0", ALL_SCOPES)


_COPIES = {
    "sqlite": (
        "printf('%016x%016x', :behind, row_number() OVER ())",
        "datetime(at, :shift || ' seconds') || '.000000'",
    ),
    "postgresql": (
        "CAST(lpad(to_hex(CAST(:behind AS int)), 16, '0') || lpad(to_hex(row_number() OVER ()), 16, '0') AS uuid)",
        "at + make_interval(secs => CAST(:shift AS int))",
    ),
}
"""A new id, and a moment that much later."""


async def copy(database: Database, weeks: int, behind: int) -> None:
    """Copy the first weeks, rows and sums, to so many weeks later."""
    first, end = int(START.timestamp()), int((START + weeks * WEEK).timestamp())
    values = {"shift": int((behind * WEEK).total_seconds()), "behind": behind, "first": first, "end": end}
    new_id_of, later = _COPIES[database.dialect]
    async with database.transaction() as tx:
        columns = [name for name in _LEDGER.c.keys() if name not in {"generation_id", "at"}]
        names = ", ".join(f'"{name}"' for name in columns)
        statement = f"""INSERT INTO "usage" (generation_id, at, {names})
            SELECT {new_id_of}, {later}, {names} FROM "usage" WHERE at < :until"""
        until = bindparam("until", START + weeks * WEEK, _LEDGER.c.at.type)
        of_rows = {name: values[name] for name in ("shift", "behind")}
        await tx.execute(text(statement).bindparams(until), of_rows)
        for table in (UsageRollup, UsageBin):
            names = ", ".join(name for name in table.__table__.c.keys() if name != "start")
            statement = f"""INSERT INTO {table.__tablename__} (start, {names})
                SELECT start + :shift, {names} FROM {table.__tablename__} WHERE start >= :first AND start < :end"""
            await tx.execute(text(statement), {name: values[name] for name in ("shift", "first", "end")})


REQUESTS = {
    "year, totals by day, UTC": UsageRequest(START, END, filter=_TOTALS),
    "year, totals by day, Berlin": UsageRequest(START, END, "Europe/Berlin", filter=_TOTALS),
    "year, totals by day, Kolkata": UsageRequest(START, END, "Asia/Kolkata", filter=_TOTALS),
    "year, by month and model, Berlin": UsageRequest(
        START, END, "Europe/Berlin", Granularity.MONTH, [UsageDimension.MODEL], _TOTALS
    ),
    "year, by month and user": UsageRequest(START, END, "UTC", Granularity.MONTH, [UsageDimension.USER], _TOTALS),
    "year, by month and tag": UsageRequest(START, END, "UTC", Granularity.MONTH, [UsageDimension.TAG], _TOTALS),
    "year from the 15th, by month and tag": UsageRequest(
        START + timedelta(days=14), END, "UTC", Granularity.MONTH, [UsageDimension.TAG], _TOTALS
    ),
    "year, by month, user and model": UsageRequest(
        START, END, "UTC", Granularity.MONTH, [UsageDimension.USER, UsageDimension.MODEL], _TOTALS
    ),
    "year, own by day and model": UsageRequest(START, END, group_by=[UsageDimension.MODEL]),
    "year, percentiles by month": UsageRequest(START, END, "UTC", Granularity.MONTH, filter=_TOTALS, percentiles=True),
    "month by hour, Berlin": UsageRequest(
        END - timedelta(days=30), END, "Europe/Berlin", Granularity.HOUR, filter=_TOTALS
    ),
    "month, ragged ends": UsageRequest(
        END - timedelta(days=30, seconds=77), END - timedelta(seconds=99), filter=_TOTALS
    ),
    "10 days, by tag and model (rows)": UsageRequest(
        END - timedelta(days=10), END, group_by=[UsageDimension.TAG, UsageDimension.MODEL], filter=_TOTALS
    ),
    "year, by tag and model (rows)": UsageRequest(
        START, END, "UTC", Granularity.MONTH, [UsageDimension.TAG, UsageDimension.MODEL], _TOTALS
    ),
}


async def measure(url: str, number: int) -> None:
    """Print everything about one database."""
    database = Database(url)
    await upgrade(database)
    begun = time.perf_counter()
    principal = await fill(database, number)
    seconds = time.perf_counter() - begun
    print(f"{database.dialect}: {number:,} rows and their sums in {seconds:.0f} s")
    if database.dialect == "postgresql":
        async with database.transaction() as tx:
            await tx.execute(text("ANALYZE"))
    usage = Usage(database)
    spare_the_collector()
    for name, request in REQUESTS.items():
        took: list[float] = []
        for _ in range(TIMES):
            begun, said = time.perf_counter(), "refused"
            with suppress(InvalidInput):
                said = f"{len((await usage.report(principal, request)).rows):6,} rows"
            took.append(time.perf_counter() - begun)
        print(f"  {name:34} {min(took) * 1000:8.1f} ms  {said}")
    await explain(database, principal)
    await sizes(database, number)
    await database.close()


async def explain(database: Database, principal: Principal) -> None:
    """Print the plan of the first statement that reads sums by model."""
    said: list[tuple[str, Any]] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "usage_rollups" in statement and "usage_keys.model" in statement:
            said.append((statement, parameters))

    engine = database._reading.engine.sync_engine  # pyright: ignore[reportPrivateUsage]
    event.listen(engine, "before_cursor_execute", note)
    await Usage(database).report(principal, REQUESTS["year, by month and model, Berlin"])
    event.remove(engine, "before_cursor_execute", note)
    word = "EXPLAIN (ANALYZE, BUFFERS) " if database.dialect == "postgresql" else "EXPLAIN QUERY PLAN "
    async with database.reading() as session:
        for row in await (await session.connection()).exec_driver_sql(word + said[0][0], said[0][1]):
            print(f"    {row[-1]}")


async def sizes(database: Database, number: int) -> None:
    """Print how large the tables are, with their indexes, for a million generations."""
    statement = "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = :name)"
    if database.dialect == "postgresql":
        statement = "SELECT pg_total_relation_size(CAST(:name AS text)::regclass)"
    async with database.reading() as session:
        for name in TABLES:
            try:
                size = await session.scalar(text(statement), {"name": name})
            except Exception:
                print("  sizes: this SQLite cannot tell")
                return
            count = await session.scalar(text(f"SELECT count(*) FROM {name}"))
            print(f"  {name:14} {size / number:8.0f} MB a million, {count / number:6.2f} rows a generation")


def main() -> None:
    """Measure on both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    given = parser.parse_args()
    if given.only != "postgresql":
        with tempfile.TemporaryDirectory() as folder:
            anyio.run(measure, f"sqlite:///{Path(folder) / 'usage.db'}", given.rows)
    if given.only != "sqlite":
        with postgresql_server() as url:
            anyio.run(measure, url, given.rows)


if __name__ == "__main__":
    main()
