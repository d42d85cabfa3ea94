"""Connections to PostgreSQL that were kept, and are no more: nobody who comes next is told of them."""

import asyncio
from collections.abc import AsyncIterator
from threading import Thread

import asyncpg
import pytest
from sqlalchemy import text

from db.engine import Database


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    database = Database(postgresql_url, pool_size=2)
    try:
        yield database
    finally:
        await database.close()


async def backend(database: Database) -> int:
    """Use a connection, and tell the server's process behind it."""
    async with database.reading() as session:
        return await session.scalar(text("SELECT pg_backend_pid()")) or 0


async def end(url: str, pid: int) -> None:
    """End a process of the server, as a failover does, and return when it is gone."""
    administrator = await asyncpg.connect(url)
    try:
        assert await administrator.fetchval("SELECT pg_terminate_backend($1, 10000)", pid)
    finally:
        await administrator.close()


async def test_one_that_works_is_used_again(database: Database):
    assert await backend(database) == await backend(database)


@pytest.mark.parametrize("trusted", [60.0, 0.0])
async def test_one_that_the_server_closed_is_replaced(
    database: Database, postgresql_url: str, monkeypatch: pytest.MonkeyPatch, trusted: float
):
    monkeypatch.setattr("db.postgresql._TRUSTED_SECONDS", trusted)
    before = await backend(database)
    await end(postgresql_url, before)
    assert await backend(database) != before


async def test_one_whose_end_nobody_has_read_yet_is_replaced(database: Database, postgresql_url: str):
    before = await backend(database)
    elsewhere = Thread(target=lambda: asyncio.run(end(postgresql_url, before)))
    elsewhere.start()
    elsewhere.join()  # meanwhile this event loop reads nothing
    assert await backend(database) != before
