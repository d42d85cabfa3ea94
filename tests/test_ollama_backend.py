"""What is Ollama's own: the body of `/api/chat`, its way of ending, and its list of models."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from backends.errors import BackendFailed, BackendOverloaded
from backends.ollama.backend import OllamaBackend, chat_body
from backends.ollama.stream import OllamaDecoder
from backends.protocol import (
    Capability,
    ChatRequest,
    Chunk,
    FinishChunk,
    FinishReason,
    Json,
    Message,
    Options,
    OutputFormat,
    TextChunk,
    ThinkingLevel,
    Usage,
)
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.wire_requests import CONVERSATION, EVERYTHING, OPTIONS, PHOTO, PIXEL, SCHEMA, WEATHER

HELLO = ChatRequest("fake:echo", [Message("user", "hello")])


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    async with running_fake_model_server() as fake:
        yield fake


@pytest.fixture
async def backend(fake: FakeModelServer) -> AsyncIterator[OllamaBackend]:
    async with aclosing(OllamaBackend("ollama", fake.url)) as backend:
        yield backend


def decode(*lines: bytes) -> list[Chunk]:
    decoder = OllamaDecoder()
    chunks: list[Chunk] = []
    for line in lines:
        decoder.feed(line, chunks)
    decoder.end(chunks)
    return chunks


async def test_what_is_built_is_what_reaches_the_wire(backend: OllamaBackend, fake: FakeModelServer):
    async with backend.generate(EVERYTHING) as batches:
        assert [batch async for batch in batches]
    assert fake.requests[0].body == chat_body(EVERYTHING)


def test_a_request_without_extras_leaves_every_default_to_the_server():
    assert chat_body(HELLO) == {
        "model": "fake:echo",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "truncate": False,
    }


def test_messages_are_written_in_ollamas_words():
    assert chat_body(ChatRequest("m", CONVERSATION))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?\nAnd this?", "images": [PIXEL, PHOTO]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hmm.",
            "tool_calls": [{"id": "call_7", "function": {"name": "weather", "arguments": {"city": "Köln"}}}],
        },
        {"role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "call_7"},
    ]


def test_a_developer_speaks_as_the_system():
    body = chat_body(ChatRequest("m", [Message("developer", "Be brief.")]))
    assert body["messages"] == [{"role": "system", "content": "Be brief."}]


def test_options_are_written_in_ollamas_words():
    assert chat_body(replace(HELLO, options=replace(OPTIONS, context_length=2048)))["options"] == {
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "num_predict": 64,
        "seed": 0,
        "num_ctx": 2048,
        "stop": ["END", "\n"],
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repeat_penalty": 1.1,
    }


@pytest.mark.parametrize(
    ("wanted", "wire"), [(OutputFormat(json_object=True), "json"), (OutputFormat(json_schema=SCHEMA), SCHEMA)]
)
def test_a_format_is_written_in_ollamas_words(wanted: OutputFormat, wire: Json):
    assert chat_body(replace(HELLO, format=wanted))["format"] == wire


def test_tools_are_written_as_functions():
    assert chat_body(replace(HELLO, tools=[WEATHER]))["tools"] == [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Tells the weather", "parameters": WEATHER.parameters},
        }
    ]


THINK = {"OFF": False, "ON": True, "MINIMAL": "low", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "MAX": "max"}


@pytest.mark.parametrize("level", ThinkingLevel)
def test_each_level_of_thinking_has_a_word_of_ollamas(level: ThinkingLevel):
    assert chat_body(replace(HELLO, thinking=level))["think"] == THINK[level.name]


async def test_a_server_without_a_level_is_asked_for_the_next_one(fake: FakeModelServer):
    fake.refuses = lambda body: 'invalid think value: "x"' if isinstance(body["think"], str) else None
    async with aclosing(OllamaBackend("ollama", fake.url)) as backend:
        async with backend.generate(replace(HELLO, thinking=ThinkingLevel.MAX)) as batches:
            assert [batch async for batch in batches]
    assert [request.body["think"] for request in fake.requests] == ["max", "high", True]


def test_an_option_of_zero_is_not_taken_for_none():
    assert chat_body(replace(HELLO, options=Options(temperature=0.0)))["options"] == {"temperature": 0.0}


@pytest.mark.parametrize("reason", ['"stop"', '"load"', '"unload"', '""', "null"])
def test_every_way_to_be_done_but_length_is_a_stop(reason: str):
    (finish,) = decode(b'{"done":true,"done_reason":%s}\n' % reason.encode())
    assert finish.reason is FinishReason.STOP


def test_a_last_line_without_its_line_end_counts():
    assert decode(b'{"done":true,"prompt_eval_count":3,"eval_count":0}')[0].usage == Usage(3, 0)


def test_the_time_to_load_the_model_is_told_in_milliseconds():
    assert decode(b'{"done":true,"load_duration":1999999}\n')[0].load_ms == 1


@pytest.mark.parametrize(
    ("told", "expected"), [(b"20999999", 20), (b"2e7", 20), (b"-1", None), (b'"2"', None), (b"true", None)]
)
def test_the_time_to_read_the_prompt_is_told_in_milliseconds(told: bytes, expected: int | None):
    assert decode(b'{"done":true,"prompt_eval_duration":%s}\n' % told)[0].prompt_ms == expected


def test_nothing_is_read_after_the_end():
    assert len(decode(b'{"done":true}\n{"message":{"content":"more"}}\n')) == 1


def test_an_error_without_words_is_a_failure_all_the_same():
    with pytest.raises(BackendFailed, match="failed while answering"):
        decode(b'{"error":""}\n')


@pytest.mark.parametrize(
    "line",
    [
        b'{"message":1}',
        b'{"message":{"content":1}}',
        b'{"message":{"thinking":{}}}',
        b'{"message":{"tool_calls":{}}}',
        b'{"error":null}',
        b'{"message":{"content":""},"error":""}',
        b"[]",
        b"7",
    ],
)
def test_a_line_of_another_shape_costs_what_is_odd_in_it(line: bytes):
    said, end = b'{"message":{"content":"a"}}\n', b'{"done":true,"load_duration":1.5e9,"eval_count":"1"}\n'
    assert decode(said, line + b"\n", said, end) == [
        TextChunk("a"),
        TextChunk("a"),
        FinishChunk(FinishReason.STOP, load_ms=1500),
    ]


def test_two_calls_without_an_id_get_different_ones():
    call = b'{"function":{"name":"f"}}'
    first, second, _ = decode(b'{"message":{"tool_calls":[%s,%s]}}\n' % (call, call), b'{"done":true}\n')
    assert first.call.id
    assert first.call.id != second.call.id


async def test_a_model_is_described_by_what_the_list_tells(backend: OllamaBackend):
    model = (await backend.models())[0]
    assert (model.family, model.parameter_size, model.quantization, model.size_bytes, model.context_length) == (
        "fake",
        "1.2B",
        "Q4_K_M",
        1234,
        8192,
    )


async def test_the_time_of_a_model_is_read_with_nanoseconds_and_zone(backend: OllamaBackend):
    model = (await backend.models())[0]
    assert model.modified_at is not None
    assert model.modified_at.astimezone(UTC) == datetime(2026, 8, 21, 17, 0, 0, 123456, UTC)


async def test_capabilities_that_the_gateway_does_not_know_are_left_out(backend: OllamaBackend):
    assert (await backend.models())[0].capabilities == {
        Capability.COMPLETION,
        Capability.TOOLS,
        Capability.VISION,
        Capability.THINKING,
    }


async def test_a_server_that_lists_everything_is_asked_nothing_more(backend: OllamaBackend, fake: FakeModelServer):
    await backend.models()
    assert list(fake.asked) == ["GET /api/tags"]


async def test_an_old_server_is_asked_about_each_model(backend: OllamaBackend, fake: FakeModelServer):
    fake.old_ollama = True
    model = await backend.describe((await backend.models())[0])
    assert (model.capabilities, model.context_length) == ({Capability.COMPLETION, Capability.TOOLS}, 4096)


@pytest.mark.parametrize(("told", "length"), [(131072, 131072), (0, None), ("x", None), (None, None)])
async def test_the_context_length_is_what_the_model_can_have(
    backend: OllamaBackend, fake: FakeModelServer, told: object, length: int | None
):
    fake.old_ollama = True
    shown = {
        "capabilities": ["completion"],
        "parameters": "num_ctx 2048\ntemperature 0.7",
        "model_info": {"general.architecture": "llama", "llama.context_length": told},
    }
    fake.replies["/api/show"] = (200, orjson.dumps(shown))
    assert (await backend.describe((await backend.models())[0])).context_length == length


async def test_an_old_server_is_asked_about_a_model_once(backend: OllamaBackend, fake: FakeModelServer):
    fake.old_ollama = True
    for _ in range(2):
        for model in await backend.models():
            await backend.describe(model)
    assert fake.asked.count("POST /api/show") == len(fake.models)


async def test_the_list_of_an_old_server_is_one_request(backend: OllamaBackend, fake: FakeModelServer):
    fake.old_ollama = True
    await backend.models()
    assert list(fake.asked) == ["GET /api/tags"]


async def test_what_was_found_out_about_a_model_is_in_the_next_list(backend: OllamaBackend, fake: FakeModelServer):
    fake.old_ollama = True
    described = await backend.describe((await backend.models())[0])
    assert (await backend.models())[0] == described


async def test_a_model_that_was_pulled_anew_is_asked_about_again(backend: OllamaBackend, fake: FakeModelServer):
    fake.old_ollama = True
    for name in ("a", "b"):
        fake.models = [name]
        await backend.describe((await backend.models())[0])
    assert fake.asked.count("POST /api/show") == 2


async def test_a_model_that_the_server_cannot_describe_stays_as_it_was_listed(
    backend: OllamaBackend, fake: FakeModelServer
):
    fake.old_ollama = True
    fake.replies["/api/show"] = (404, b'{"error": "no"}')
    model = (await backend.models())[0]
    assert await backend.describe(model) == model


async def test_a_failed_description_is_asked_for_again(backend: OllamaBackend, fake: FakeModelServer):
    fake.old_ollama = True
    fake.replies["/api/show"] = (503, b'{"error": "busy"}')
    model = (await backend.models())[0]
    with pytest.raises(BackendOverloaded):
        await backend.describe(model)
    fake.replies.clear()
    assert (await backend.describe(model)).context_length == 4096


async def test_an_address_may_have_a_path(fake: FakeModelServer):
    async with aclosing(OllamaBackend("ollama", f"{fake.url}/behind/a/proxy")) as backend:
        with pytest.raises(Exception, match="nothing here"):
            await backend.ping()
    assert list(fake.asked) == ["GET /behind/a/proxy/api/version"]
