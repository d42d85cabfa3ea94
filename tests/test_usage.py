"""The usage ledger: sums by day, model and key, the same on both databases."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, select, text

from db.clock import new_id, now
from db.engine import Database
from db.queries.generation import generations_page
from db.queries.identity import api_keys_by_hash, api_keys_of_users
from db.queries.usage import usage_buckets
from db.tables import UsageRecord, User
from schema.node import global_id
from tests.support.gateways import ADMIN, GraphQLErrors, Json, RunningGateway

SUMS = "totals { generations promptTokens completionTokens cachedTokens }"
USAGE = f"""
query($input: UsageInput) {{ usage(input: $input) {{
  from to total {{ generations promptTokens completionTokens cachedTokens }}
  byModel {{ model {SUMS} }} byKey {{ apiKey {{ name }} {SUMS} }}
  days {{ day total {{ generations }} byModel {{ model {SUMS} }} byKey {{ apiKey {{ name }} {SUMS} }} }}
}} }}
"""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARCH = {"from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}


async def id_of(gateway: RunningGateway, username: str) -> UUID:
    async with gateway.database.reading() as session:
        found = await session.scalar(select(User.id).where(User.username == username))
    assert found is not None
    return found


async def used(
    gateway: RunningGateway,
    at: datetime,
    tokens: int = 1,
    *,
    model: str = "a",
    key: UUID | None = None,
    by: str = ADMIN,
) -> None:
    """A row of the ledger: as many completion tokens, ten times as many prompt tokens."""
    user_id = await id_of(gateway, by)
    async with gateway.database.transaction() as tx:
        tx.add(
            UsageRecord(
                generation_id=new_id(),
                user_id=user_id,
                api_key_id=key,
                model=model,
                prompt_tokens=tokens * 10,
                completion_tokens=tokens,
                cached_tokens=None if tokens == 1 else tokens,
                source="BACKEND",
                at=at,
                day=at.date(),
            )
        )


async def usage(gateway: RunningGateway, **input: Any) -> Json:
    return (await gateway.run(USAGE, {"input": input}))["usage"]


def sums(generations: int, completion: int, cached: int) -> Json:
    return {
        "generations": generations,
        "promptTokens": completion * 10,
        "completionTokens": completion,
        "cachedTokens": cached,
    }


async def test_usage_is_summed_in_all_by_day_by_model_and_by_key(gateway_on_each_database: RunningGateway):
    gateway = gateway_on_each_database
    made = await gateway.make_key("laptop")
    async with gateway.database.reading() as session:
        keys = await api_keys_of_users(session, [await id_of(gateway, ADMIN)], now(), 10)
    [[key]] = keys.values()
    assert made["apiKey"]["id"] == global_id("ApiKey", key.id)
    await used(gateway, NOON, 2, model="b", key=key.id)
    await used(gateway, NOON, 3, model="Z")
    await used(gateway, NOON, 1, model="b")
    await used(gateway, NOON + timedelta(days=2), 5, model="b", key=key.id)
    laptop = {"name": "laptop"}
    report = await usage(gateway, **MARCH)
    assert report == {
        "from": "2026-03-01T00:00:00+00:00",
        "to": "2026-04-01T00:00:00+00:00",
        "total": sums(4, 11, 10),
        "byModel": [{"model": "Z", "totals": sums(1, 3, 3)}, {"model": "b", "totals": sums(3, 8, 7)}],
        "byKey": [{"apiKey": laptop, "totals": sums(2, 7, 7)}, {"apiKey": None, "totals": sums(2, 4, 3)}],
        "days": [
            {
                "day": "2026-03-01",
                "total": {"generations": 3},
                "byModel": [{"model": "Z", "totals": sums(1, 3, 3)}, {"model": "b", "totals": sums(2, 3, 2)}],
                "byKey": [{"apiKey": laptop, "totals": sums(1, 2, 2)}, {"apiKey": None, "totals": sums(2, 4, 3)}],
            },
            {
                "day": "2026-03-03",
                "total": {"generations": 1},
                "byModel": [{"model": "b", "totals": sums(1, 5, 5)}],
                "byKey": [{"apiKey": laptop, "totals": sums(1, 5, 5)}],
            },
        ],
    }


async def test_a_range_begins_with_its_start_and_ends_before_its_end(gateway_on_each_database: RunningGateway):
    gateway = gateway_on_each_database
    instant = timedelta(microseconds=1)
    for moment, tokens in [(NOON - instant, 1), (NOON, 10), (NOON + timedelta(days=1) - instant, 100)]:
        await used(gateway, moment, tokens)
    await used(gateway, NOON + timedelta(days=1), 1000)
    report = await usage(gateway, **{"from": NOON.isoformat(), "to": (NOON + timedelta(days=1)).isoformat()})
    assert report["total"]["completionTokens"] == 110


async def test_a_range_may_be_given_in_any_time_zone(gateway_on_each_database: RunningGateway):
    await used(gateway_on_each_database, NOON, 7)
    report = await usage(
        gateway_on_each_database, **{"from": "2026-03-01T17:30:00+05:30", "to": "2026-03-01T13:00:01+01:00"}
    )
    assert report["total"]["completionTokens"] == 7


async def test_by_default_the_last_thirty_days_are_told(gateway: RunningGateway):
    await used(gateway, now() - timedelta(days=29), 10)
    await used(gateway, now() - timedelta(days=31), 100)
    report = (await gateway.run(USAGE))["usage"]
    assert report["total"]["completionTokens"] == 10
    start, end = datetime.fromisoformat(report["from"]), datetime.fromisoformat(report["to"])
    assert end - start == timedelta(days=30)


async def test_sums_may_outgrow_32_bits(gateway_on_each_database: RunningGateway):
    for _ in range(3):
        await used(gateway_on_each_database, NOON, 200_000_000)
    assert (await usage(gateway_on_each_database, **MARCH))["total"]["promptTokens"] == 6_000_000_000


async def test_where_nothing_was_used_there_are_zeros_and_no_days(gateway: RunningGateway):
    report = await usage(gateway, **MARCH)
    assert (report["total"], report["days"]) == (sums(0, 0, 0), [])


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z", "before to"),
        ("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "before to"),
        ("2025-01-01T00:00:00Z", "2026-01-02T00:00:01Z", "at most 366 days"),
        ("0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "at most 366 days"),
        (None, "0001-01-01T00:00:00Z", "before to"),
    ],
)
async def test_a_range_that_cannot_be_is_refused(gateway: RunningGateway, start: str | None, end: str, said: str):
    with pytest.raises(GraphQLErrors, match=said) as caught:
        await usage(gateway, **{"from": start, "to": end})
    assert caught.value.code == "INVALID_INPUT"


async def test_a_range_of_a_leap_year_is_taken(gateway: RunningGateway):
    report = await usage(gateway, **{"from": "2024-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"})
    assert report["total"]["generations"] == 0


async def test_an_administrator_sees_the_usage_of_another(gateway: RunningGateway):
    ada = await gateway.make_user("ada")
    await used(gateway, NOON, 5, by="ada")
    report = await usage(gateway, userId=global_id("User", ada.id), **MARCH)
    assert report["total"]["completionTokens"] == 5
    assert (await usage(gateway, **MARCH))["total"]["completionTokens"] == 0


async def test_nobody_else_sees_the_usage_of_another(gateway: RunningGateway):
    await gateway.make_user("ada")
    admin = global_id("User", await id_of(gateway, ADMIN))
    await gateway.sign_in("ada")
    with pytest.raises(GraphQLErrors) as caught:
        await usage(gateway, userId=admin)
    assert caught.value.code == "FORBIDDEN"


async def test_everybody_may_name_themselves(gateway: RunningGateway):
    ada = await gateway.make_user("ada")
    await used(gateway, NOON, 5, by="ada")
    await gateway.sign_in("ada")
    report = await usage(gateway, userId=global_id("User", ada.id), **MARCH)
    assert report["total"]["completionTokens"] == 5


async def plan_of(database: Database, ask: Any) -> str:
    """How the database would answer the statements of a query."""
    statements: list[tuple[str, Any]] = []
    async with database.reading() as session:
        if database.dialect == "postgresql":
            # its tables are empty here: reading them whole would be right
            await session.execute(text("SET LOCAL enable_seqscan = off"))
        connection = await session.connection()
        sync = connection.sync_connection
        assert sync is not None

        def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
            statements.append((statement, parameters))

        event.listen(sync, "before_cursor_execute", note)
        await ask(session)
        event.remove(sync, "before_cursor_execute", note)
        explain = "EXPLAIN " if database.dialect == "postgresql" else "EXPLAIN QUERY PLAN "
        lines: list[str] = []
        for statement, parameters in statements:
            rows = await connection.exec_driver_sql(explain + statement, parameters)
            lines += [str(tuple(row)) for row in rows]
    assert lines
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda session: usage_buckets(session, new_id(), NOON, now()), "ix_usage_user_id_at"),
        (
            lambda session: generations_page(session, new_id(), limit=21, before=new_id(), states=None, models=None),
            "ix_generations_user_id_id",
        ),
        (
            lambda session: generations_page(session, new_id(), limit=21, before=None, states=["FAILED"], models=None),
            "ix_generations_user_id_state_id",
        ),
        (lambda session: api_keys_by_hash(session, ["0" * 64, "1" * 64]), "secret_hash"),
        (lambda session: api_keys_of_users(session, [new_id(), new_id()], now(), 10), "ix_api_keys_user_id_id"),
    ],
    ids=["usage", "generations", "generations-by-state", "key", "keys-of-users"],
)
async def test_a_query_that_grows_with_the_rows_uses_an_index(database: Database, ask: Any, index: str):
    plan = await plan_of(database, ask)
    if database.dialect == "sqlite":
        assert index in plan or "sqlite_autoindex_api_keys" in plan
        assert "SCAN" not in re.sub(r"SCAN (\(subquery-\d+\)|anon_1)", "", plan)  # what the index gave, once more
    else:
        assert index in plan
