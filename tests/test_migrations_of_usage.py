"""What older gateways wrote of usage and limits means the same after the migrations, on both databases."""

from sqlalchemy import text

from db import migrations
from db.clock import new_id, now
from db.engine import Database
from db.tables import Generation, Limit, UsageRecord, User


async def test_each_number_gets_its_source_and_a_generation_its_cost(database: Database) -> None:
    user = User(username="ada", password_hash="!")
    counted, estimated, running = new_id(), new_id(), new_id()
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        made = {"user_id": user.id, "model": "m", "backend": "b"}
        for generation, source, cached in ((counted, "COUNTED", 2), (estimated, "ESTIMATED", None)):
            used = {"prompt_tokens": 3, "completion_tokens": 5, "cached_tokens": cached}
            row = {"state": "COMPLETED", "on_disconnect": "CANCEL", "usage_source": source, "finished_at": now()}
            tx.add(Generation(id=generation, **made, **used, **row))
            cost = {"cost_nano": 7, "currency": "EUR"} if generation == counted else {}
            tx.add(UsageRecord(generation_id=generation, source=source, at=now(), **made, **used, **cost))
        tx.add(Generation(id=running, state="RUNNING", on_disconnect="CANCEL", **made))
        tx.add(Limit(name="tokens", measure="TOKENS", window="DAY", amount=1, each=["USER"], time_zone="Asia/Tokyo"))
        tx.add(Limit(name="own", measure="TOKENS", window="DAY", amount=1, each=["USER"]))
    await migrations.downgrade(database, "0020")
    await migrations.upgrade(database)
    names = "prompt_source, completion_source, cached_source, thinking_source"
    told = {counted: ("BACKEND", "COUNTED", "BACKEND", None), estimated: ("ESTIMATED", "ESTIMATED", None, None)}
    async with database.reading() as session:
        for table, key in (("generations", "id"), ("usage", "generation_id")):
            rows = await session.execute(
                text(f"SELECT {names} FROM {table} WHERE completion_tokens = 5 ORDER BY {key}")
            )
            assert [tuple(row) for row in rows] == [told[it] for it in sorted(told)]
        costs = await session.execute(text("SELECT cost_nano, currency FROM generations ORDER BY id"))
        assert [tuple(row) for row in costs] == [(7, "EUR"), (None, None), (None, None)]
        zones = await session.execute(text("SELECT name, time_zone FROM limits ORDER BY name"))
        assert [tuple(row) for row in zones] == [("own", "UTC"), ("tokens", "Asia/Tokyo")]
