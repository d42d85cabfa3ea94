"""Upgrades of databases with data in them, from the first schema, one revision after the other."""

from uuid import uuid4

from sqlalchemy import select, text

from db import migrations
from db.engine import Database
from db.revisions import known_revisions
from db.tables import ApiKey, Generation, UsageRecord, User

USER, KEY, GENERATION = (uuid4() for _ in range(3))

COUNTS = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM api_keys), (SELECT sum(prompt_tokens) FROM usage)"


async def fill(database: Database) -> None:
    """Write what the first schema could hold."""
    yes = "1" if database.dialect == "sqlite" else "true"
    at = "'2026-02-03 12:00:00'"
    statements = (
        "INSERT INTO users (id, username, password_hash, is_admin, created_at) "
        f"VALUES ('{USER.hex}', 'ada', '!', {yes}, {at})",
        "INSERT INTO api_keys (id, user_id, name, prefix, secret_hash, scopes, created_at) "
        f"VALUES ('{KEY.hex}', '{USER.hex}', 'laptop', 'olg_a', '0', '[]', {at})",
        "INSERT INTO generations "
        "(id, user_id, api_key_id, model, backend, state, on_disconnect, created_at, finished_at) "
        f"VALUES ('{GENERATION.hex}', '{USER.hex}', '{KEY.hex}', 'm', 'ollama', 'COMPLETED', 'CANCEL', {at}, {at})",
        "INSERT INTO usage "
        "(generation_id, user_id, api_key_id, model, prompt_tokens, completion_tokens, source, at, day) "
        f"VALUES ('{GENERATION.hex}', '{USER.hex}', '{KEY.hex}', 'm', 3, 4, 'BACKEND', {at}, '2026-02-03')",
    )
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(text(statement))


async def test_what_the_first_schema_held_is_there_after_each_step(unmigrated_url: str) -> None:
    database = Database(unmigrated_url)
    try:
        await migrations.upgrade(database, "0001")
        await fill(database)
        for revision in known_revisions()[1:]:
            await migrations.upgrade(database, revision)
            assert await migrations.current_revision(database) == revision
            async with database.reading() as session:
                counted = tuple((await session.execute(text(COUNTS))).one())
            assert counted == (1, 1, 3), revision
        async with database.reading() as session:
            user = (await session.scalars(select(User))).one()
            key = (await session.scalars(select(ApiKey))).one()
            generation = (await session.scalars(select(Generation))).one()
            usage = (await session.scalars(select(UsageRecord))).one()
        assert (user.id, user.username, user.role) == (USER, "ada", "admin")
        assert (key.id, key.user_id, key.name) == (KEY, USER, "laptop")
        assert (generation.state, generation.api_key_id) == ("COMPLETED", KEY)
        assert (usage.completion_tokens, usage.state, usage.backend) == (4, "COMPLETED", "ollama")
    finally:
        await database.close()
