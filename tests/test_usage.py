"""Usage reports through the API: whose they are, what divides their rows, and how they are read page by page."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, select, text

from db.clock import new_id, now
from db.engine import Database, ReadSession
from db.queries.api_key import api_keys_of_users
from db.queries.generation import generations_page
from db.queries.identity import callers_by_key
from db.queries.usage import BucketRun, Segment, UsageChoice, ledger, rollups
from db.tables import UsageRecord, User
from schema.node import global_id
from tests.support.gateways import ADMIN, GraphQLErrors, Json, RunningGateway


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


SUMS = "generations completed cancelled failed promptTokens completionTokens cachedTokens thinkingTokens"
USAGE = f"""
query($input: UsageInput, $first: Int, $after: String, $order: UsageOrder) {{ usage(input: $input) {{
  from to totals {{ {SUMS} }}
  rows(first: $first, after: $after, orderBy: $order) {{
    edges {{ cursor }} pageInfo {{ hasNextPage endCursor }}
    nodes {{ start end model apiKey {{ name }} user {{ username }} backend state finishReason totals {{ {SUMS} }} }}
  }}
}} }}
"""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARCH = {"from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}
DAY = timedelta(days=1)


async def id_of(gateway: RunningGateway, username: str) -> UUID:
    async with gateway.database.reading() as session:
        found = await session.scalar(select(User.id).where(User.username == username))
    assert found is not None
    return found


async def used(gateway: RunningGateway, at: datetime, tokens: int = 1, *, by: str = ADMIN, **columns: Any) -> None:
    """A row of the ledger: as many completion tokens, ten times as many prompt tokens."""
    given = {"model": "a", "backend": "ollama", "state": "COMPLETED", "finish_reason": "stop", **columns}
    user_id = await id_of(gateway, by)
    async with gateway.database.transaction() as tx:
        tx.add(
            UsageRecord(
                generation_id=new_id(),
                user_id=user_id,
                prompt_tokens=tokens * 10,
                completion_tokens=tokens,
                cached_tokens=None if tokens == 1 else tokens,
                thinking_tokens=None if tokens == 1 else tokens - 1,
                source="BACKEND",
                at=at,
                **given,
            )
        )


async def usage(gateway: RunningGateway, **input: Any) -> Json:
    return (await gateway.run(USAGE, {"input": input}))["usage"]


def told(report: Json, *names: str) -> list[tuple[Any, ...]]:
    """The dimensions of all rows, and their completion tokens."""
    return [(*(row[name] for name in names), row["totals"]["completionTokens"]) for row in report["rows"]["nodes"]]


def sums(generations: int, completion: int, cached: int, thinking: int, *, cancelled: int = 0, failed: int = 0) -> Json:
    return {
        "generations": generations,
        "completed": generations - cancelled - failed,
        "cancelled": cancelled,
        "failed": failed,
        "promptTokens": completion * 10,
        "completionTokens": completion,
        "cachedTokens": cached,
        "thinkingTokens": thinking,
    }


async def test_usage_is_summed_in_all_and_by_day(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    await used(gateway, NOON, 2)
    await used(gateway, NOON, 1, state="CANCELLED", finish_reason=None)
    await used(gateway, NOON + 2 * DAY, 5, state="FAILED", finish_reason=None)
    report = await usage(gateway, **MARCH)
    assert (report["from"], report["to"]) == ("2026-03-01T00:00:00+00:00", "2026-04-01T00:00:00+00:00")
    assert report["totals"] == sums(3, 8, 7, 5, cancelled=1, failed=1)
    assert [(row["start"][:10], row["end"][:10], row["totals"]) for row in report["rows"]["nodes"]] == [
        ("2026-03-01", "2026-03-02", sums(2, 3, 2, 1, cancelled=1)),
        ("2026-03-03", "2026-03-04", sums(1, 5, 5, 4, failed=1)),
    ]


async def test_rows_are_divided_by_every_dimension(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    await gateway.make_user("ada")
    await gateway.make_key("laptop")
    async with gateway.database.reading() as session:
        [[key]] = (await api_keys_of_users(session, [await id_of(gateway, ADMIN)], now(), 10)).values()
    await used(gateway, NOON, 2, model="b", api_key_id=key.id, backend="openai", finish_reason="length")
    await used(gateway, NOON + DAY, 3, model="Z", by="ada")
    await used(gateway, NOON + DAY, 4, model="b", state="FAILED", finish_reason=None)
    asked = {**MARCH, "granularity": "NONE", "filter": {"allUsers": True}}
    by = {
        dimension: await usage(gateway, **asked, groupBy=[dimension])
        for dimension in ("MODEL", "API_KEY", "USER", "BACKEND", "FINISH")
    }
    assert told(by["MODEL"], "model") == [("Z", 3), ("b", 6)]
    assert told(by["API_KEY"], "apiKey") == [(None, 7), ({"name": "laptop"}, 2)]
    assert sorted((user["username"], tokens) for user, tokens in told(by["USER"], "user")) == [("ada", 3), (ADMIN, 6)]
    assert told(by["BACKEND"], "backend") == [("ollama", 7), ("openai", 2)]
    assert told(by["FINISH"], "state", "finishReason") == [
        ("COMPLETED", "LENGTH", 2),
        ("COMPLETED", "STOP", 3),
        ("FAILED", None, 4),
    ]
    together = await usage(gateway, **asked, groupBy=["BACKEND", "MODEL", "BACKEND"])
    assert told(together, "model", "backend") == [("Z", "ollama", 3), ("b", "ollama", 4), ("b", "openai", 2)]


@pytest.mark.parametrize(
    ("chosen", "tokens"),
    [
        ({"models": ["a"]}, 0b011),
        ({"models": []}, 0),
        ({"backends": ["openai"]}, 0b010),
        ({"states": ["CANCELLED", "FAILED"]}, 0b110),
        ({"finishReasons": ["STOP"]}, 0b001),
        ({"models": ["a"], "states": ["FAILED"]}, 0b010),
        ({"apiKeyIds": [global_id("ApiKey", UUID(int=0))]}, 0),
        ({"allUsers": None, "models": None}, 0b111),
    ],
    ids=str,
)
async def test_a_filter_chooses_generations(gateway: RunningGateway, chosen: Json, tokens: int):
    await used(gateway, NOON, 0b001)
    await used(gateway, NOON, 0b010, backend="openai", state="FAILED", finish_reason=None)
    await used(gateway, NOON, 0b100, model="b", state="CANCELLED", finish_reason=None)
    assert (await usage(gateway, **MARCH, filter=chosen))["totals"]["completionTokens"] == tokens


async def test_a_range_begins_with_its_start_and_ends_before_its_end(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    instant = timedelta(microseconds=1)
    for moment, tokens in [(NOON - instant, 1), (NOON, 10), (NOON + DAY - instant, 100)]:
        await used(gateway, moment, tokens)
    await used(gateway, NOON + DAY, 1000)
    report = await usage(gateway, **{"from": NOON.isoformat(), "to": (NOON + DAY).isoformat()})
    assert report["totals"]["completionTokens"] == 110


async def test_days_are_those_of_the_time_zone(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    await used(gateway, datetime(2026, 3, 28, 22, 59, 59, 999_999, tzinfo=UTC), 1)
    await used(gateway, datetime(2026, 3, 28, 23, tzinfo=UTC), 10)
    await used(gateway, datetime(2026, 3, 29, 21, 59, tzinfo=UTC), 100)  # the clock goes forward on that day
    await used(gateway, datetime(2026, 3, 29, 22, tzinfo=UTC), 1000)
    report = await usage(gateway, **MARCH, timeZone="Europe/Berlin")
    assert told(report, "start", "end") == [
        ("2026-03-27T23:00:00+00:00", "2026-03-28T23:00:00+00:00", 1),
        ("2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00", 110),
        ("2026-03-29T22:00:00+00:00", "2026-03-30T22:00:00+00:00", 1000),
    ]


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "Europe", "../etc/passwd", "/etc/localtime", "a" * 999, "\0", "é"]
)
async def test_a_time_zone_that_there_is_not_is_refused(gateway: RunningGateway, zone: str):
    with pytest.raises(GraphQLErrors, match="timeZone: must be a time zone") as caught:
        await usage(gateway, timeZone=zone)
    assert caught.value.code == "INVALID_INPUT"


async def test_by_default_the_last_thirty_days_are_told(gateway: RunningGateway):
    await used(gateway, now() - timedelta(days=29), 10)
    await used(gateway, now() - timedelta(days=31), 100)
    report = (await gateway.run(USAGE))["usage"]
    assert report["totals"]["completionTokens"] == 10
    start, end = datetime.fromisoformat(report["from"]), datetime.fromisoformat(report["to"])
    assert end - start == timedelta(days=30)


async def test_null_means_the_default(gateway: RunningGateway):
    await used(gateway, NOON)
    nulls = {"timeZone": None, "granularity": None, "groupBy": None, "filter": None}
    assert await usage(gateway, **MARCH, **nulls) == await usage(gateway, **MARCH)


async def test_sums_may_outgrow_32_bits(emptied_gateway_on_each_database: RunningGateway):
    for _ in range(3):
        await used(emptied_gateway_on_each_database, NOON, 200_000_000)
    assert (await usage(emptied_gateway_on_each_database, **MARCH))["totals"]["promptTokens"] == 6_000_000_000


async def test_where_nothing_was_used_there_are_zeros_and_no_rows(gateway: RunningGateway):
    report = await usage(gateway, **MARCH)
    assert (report["totals"], report["rows"]["nodes"]) == (sums(0, 0, 0, 0), [])


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z", "before to"),
        ("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "before to"),
        ("2025-01-01T00:00:00Z", "2026-01-02T00:00:01Z", "at most 366 days"),
        ("0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "at most 366 days"),
        ("0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z", "within the years"),
        ("9999-12-30T00:00:00Z", "9999-12-31T23:59:59Z", "within the years"),
        (None, "0001-01-01T00:00:00Z", "before to"),
    ],
)
async def test_a_range_that_cannot_be_is_refused(gateway: RunningGateway, start: str | None, end: str, said: str):
    with pytest.raises(GraphQLErrors, match=said) as caught:
        await usage(gateway, timeZone="Asia/Tokyo", **{"from": start, "to": end})
    assert caught.value.code == "INVALID_INPUT"


async def test_a_report_that_is_too_long_is_refused(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.usage.reading.MAX_ROWS", 2)
    for day in range(3):
        await used(gateway, NOON + day * DAY)
    assert (await usage(gateway, **MARCH, granularity="WEEK"))["totals"]["generations"] == 3
    with pytest.raises(GraphQLErrors, match="more than 2 rows") as caught:
        await usage(gateway, **MARCH)
    assert caught.value.code == "INVALID_INPUT"


@pytest.mark.parametrize(
    ("order", "models"),
    [
        (None, "abcde"),
        ("OLDEST_FIRST", "abcde"),
        ("NEWEST_FIRST", "edcba"),
        ("MOST_TOKENS", "badec"),
        ("MOST_GENERATIONS", "cabde"),
    ],
)
async def test_pages_follow_one_another_in_every_order(gateway: RunningGateway, order: str | None, models: str):
    for number, (model, tokens) in enumerate([("a", 8), ("b", 9), ("c", 1), ("d", 7), ("e", 7)]):
        await used(gateway, NOON + number * DAY, tokens, model=model)
    await used(gateway, NOON + 2 * DAY, 1, model="c")
    found, after = "", None
    while True:
        variables = {"input": {**MARCH, "groupBy": ["MODEL"]}, "first": 2, "after": after, "order": order}
        page = (await gateway.run(USAGE, variables))["usage"]["rows"]
        found += "".join(row["model"] for row in page["nodes"])
        assert page["edges"][-1]["cursor"] == page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert found == models


@pytest.mark.parametrize("after", ["", "x", "W10=", "WzFd", "WyJPTERFU1RfRklSU1QiXQ==", "é"])
async def test_what_is_no_cursor_is_refused(gateway: RunningGateway, after: str):
    with pytest.raises(GraphQLErrors) as caught:
        await gateway.run(USAGE, {"after": after})
    assert caught.value.code == "INVALID_INPUT"


async def test_an_administrator_sees_the_usage_of_others(gateway: RunningGateway):
    ada = await gateway.make_user("ada")
    await used(gateway, NOON, 5, by="ada")
    await used(gateway, NOON, 7)
    chosen: list[tuple[Json, int]] = [({"userIds": [global_id("User", ada.id)]}, 5), ({"allUsers": True}, 12), ({}, 7)]
    for chooses, tokens in chosen:
        report = await usage(gateway, **MARCH, filter=chooses)
        assert report["totals"]["completionTokens"] == tokens


@pytest.mark.parametrize("asks", ["userIds", "allUsers", "groupBy"])
async def test_nobody_else_sees_the_usage_of_others(gateway: RunningGateway, asks: str):
    admin = global_id("User", await id_of(gateway, ADMIN))
    await gateway.make_user("ada")
    await gateway.sign_in("ada")
    inputs = {
        "userIds": {"filter": {"userIds": [admin]}},
        "allUsers": {"filter": {"allUsers": True}},
        "groupBy": {"groupBy": ["USER"]},
    }
    with pytest.raises(GraphQLErrors) as caught:
        await usage(gateway, **inputs[asks])
    assert caught.value.code == "FORBIDDEN"


async def test_everybody_may_name_themselves(gateway: RunningGateway):
    ada = await gateway.make_user("ada")
    await used(gateway, NOON, 5, by="ada")
    await gateway.sign_in("ada")
    report = await usage(gateway, filter={"userIds": [global_id("User", ada.id)]}, **MARCH)
    assert report["totals"]["completionTokens"] == 5


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


async def usage_of(session: ReadSession, *by: str, **chosen: list[Any]) -> None:
    runs = [BucketRun(NOON, 86_400, 0), BucketRun(NOON + 9 * DAY, None, 9)]
    tags = [("team", "red")] if by else None
    choice = UsageChoice(["model", *by], chosen, tags)
    await ledger.sums(session, choice, [(NOON, NOON + 10 * DAY)], runs=runs, limit=10)


async def usage_ahead(session: ReadSession, **chosen: list[Any]) -> None:
    at = int(NOON.timestamp())
    await rollups.sums(
        session, "ALL", UsageChoice(["model"], chosen), [Segment(86_400, at, at + 86_400, 0, 1)], limit=9
    )
    await rollups.bins(session, "USER", UsageChoice([], chosen), [Segment(86_400, at, at + 86_400, 0, 1)], limit=9)


async def usage_not_ahead(session: ReadSession) -> None:
    choice, spans = UsageChoice([], {"user_id": [new_id()]}), [(NOON, NOON + DAY)]
    await ledger.sums(session, choice, spans, runs=[BucketRun(NOON, None, 0)], rolled_up=False, limit=10)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda session: usage_of(session, user_id=[new_id()]), "ix_usage_"),
        (lambda session: usage_of(session), "ix_usage_at"),
        (lambda session: usage_of(session, "tag_name", "tag_value", user_id=[new_id()]), "ix_usage_"),
        (lambda session: usage_ahead(session, user_id=[new_id()]), "ix_usage_keys_grouping_user_id"),
        (usage_not_ahead, "ix_usage_not_rolled_up"),
        (
            lambda session: generations_page(session, new_id(), limit=21, before=new_id(), states=None, models=None),
            "ix_generations_user_id_id",
        ),
        (
            lambda session: generations_page(session, new_id(), limit=21, before=None, states=["FAILED"], models=None),
            "ix_generations_user_id_state_id",
        ),
        (lambda session: callers_by_key(session, ["0" * 64, "1" * 64]), "secret_hash"),
        (lambda session: api_keys_of_users(session, [new_id(), new_id()], now(), 10), "ix_api_keys_user_id_id"),
    ],
    ids=[
        *("usage", "usage-of-all", "usage-by-tag", "sums", "usage-not-in-sums"),
        *("generations", "generations-by-state", "key", "keys-of-users"),
    ],
)
async def test_a_query_that_grows_with_the_rows_uses_an_index(database: Database, ask: Any, index: str):
    plan = await plan_of(database, ask)
    if database.dialect == "sqlite":
        assert index in plan or "sqlite_autoindex_api_keys" in plan
        # what the index gave is read once more, and its tags
        given = r"SCAN (part|each_part VIRTUAL TABLE|\(subquery-\d+\)|anon_1|rows|tag VIRTUAL TABLE|CONSTANT ROW)"
        assert "SCAN" not in re.sub(given, "", plan)
    else:
        assert index in plan
