"""Nobody takes everything: what one user may have at work and waiting leaves room for the next."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.generations import START, UNFINISHED, asking
from tests.support.polling import pause


@pytest.fixture
async def narrow(tmp_path: Path, sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """A gateway with four slots, of which a user may have two, and with two waiting."""
    settings = gateway_settings(
        tmp_path, sqlite_url, fake.url, ollama_parallel=4, max_running_per_user=2, max_queued_per_user=2
    )
    async with running_gateway(settings, fake) as gateway:
        await gateway.make_user("other")
        yield gateway


async def start(gateway: RunningGateway) -> dict[str, Any]:
    asked = asking("fake:hold-3", onDisconnect="CONTINUE")
    return (await gateway.run(START, asked))["startGeneration"]


async def test_who_has_all_of_theirs_is_refused_and_the_next_person_is_served(narrow: RunningGateway):
    mine = [await start(narrow) for _ in range(5)]
    assert [each.get("generation", {}).get("state") for each in mine[:4]] == ["RUNNING"] * 2 + ["QUEUED"] * 2
    assert mine[4]["code"] == "OVERLOADED"
    await narrow.sign_in("other")
    assert (await start(narrow))["generation"]["state"] == "RUNNING"


async def test_all_keys_of_a_user_are_the_same_user(narrow: RunningGateway):
    keys = [(await narrow.make_key())["secret"] for _ in range(5)]
    codes: list[str | None] = []
    for narrow.token in keys:
        codes.append((await start(narrow)).get("code"))
    assert codes == [None] * 4 + ["OVERLOADED"]


async def test_what_ends_makes_room_for_what_waits(narrow: RunningGateway, fake: FakeModelServer):
    for _ in range(4):
        await start(narrow)
    for index in range(4):
        (await fake.request(index)).release()
    while (await narrow.run(UNFINISHED))["generations"]["nodes"]:
        await pause()
    assert (await start(narrow))["generation"]["state"] == "RUNNING"


async def test_llama_cpp_is_asked_for_as_many_answers_as_it_has_slots(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    fake.replies["/props"] = (
        200,
        orjson.dumps({"total_slots": 2, "default_generation_settings": {}, "model_path": "m"}),
    )
    settings = gateway_settings(tmp_path, sqlite_url, None, openai_url=fake.url, openai_parallel=None)
    async with running_gateway(settings, fake) as gateway:
        await gateway.run("{ models { name } }")
        await fake.was_asked("GET /props")
        while (await start(gateway))["generation"]["state"] == "RUNNING":
            await pause()
        assert len((await gateway.run(UNFINISHED))["generations"]["nodes"]) <= 4
        fake.release()


async def test_ollama_is_asked_for_one_answer_at_a_time(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, ollama_parallel=1)
    async with running_gateway(settings, fake) as gateway:
        assert [(await start(gateway))["generation"]["state"] for _ in range(3)] == ["RUNNING", "QUEUED", "QUEUED"]
