"""Generations from end to end: started, watched, queued, cancelled and counted over real HTTP and WebSocket."""

from pathlib import Path

import anyio
import pytest
from sqlalchemy import select

from db.tables import UsageRecord
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import (
    COMPLETE,
    GENERATE,
    START,
    WATCH,
    asking,
    cancel,
    ends,
    look,
    next_event,
    start,
    text_of,
    total,
    until,
)
from tests.support.polling import pause, settled

TOOL = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


async def watched(gateway: RunningGateway, id: str, after: int = 0) -> list[Json]:
    return await gateway.events(WATCH, {"id": id, "after": after})


async def test_events_rise_and_end_once(gateway: RunningGateway):
    events = await gateway.events(GENERATE, asking("fake:paced-5-1"))
    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(set(sequences))
    assert ends(events) == [events[-1]]


async def test_the_mutation_gives_the_whole_answer(gateway: RunningGateway):
    answer = (await gateway.run(COMPLETE, asking("fake:count-5")))["generate"]
    assert answer["text"] == "0 1 2 3 4 "
    assert (answer["generation"]["state"], answer["generation"]["finishReason"]) == ("COMPLETED", "STOP")
    assert answer["generation"]["usage"] == {"completionTokens": 5, "source": "BACKEND"}


async def test_an_answer_cut_at_its_length_says_so(gateway: RunningGateway):
    answer = (await gateway.run(COMPLETE, asking("fake:count-5", options={"maxTokens": 2})))["generate"]
    assert (answer["text"], answer["generation"]["finishReason"]) == ("0 1 ", "LENGTH")


async def test_a_backend_that_tells_no_usage_is_counted(gateway: RunningGateway):
    (end,) = ends(await gateway.events(GENERATE, asking("fake:no-usage-5")))
    assert end["usage"] == {"promptTokens": 4, "completionTokens": 5, "source": "ESTIMATED"}


async def test_what_was_started_can_be_watched_later(gateway: RunningGateway):
    id = await start(gateway, "fake:hold-5")
    request = await gateway.fake.request()
    async with gateway.connect() as socket:
        await socket.subscribe(WATCH, {"id": id})
        assert (await next_event(socket))["__typename"] == "GenerationStarted"
        request.release()
        events = await until(socket, "GenerationCompleted")
    assert text_of(events) == "0 1 2 3 4 "


async def test_what_has_ended_can_be_watched_again_and_again(gateway: RunningGateway):
    id = await start(gateway, "fake:count-5")
    assert [text_of(await watched(gateway, id)) for _ in range(2)] == ["0 1 2 3 4 "] * 2


async def test_watching_after_a_sequence_gives_exactly_the_rest_and_in_any_case_the_end(gateway: RunningGateway):
    first = await gateway.events(GENERATE, asking("fake:paced-5-1", onDisconnect="CONTINUE"))
    for seen in range(len(first) + 1):  # of what was seen: text that came merged has the number of its last piece
        after = first[seen - 1]["sequence"] if seen else 0
        rest = await watched(gateway, first[0]["generationId"], after)
        assert text_of(first[:seen]) + text_of(rest) == "0 1 2 3 4 "
        assert len(ends(rest)) == 1


async def test_several_viewers_see_the_same(gateway: RunningGateway):
    id = await start(gateway, "fake:hold-300")
    request = await gateway.fake.request()
    texts: list[str] = []

    async def watch() -> None:
        texts.append(text_of(await watched(gateway, id)))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(watch)
        await settled()
        request.release()
    assert texts == ["".join(f"{number} " for number in range(300))] * 5


async def test_a_generation_of_nobodys_cannot_be_watched(gateway: RunningGateway):
    id = await start(gateway, "fake:count-3")
    await gateway.make_user("other")
    await gateway.sign_in("other")
    async with gateway.connect() as socket:
        await socket.subscribe(WATCH, {"id": id})
        message = await socket.receive()
    assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "NOT_FOUND")


async def test_cancelling_stops_the_model_and_counts_what_it_said(gateway: RunningGateway):
    id = await start(gateway, "fake:stall-5")
    request = await gateway.fake.request()
    async with gateway.connect() as socket:
        await socket.subscribe(WATCH, {"id": id})
        seen = ""
        while seen != "0 1 2 3 4 ":
            seen += (await next_event(socket)).get("text", "")
        ended = await cancel(gateway, id)
        end = (await until(socket, "GenerationCancelled"))[-1]
    await request.ended.wait()
    assert request.left
    assert ended["state"] == "CANCELLED"
    assert ended["usage"]["completionTokens"] == request.sent == 5
    assert end["cancelReason"] == "REQUESTED"
    assert (ended["finishReason"], ended["cancelReason"]) == (None, "REQUESTED")


async def test_cancelling_twice_at_once_ends_it_once(gateway: RunningGateway):
    id = await start(gateway, "fake:hold-5")
    await gateway.fake.request()
    states: list[str] = []

    async def stop() -> None:
        states.append((await cancel(gateway, id))["state"])

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(stop)
    assert states == ["CANCELLED"] * 3
    assert len(ends(await watched(gateway, id))) == 1


async def test_cancelling_what_has_ended_changes_nothing(gateway: RunningGateway):
    id = await start(gateway, "fake:count-5")
    await watched(gateway, id)
    assert (await cancel(gateway, id))["state"] == "COMPLETED"


async def test_a_generation_that_is_cancelled_at_once_was_never_charged_for_more_than_was_sent(gateway: RunningGateway):
    for _ in range(5):
        ended = await cancel(gateway, await start(gateway, "fake:hold-3"))
        assert (ended["state"], ended["usage"]["completionTokens"]) == ("CANCELLED", 0)


async def test_the_ledger_is_what_the_model_sent(own_gateway: RunningGateway):
    async def one(number: int) -> None:
        kind = ("count", "together", "length")[number % 3]
        model = f"fake:{kind}-{(3, 5, 300)[number % 2] if kind != 'length' else 3}"
        if number % 2:
            await own_gateway.events(GENERATE, asking(model))
        else:
            await own_gateway.run(COMPLETE, asking(model))

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(one, number)
    sent = sum(request.sent for request in own_gateway.fake.requests)
    assert await total(own_gateway) == {"generations": 12, "promptTokens": 36, "completionTokens": sent}


async def test_the_text_so_far_can_be_read_while_it_runs(gateway: RunningGateway):
    id = await start(gateway, "fake:stall-3")
    async with gateway.connect() as socket:
        await socket.subscribe(WATCH, {"id": id})
        while (await next_event(socket)).get("text") is None:
            pass
    assert "0 1 2 ".startswith((await look(gateway, id))["text"])


async def test_waiting_viewers_hold_no_database_connection(gateway: RunningGateway):
    async with gateway.connect() as socket:
        for number in range(15):
            await socket.subscribe(GENERATE, asking("fake:hold-3"), id=str(number))
        for number in range(15):
            await gateway.fake.request(number)
            assert (await socket.receive())["type"] == "next"
        with anyio.fail_after(20):
            while gateway.database.checked_out:  # one is, for a moment, whenever the credentials are looked at again
                await pause()


async def test_thinking_comes_apart_from_the_answer(gateway: RunningGateway):
    events = await gateway.events(GENERATE, asking("fake:thinking", thinking="ON"))
    assert "".join(event.get("thinking", "") for event in events) == "Let me think."
    assert text_of(events) == "one two three"
    assert gateway.fake.requests[0].body["think"] is True


async def test_tools_reach_the_model_and_its_calls_come_back(gateway: RunningGateway):
    events = await gateway.events(GENERATE, asking("fake:tools", tools=[TOOL]))
    (call,) = [event["call"] for event in events if event["__typename"] == "ToolCallRequested"]
    assert (call["name"], call["arguments"]) == ("look", {"text": "one two three"})
    assert events[-1]["finishReason"] == "TOOL_CALLS"


@pytest.mark.parametrize(
    ("given", "sent"), [({"jsonObject": True}, "json"), ({"jsonSchema": {"type": "object"}}, {"type": "object"})]
)
async def test_the_form_of_the_answer_reaches_the_model(own_gateway: RunningGateway, given: Json, sent: object):
    await own_gateway.run(COMPLETE, asking("fake:count-3", format=given))
    assert own_gateway.fake.requests[0].body["format"] == sent


async def test_a_model_without_an_ability_is_not_even_asked(own_gateway: RunningGateway):
    own_gateway.fake.old_ollama = True  # its models complete and call tools, and no more
    told = '{ model(name: "fake:count-3") { capabilities } }'
    while not (await own_gateway.run(told))["model"]["capabilities"]:
        await pause()  # what the list leaves out is asked for behind it
    refusal = (await own_gateway.run(START, asking("fake:count-3", thinking="ON")))["startGeneration"]
    assert (refusal["__typename"], refusal["code"], refusal["capability"]) == ("Unsupported", "UNSUPPORTED", "THINKING")
    assert not own_gateway.fake.requests


async def test_a_model_that_nobody_has_is_told_as_such(gateway: RunningGateway):
    refusal = (await gateway.run(START, asking("fake:hole-3")))["startGeneration"]
    assert (refusal["__typename"], refusal["code"]) == ("ModelNotFound", "MODEL_NOT_FOUND")
    assert (refusal["modelName"], refusal["suggestions"][0]) == ("fake:hole-3", "fake:hold-3")


async def test_those_who_wait_are_told_their_places(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, ollama_parallel=1)
    async with running_gateway(settings, fake) as gateway, gateway.connect() as socket:
        first = await start(gateway, "fake:hold-3")
        await fake.request()
        for id in ("1", "2"):
            await socket.subscribe(GENERATE, asking("fake:count-3"), id)
            place = await next_event(socket, id)
            assert (place["__typename"], place["position"]) == ("GenerationQueued", int(id))
        await cancel(gateway, first)
        moved = await next_event(socket, "2")
        assert (moved["__typename"], moved["position"]) == ("GenerationQueued", 1)


async def test_one_that_waited_runs_when_its_turn_comes(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, ollama_parallel=1)
    async with running_gateway(settings, fake) as gateway:
        await start(gateway, "fake:hold-3")
        request = await fake.request()
        waiting = await start(gateway, "fake:count-3")
        assert (await look(gateway, waiting))["state"] == "QUEUED"
        request.release()
        assert text_of(await watched(gateway, waiting)) == "0 1 2 "
        assert (await look(gateway, waiting))["state"] == "COMPLETED"


async def test_one_that_is_cancelled_in_line_costs_nothing(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, ollama_parallel=1)
    async with running_gateway(settings, fake) as gateway:
        await start(gateway, "fake:hold-3")
        ended = await cancel(gateway, await start(gateway, "fake:count-3"))
    assert ended == {
        "state": "CANCELLED",
        "finishReason": None,
        "cancelReason": "REQUESTED",
        "usage": {"promptTokens": 0, "completionTokens": 0, "source": "COUNTED"},
    }


async def test_a_full_line_refuses(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, ollama_parallel=1, max_queued=0)
    async with running_gateway(settings, fake) as gateway:
        await start(gateway, "fake:hold-3")
        refusal = (await gateway.run(START, asking("fake:count-3")))["startGeneration"]
    assert (refusal["__typename"], refusal["code"]) == ("Overloaded", "OVERLOADED")


async def test_tags_and_the_end_user_are_shown_and_stand_in_the_ledger_and_not_on_the_wire(
    gateway_on_each_database: RunningGateway,
):
    gateway, tags = gateway_on_each_database, [{"name": "team", "value": "ä"}, {"name": "a", "value": ""}]
    variables = asking("fake:count-3", tags=tags, endUser="eve")
    shown = "generation { id tags { name value } endUser }"
    query = f"mutation($input: GenerateInput!) {{ generate(input: $input) {{ ... on GenerateSuccess {{ {shown} }} }} }}"
    generation = (await gateway.run(query, variables))["generate"]["generation"]
    assert (generation["tags"], generation["endUser"]) == (tags, "eve")
    assert "eve" not in str(gateway.fake.requests[0].body)
    async with gateway.database.reading() as session:
        [record] = (await session.scalars(select(UsageRecord))).all()
    assert (record.tags, record.end_user) == ({"team": "ä", "a": ""}, "eve")


async def test_a_generation_without_tags_shows_none(gateway: RunningGateway):
    id = await start(gateway, "fake:count-3")
    query = "query($id: ID!) { generation(id: $id) { tags { name } endUser } }"
    assert (await gateway.run(query, {"id": id}))["generation"] == {"tags": [], "endUser": None}
