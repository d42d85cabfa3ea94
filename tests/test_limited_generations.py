"""Limits as callers meet them: what is let in, refused and made to wait, and what a generation leaves behind."""

from collections import Counter
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select

from backends.protocol import ChatRequest, Message
from db.tables import Generation, LimitCounter, Reservation
from gateway.generation.continuation import encode_request
from gateway.limits import LimitDimension, LimitWindow, Measure
from gateway.replicas.takeover import job_of
from gateway.streams import NO_USAGE, Queued, QueueReason, SavedStream, Started
from tests.support.gateways import Json, RunningGateway
from tests.support.generations import (
    COMPLETE,
    GENERATE,
    asking,
    cancel,
    next_event,
    none_runs,
    set_limit,
    start,
    until,
    until_tokens,
)

LIMIT = "limit { name measure window used reserved limit remaining resetsAt scope { dimension value } }"
START_OR_REFUSAL = f"""
mutation($input: GenerateInput!) {{ startGeneration(input: $input) {{
  __typename ... on StartGenerationSuccess {{ generation {{ id state }} }} ... on UserError {{ code message }}
  ... on RateLimited {{ retryAfterMs {LIMIT} }} ... on QuotaExceeded {{ retryAfterMs {LIMIT} }}
}} }}
"""
LIMITS = '{ viewer { limits(model: "fake:count-3") { name used reserved limit remaining } } }'
WAITS = {"onLimit": "WAIT", "onDisconnect": "CONTINUE"}


@pytest.fixture
def gateway(emptied_gateway_on_each_database: RunningGateway) -> RunningGateway:
    return emptied_gateway_on_each_database


async def ask(gateway: RunningGateway, model: str, **fields: Any) -> Json:
    return (await gateway.run(START_OR_REFUSAL, asking(model, **fields)))["startGeneration"]


async def nothing_is_reserved(gateway: RunningGateway) -> bool:
    async with gateway.database.reading() as session:
        rows = await session.scalar(select(func.count()).select_from(Reservation))
        return not rows and not await session.scalar(select(func.sum(LimitCounter.reserved)))


async def test_of_fifteen_at_once_four_are_let_in(gateway: RunningGateway):
    await set_limit(gateway.database, 4, Measure.REQUESTS, LimitWindow.DAY)
    results: Counter[str] = Counter()

    async def one() -> None:
        data = await gateway.run(COMPLETE, asking("fake:count-3"))
        results[data["generate"]["__typename"]] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(15):
            tasks.start_soon(one)
    assert results == {"GenerateSuccess": 4, "QuotaExceeded": 11}
    assert await nothing_is_reserved(gateway)


async def test_a_refusal_tells_which_limit_whose_it_is_and_when_it_resets(gateway: RunningGateway):
    await set_limit(gateway.database, 1, Measure.REQUESTS, LimitWindow.DAY, LimitDimension.USER, name="daily")
    await ask(gateway, "fake:count-3")
    await none_runs(gateway)
    refused = await ask(gateway, "fake:count-3")
    assert (refused["__typename"], refused["code"]) == ("QuotaExceeded", "QUOTA_EXCEEDED")
    limit = refused["limit"]
    assert (limit["name"], limit["used"], limit["remaining"]) == ("daily", "1", "0")
    assert [part["dimension"] for part in limit["scope"]] == ["USER"]
    assert limit["resetsAt"].endswith("T00:00:00+00:00")
    assert 0 < refused["retryAfterMs"] <= 86_400_000


async def test_a_stream_is_refused_with_one_event(gateway: RunningGateway):
    await set_limit(gateway.database, 0, Measure.REQUESTS, LimitWindow.MINUTE)
    [event] = await gateway.events(GENERATE, asking("fake:count-3"))
    assert event["error"]["__typename"] == "RateLimited"


async def test_tokens_that_were_reserved_come_back_with_the_end(gateway: RunningGateway):
    await set_limit(gateway.database, 500)
    await gateway.run(COMPLETE, asking("fake:count-3", options={"maxTokens": 400}))
    [limit] = (await gateway.run(LIMITS))["viewer"]["limits"]
    assert limit == {"name": "limit", "used": "6", "reserved": "0", "limit": "500", "remaining": "494"}
    assert (await ask(gateway, "fake:hold-3", options={"maxTokens": 400}))["__typename"] == "StartGenerationSuccess"
    refused = await ask(gateway, "fake:hold-3", options={"maxTokens": 400})
    assert (refused["code"], refused["limit"]["used"]) == ("QUOTA_EXCEEDED", "6")
    assert int(refused["limit"]["reserved"]) >= 403


async def test_an_answer_without_a_bound_gets_one_where_tokens_count(gateway: RunningGateway):
    await ask(gateway, "fake:count-3")
    assert "num_predict" not in (await gateway.fake.request(0)).body.get("options", {})
    await set_limit(gateway.database, 100_000)
    await ask(gateway, "fake:count-3")
    bound = (await gateway.fake.request(1)).body["options"]["num_predict"]
    assert 8_000 < bound < 8_192  # what the prompt leaves of the model's context


async def test_a_generation_that_is_cancelled_pays_for_what_came(gateway: RunningGateway):
    await set_limit(gateway.database, 100_000)
    await set_limit(gateway.database, 5, Measure.PARALLEL, None, name="at once")
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3", onDisconnect="CONTINUE"))
        seen = await until_tokens(socket, 1)
        ended = await cancel(gateway, seen[0]["generationId"])
    usage = ended["usage"]
    limits = {limit["name"]: limit for limit in (await gateway.run(LIMITS))["viewer"]["limits"]}
    assert int(limits["limit"]["used"]) == usage["promptTokens"] + usage["completionTokens"]
    assert (limits["at once"]["used"], limits["at once"]["reserved"]) == ("0", "0")
    assert await nothing_is_reserved(gateway)


@pytest.mark.parametrize("model", ["fake:error-3", "fake:cut-3", "fake:status-500", "fake:malformed-3"])
async def test_a_generation_that_fails_leaves_nothing_reserved(gateway: RunningGateway, model: str):
    await set_limit(gateway.database, 100_000)
    await gateway.run(COMPLETE, asking(model))
    assert await nothing_is_reserved(gateway)


async def test_who_waits_is_told_so_and_let_in_when_there_is_room(gateway: RunningGateway):
    await set_limit(gateway.database, 1, Measure.PARALLEL, None)
    first = await start(gateway, "fake:hold-3", onDisconnect="CONTINUE")
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:count-3", **WAITS))
        event = await next_event(socket)
        assert (event["__typename"], event["reason"]) == ("GenerationQueued", "LIMIT")
        await cancel(gateway, first)
        seen = await until(socket, "GenerationCompleted")
    assert seen[-1]["usage"]["completionTokens"] == 3
    assert await nothing_is_reserved(gateway)


async def test_those_who_wait_are_let_in_in_the_order_in_which_they_came(gateway: RunningGateway):
    await set_limit(gateway.database, 1, Measure.PARALLEL, None)
    first = await start(gateway, "fake:hold-3", onDisconnect="CONTINUE")
    waiting = [await start(gateway, "fake:count-3", **WAITS) for _ in range(3)]
    await cancel(gateway, first)
    await none_runs(gateway)
    begun = await gateway.run("{ generations(first: 4) { nodes { id state startedAt } } }")
    started = {node["id"]: node["startedAt"] for node in begun["generations"]["nodes"]}
    assert sorted(waiting, key=lambda it: started[it]) == waiting
    assert {node["state"] for node in begun["generations"]["nodes"] if node["id"] in waiting} == {"COMPLETED"}


async def test_one_that_waits_can_be_cancelled_and_costs_nothing(gateway: RunningGateway):
    await set_limit(gateway.database, 1, Measure.PARALLEL, None)
    first = await start(gateway, "fake:hold-3", onDisconnect="CONTINUE")
    waiting = await start(gateway, "fake:count-3", **WAITS)
    ended = await cancel(gateway, waiting)
    assert (ended["state"], ended["usage"]["promptTokens"]) == ("CANCELLED", 0)
    await cancel(gateway, first)
    assert await nothing_is_reserved(gateway)


async def test_a_limit_that_resets_too_late_is_not_waited_for(gateway: RunningGateway):
    await set_limit(gateway.database, 1, Measure.REQUESTS, LimitWindow.MONTH)
    await start(gateway, "fake:count-3")
    assert (await ask(gateway, "fake:count-3", **WAITS))["code"] in {"QUOTA_EXCEEDED"}


def test_one_that_waited_for_a_limit_at_a_dead_gateway_does_not_get_past_it():
    row, request = Generation(on_backend_loss="CONTINUE"), encode_request(ChatRequest("m", [Message("user", "x")]))
    assert job_of(row, SavedStream([Queued(1, 1)], NO_USAGE, request)) is not None
    waited = Queued(1, 1, QueueReason.LIMIT)
    assert job_of(row, SavedStream([waited], NO_USAGE, request)) is None
    assert job_of(row, SavedStream([waited, Started(2, 5, "b")], NO_USAGE, request)) is not None


async def test_a_repeated_request_under_a_key_is_counted_once(gateway: RunningGateway):
    await set_limit(gateway.database, 1, Measure.REQUESTS, LimitWindow.DAY)
    asked = {"idempotencyKey": "once"}
    first = await ask(gateway, "fake:count-3", **asked)
    assert (await ask(gateway, "fake:count-3", **asked))["generation"]["id"] == first["generation"]["id"]


async def test_requests_under_one_key_that_wait_for_a_limit_at_once_are_one(gateway: RunningGateway):
    await set_limit(gateway.database, 1, Measure.PARALLEL, None)
    first = await start(gateway, "fake:hold-3", onDisconnect="CONTINUE")
    begun: list[Json] = []

    async def one() -> None:
        begun.append(await ask(gateway, "fake:count-3", idempotencyKey="once", **WAITS))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(one)
    assert len({it["generation"]["id"] for it in begun}) == 1
    await cancel(gateway, first)
    await none_runs(gateway)
    assert await nothing_is_reserved(gateway)


@pytest.mark.parametrize(("amount", "code", "used"), [(44, "QUOTA_EXCEEDED", 4 + 3), (45, None, 4 + 6 + 7)])
async def test_a_prompt_that_another_backend_reads_again_must_fit(
    gateway: RunningGateway, amount: int, code: str | None, used: int
):
    await set_limit(gateway.database, amount, Measure.TOKENS, LimitWindow.DAY, LimitDimension.USER)
    gateway.fake.models.append("fake:loses-3-4")
    # reserved are 4 + 16 tokens for the prompt and 20 for the answer; then 7 are used, and 5 + 16 + 17 needed
    asked = asking("fake:loses-3-4", onBackendLoss="CONTINUE", options={"maxTokens": 20})
    events = await gateway.events(GENERATE, asked)
    assert (events[-1].get("error") or {}).get("code") == code
    assert len(gateway.fake.requests) == (1 if code else 2)  # nobody is asked again without a reservation
    assert await nothing_is_reserved(gateway)
    async with gateway.database.reading() as session:
        assert await session.scalar(select(LimitCounter.used)) == used
