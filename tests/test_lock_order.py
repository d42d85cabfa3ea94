"""Whoever writes several generations in one transaction locks them in one order: none waits for another in a circle."""

from collections.abc import Awaitable, Callable
from random import Random
from uuid import UUID

import anyio
import pytest

from db import queries
from db.clock import new_id, now
from db.engine import Database, WriteSession
from db.tables import Generation, User
from gateway.generation import usage_columns
from gateway.streams import TokenUsage
from tests.support.databases import on_postgresql

ROUNDS = 40
FENCE = 1

Write = Callable[[WriteSession, list[UUID]], Awaitable[None]]


async def note_usage(tx: WriteSession, ids: list[UUID]) -> None:
    columns = usage_columns(TokenUsage(1, 2))
    await queries.generation.note_usage(tx, [{"row_id": each, "row_fence": FENCE, **columns} for each in ids])


async def note_detached(tx: WriteSession, ids: list[UUID]) -> None:
    await queries.generation.note_detached(tx, [(each, FENCE) for each in ids], now())


@on_postgresql
@pytest.mark.parametrize("other", [note_usage, note_detached])
async def test_writers_of_the_same_generations_do_not_lock_each_other_out(database: Database, other: Write):
    user = User(id=new_id(), username="ada", password_hash="!")
    ids = [new_id() for _ in range(20)]
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        for each in ids:
            tx.add(
                Generation(id=each, user_id=user.id, model="m", backend="b", state="RUNNING", on_disconnect="CANCEL")
            )
            await tx.flush()

    async def write(how: Write, chance: Random) -> None:
        for _ in range(ROUNDS):
            async with database.transaction() as tx:
                await how(tx, chance.sample(ids, len(ids)))

    async with anyio.create_task_group() as tasks:  # which a deadlock would end
        for number, how in enumerate((note_usage, other, other)):
            tasks.start_soon(write, how, Random(number))
