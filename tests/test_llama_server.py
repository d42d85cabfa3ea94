"""A llama.cpp server behind the setting for OpenAI's API is recognised, and asked to count tokens as it goes."""

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from backends.errors import BackendError
from backends.openai import OpenAIBackend
from backends.openai import backend as openai
from backends.openai.llama_server import LlamaServer, llama_server
from backends.openai.request import chat_body
from backends.protocol import Backend, Capability, ChatRequest, Message, ModelInfo
from backends.timeouts import TimedBackend, Timeouts
from tests.support.fake_model_server import Ending, FakeModelServer, Raw, running_fake_model_server
from tests.support.gateways import gateway_settings, running_gateway
from tests.support.generations import GENERATE, asking, cancel
from tests.support.quirks import OPENAI, delta

HELLO = ChatRequest("fake:echo", [Message("user", "hello")])
MODEL = ModelInfo("fake:echo")
PROPS = {
    "default_generation_settings": {"n_ctx": 4096, "params": {}},
    "total_slots": 3,
    "model_path": "/models/m.gguf",
    "build_info": "b9999-abc",
    "chat_template": "{{ enable_thinking }}",
    "chat_template_caps": {"supports_tools": True},
    "modalities": {"vision": False, "audio": False},
}
PROPS_REPLY = (200, orjson.dumps(PROPS))
COUNTING = {"timings_per_token": True}


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    async with running_fake_model_server() as fake:
        yield fake


@pytest.fixture
async def backend(fake: FakeModelServer) -> AsyncIterator[OpenAIBackend]:
    async with aclosing(OpenAIBackend("openai", fake.url + "/v1")) as backend:
        yield backend


async def answer(backend: Backend) -> None:
    async with backend.generate(HELLO) as batches:
        assert [batch async for batch in batches]


async def is_asked_to_count(backend: Backend, fake: FakeModelServer) -> bool:
    await answer(backend)
    body = fake.requests[-1].body
    assert body in (chat_body(HELLO), chat_body(HELLO) | COUNTING)
    return COUNTING.items() <= body.items()


def test_what_llama_cpp_tells_is_read():
    abilities = frozenset({Capability.COMPLETION, Capability.TOOLS, Capability.THINKING})
    assert llama_server(PROPS) == LlamaServer(3, 4096, abilities)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"default_generation_settings": {}},
        {**PROPS, "default_generation_settings": None},
        {**PROPS, "default_generation_settings": [4096]},
        {"default_generation_settings": {"n_ctx": 1}, "total_slots": "3", "model_path": None, "build_info": 7},
        {"props": PROPS},
    ],
)
def test_what_others_tell_is_no_llama_cpp(properties: dict[str, Any]):
    assert llama_server(properties) is None


@pytest.mark.parametrize("slots", [None, 0, -1, "3", 2.5, 2**40])
def test_slots_that_make_no_sense_are_not_told(slots: object):
    server = llama_server({**PROPS, "total_slots": slots})
    assert server is not None
    assert server.total_slots is None


async def test_a_llama_cpp_server_is_asked_to_count_once_it_is_known(backend: OpenAIBackend, fake: FakeModelServer):
    fake.replies["/props"] = PROPS_REPLY
    timed = TimedBackend(backend, Timeouts())
    assert not await is_asked_to_count(timed, fake)
    assert timed.parallel == 64
    assert await timed.describe(MODEL) == MODEL
    assert await is_asked_to_count(timed, fake)
    assert timed.parallel == 3


async def test_it_is_inspected_once_however_many_models_it_has(backend: OpenAIBackend, fake: FakeModelServer):
    fake.replies["/props"] = PROPS_REPLY
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(backend.describe, MODEL)
    await backend.describe(MODEL)
    assert list(fake.asked) == ["GET /props"]


NOT_LLAMA = {
    "not found": (404, b"404 page not found"),
    "not allowed": (405, b""),
    "no rights": (401, b'{"error": "key"}'),
    "other JSON": (200, b'{"ok": true}'),
    "a list": (200, b"[1]"),
    "no JSON": (200, b"props"),
    "a page": (200, b"<!doctype html><title>props</title>"),
    "nothing": (200, b""),
}


@pytest.mark.parametrize("name", list(NOT_LLAMA))
async def test_another_server_is_asked_once_and_never_to_count(
    backend: OpenAIBackend, fake: FakeModelServer, name: str
):
    fake.replies["/props"] = NOT_LLAMA[name]
    for _ in range(2):
        await backend.describe(MODEL)
        assert not await is_asked_to_count(backend, fake)
    assert list(fake.asked) == ["GET /props"]


async def test_a_server_that_cannot_tell_now_is_asked_again_later(
    backend: OpenAIBackend, fake: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    fake.replies["/props"] = (500, b"")
    await backend.describe(MODEL)
    await backend.describe(MODEL)
    assert list(fake.asked) == ["GET /props"]
    monkeypatch.setattr(openai, "INSPECT_AGAIN_SECONDS", 0)
    async with aclosing(OpenAIBackend("openai", fake.url)) as other:
        await other.describe(MODEL)
        fake.replies["/props"] = PROPS_REPLY
        await other.describe(MODEL)
        assert other.parallel == 3


async def test_a_server_that_is_silent_holds_up_no_answer_and_is_no_llama_cpp(
    backend: OpenAIBackend, fake: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(openai, "INSPECT_SECONDS", 0.1)
    fake.silent.add("/props")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.describe, MODEL)
        await fake.was_asked("GET /props")
        assert not await is_asked_to_count(backend, fake)
    assert backend.parallel == 64
    assert not await is_asked_to_count(backend, fake)


async def test_why_it_could_not_be_inspected_is_logged(
    backend: OpenAIBackend, fake: FakeModelServer, caplog: pytest.LogCaptureFixture
):
    fake.replies["/props"] = (503, b'{"error":{"message":"Loading model"}}')
    with caplog.at_level("DEBUG", openai.__name__):
        await backend.describe(MODEL)
        await backend.describe(MODEL)
    assert [record.getMessage() for record in caplog.records] == [
        "backend openai does not tell whether it is llama.cpp: Loading model"
    ]


async def test_after_it_was_away_another_may_stand_there(backend: OpenAIBackend, fake: FakeModelServer):
    fake.replies["/props"] = PROPS_REPLY
    await backend.describe(MODEL)
    fake.replies = {"/v1/models": (502, b"")}
    with pytest.raises(BackendError):
        await backend.models()
    assert backend.parallel == 64
    fake.replies = {}
    await backend.describe(MODEL)
    assert not await is_asked_to_count(backend, fake)
    assert fake.asked.count("GET /props") == 2


async def test_one_that_breaks_off_an_answer_was_away(backend: OpenAIBackend, fake: FakeModelServer):
    fake.replies["/props"] = PROPS_REPLY
    await backend.describe(MODEL)
    fake.raw[OPENAI] = [Raw([delta(content="a")], Ending.CUT)]
    with suppress(BackendError):
        await answer(backend)
    assert backend.parallel == 64


REFUSALS = [
    {"error": {"message": "Unknown fields: timings_per_token, stream_options"}},
    {"error": {"message": "Unknown field timings_per_token", "param": "stream_options"}},
    {"message": "Unrecognized arguments: include_usage, timings_per_token"},
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_one_that_refuses_to_count_is_asked_without(
    backend: OpenAIBackend, fake: FakeModelServer, refusal: dict[str, Any]
):
    fake.replies["/props"] = PROPS_REPLY
    await backend.describe(MODEL)
    whole = Raw([delta("stop", content="a")])
    fake.raw[OPENAI] = [Raw([orjson.dumps(refusal)], status=400), whole]
    await answer(backend)
    asked = [set(request.body) & {"timings_per_token", "stream_options"} for request in fake.requests]
    assert asked == [{"timings_per_token", "stream_options"}, set()]


async def test_a_cancelled_answer_of_llama_cpp_has_its_exact_usage(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    fake.models = ["fake:stall-5"]
    fake.replies["/props"] = PROPS_REPLY
    settings = gateway_settings(tmp_path, sqlite_url, None, openai_url=fake.url, models_max_age=0.001)
    async with running_gateway(settings, fake) as gateway:
        ended: dict[str, Any] = {}
        while not fake.requests or COUNTING.items().isdisjoint(fake.requests[-1].body.items()):
            async with gateway.connect() as socket:
                await socket.subscribe(GENERATE, asking("fake:stall-5"))
                async for event in socket.events():
                    if event.get("offset", 0) + len(event.get("text", "")) == len("0 1 2 3 4 "):
                        ended = await cancel(gateway, event["generationId"])
                        break
    assert ended["usage"] == {"promptTokens": 3, "completionTokens": 5, "source": "BACKEND"}
