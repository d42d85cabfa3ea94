"""The embedded model through a whole gateway: real tokens, real counts, and a real kill."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from backends.embedded import PACKAGED_MODEL_NAME
from tests.support.databases import SqliteDatabases
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import COMPLETE, GENERATE, WATCH, asking, cancel, ends, none_runs, start, text_of, until
from tests.support.polling import pause

LONG: Json = {"options": {"maxTokens": 3000}, "format": {"grammar": "root ::= [a-z ] root"}}
"""At some 150 tokens a second, more than any test waits for. The model may not choose to end before."""
SHORT = {"maxTokens": 8, "temperature": 0.0, "seed": 1}


@pytest.fixture(scope="module")
async def gateway(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory, anyio_backend: object
) -> AsyncIterator[RunningGateway]:
    """One gateway for all: the model takes a moment to load. It has no other backend."""
    folder = tmp_path_factory.mktemp("embedded")
    with sqlite_databases.fresh(folder) as url:
        settings = gateway_settings(folder, url, None, embedded=True)
        async with running_gateway(settings, FakeModelServer()) as gateway:
            yield gateway


def model_process() -> int:
    """The process id of the model: the one child of this process that runs it."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if parent == os.getpid() and b"embedded_server" in command:
            found.append(int(stat.parent.name))
    (pid,) = found
    return pid


async def test_the_model_counts_the_tokens_that_come(gateway: RunningGateway):
    events = await gateway.events(GENERATE, asking(PACKAGED_MODEL_NAME, options=SHORT))
    deltas = [event for event in events if event["__typename"] == "TextDelta"]
    (end,) = ends(events)
    assert (end["finishReason"], end["usage"]["source"]) == ("LENGTH", "BACKEND")
    assert end["usage"]["completionTokens"] == sum(delta["tokens"] for delta in deltas) == 8


async def test_watching_again_gives_the_same_text(gateway: RunningGateway):
    events = await gateway.events(GENERATE, asking(PACKAGED_MODEL_NAME, options=SHORT))
    again = await gateway.events(WATCH, {"id": events[0]["generationId"]})
    assert text_of(again) == text_of(events) != ""


async def test_an_answer_that_is_cancelled_is_counted_by_the_model_too(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking(PACKAGED_MODEL_NAME, **LONG))
        events = await until(socket, "TextDelta")
        ended = await cancel(gateway, events[0]["generationId"])
        events += await until(socket, "GenerationCancelled")
    said = sum(event.get("tokens", 0) for event in events)
    assert (ended["state"], events[-1]["cancelReason"]) == ("CANCELLED", "REQUESTED")
    assert ended["usage"]["source"] == "BACKEND"
    assert ended["usage"]["completionTokens"] == said


async def test_a_viewer_who_leaves_stops_the_model(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking(PACKAGED_MODEL_NAME, **LONG))
        events = await until(socket, "TextDelta")
        socket.connection.transport.abort()
    await none_runs(gateway)
    rest = await gateway.events(WATCH, {"id": events[0]["generationId"]})
    assert (rest[-1]["cancelReason"], rest[-1]["usage"]["source"]) == ("VIEWERS_LEFT", "BACKEND")
    assert rest[-1]["usage"]["completionTokens"] < LONG["options"]["maxTokens"]


async def test_several_answers_come_at_once(gateway: RunningGateway):
    ids = [await start(gateway, PACKAGED_MODEL_NAME, options=SHORT) for _ in range(4)]
    texts: list[str] = []

    async def watch(id: str) -> None:
        texts.append(text_of(await gateway.events(WATCH, {"id": id})))

    async with anyio.create_task_group() as tasks:
        for id in ids:
            tasks.start_soon(watch, id)
    assert len(texts) == 4
    assert all(texts)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finding the model's process takes /proc")
async def test_a_model_that_is_killed_mid_stream_fails_its_answer_and_comes_back(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking(PACKAGED_MODEL_NAME, **LONG))
        events = await until(socket, "TextDelta")
        os.kill(model_process(), signal.SIGKILL)
        events += await until(socket, "GenerationFailed")
    (end,) = ends(events)
    assert (end["error"]["code"], end["error"]["retryable"]) == ("BACKEND_UNAVAILABLE", True)
    assert end["usage"]["completionTokens"] == sum(event.get("tokens", 0) for event in events) > 0
    with anyio.fail_after(20):
        answer = {"retryable": True}
        while answer.get("retryable"):  # until the gateway has seen the death, it says so
            await pause()
            answer = (await gateway.run(COMPLETE, asking(PACKAGED_MODEL_NAME, options=SHORT)))["generate"]
    assert answer["text"]
