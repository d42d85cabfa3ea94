"""What is OpenAI's own: the body of a chat request, its stream, and what the servers that speak it add."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import orjson
import pytest

from backends.errors import BackendFailed, BackendProtocolError, BackendRejected, BackendUnsupported
from backends.openai import OpenAIBackend
from backends.openai.request import ServerKind, chat_body
from backends.openai.stream import OpenAIDecoder
from backends.protocol import (
    ChatRequest,
    Chunk,
    FinishChunk,
    FinishReason,
    Json,
    Message,
    Options,
    OutputFormat,
    TextChunk,
    TextPart,
    ThinkingChunk,
    ToolCall,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.wire_requests import CONVERSATION, EVERYTHING, OPTIONS, PHOTO, PIXEL, SCHEMA, WEATHER

HELLO = ChatRequest("fake:echo", [Message("user", "hello")])
DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    async with running_fake_model_server() as fake:
        yield fake


def event(**fields: Json) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def delta(reason: str | None = None, timings: Json = None, **fields: Json) -> bytes:
    more = {"timings": timings} if timings else {}
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": reason}], **more)


def decode(*reads: bytes) -> list[Chunk]:
    decoder = OpenAIDecoder()
    chunks: list[Chunk] = []
    for data in reads:
        decoder.feed(data, chunks)
    if not decoder.finished:
        decoder.end(chunks)
    return chunks


async def test_what_is_built_is_what_reaches_the_wire(fake: FakeModelServer):
    async with aclosing(OpenAIBackend("openai", fake.url)) as backend, backend.generate(EVERYTHING) as batches:
        assert [batch async for batch in batches]
    assert fake.requests[0].body == chat_body(EVERYTHING)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_an_address_may_end_with_the_version_or_not(fake: FakeModelServer, ending: str):
    async with aclosing(OpenAIBackend("openai", fake.url + ending)) as backend:
        await backend.ping()
    assert list(fake.asked) == ["GET /v1/models"]


async def test_the_key_is_sent_as_a_bearer_token(fake: FakeModelServer):
    fake.api_key = "sk-right"
    async with aclosing(OpenAIBackend("openai", fake.url, "sk-right")) as backend:
        await backend.ping()
    assert fake.asked


@pytest.mark.parametrize("key", ["sk-wrong", None])
async def test_a_wrong_key_is_refused_without_being_repeated(fake: FakeModelServer, key: str | None):
    fake.api_key = "sk-right"
    async with aclosing(OpenAIBackend("openai", fake.url, key)) as backend:
        with pytest.raises(BackendRejected) as refusal:
            await backend.ping()
    assert str(refusal.value) == (
        "The model server refused the gateway's own credentials (401). Check the API key of this backend."
    )


def test_a_request_without_extras_leaves_every_default_to_the_server():
    assert chat_body(HELLO) == {
        "model": "fake:echo",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_messages_are_written_in_openais_words():
    assert chat_body(ChatRequest("m", CONVERSATION))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{PHOTO}"}},
                {"type": "text", "text": "And this?"},
            ],
        },
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_7", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}}
            ],
        },
        {"role": "tool", "content": "sunny", "tool_call_id": "call_7"},
    ]


def test_parts_of_text_alone_are_one_text_which_every_server_takes():
    body = chat_body(ChatRequest("m", [Message("user", [TextPart("One."), TextPart("Two.")])]))
    assert body["messages"][0]["content"] == "One.\nTwo."


@pytest.mark.parametrize(("server", "role"), [(ServerKind.UNKNOWN, "developer"), (ServerKind.LLAMA_CPP, "system")])
def test_a_developer_is_told_to_the_servers_that_know_one(server: ServerKind, role: str):
    body = chat_body(ChatRequest("m", [Message("developer", "Be brief.")]), server)
    assert body["messages"] == [{"role": role, "content": "Be brief."}]


def test_options_are_written_for_every_kind_of_server():
    plain = chat_body(HELLO)
    assert {name: value for name, value in chat_body(replace(HELLO, options=OPTIONS)).items() if name not in plain} == {
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "max_tokens": 64,
        "seed": 0,
        "stop": ["END", "\n"],
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repeat_penalty": 1.1,
        "repetition_penalty": 1.1,
    }


def test_a_context_length_cannot_be_asked_for():
    with pytest.raises(BackendUnsupported, match="leave the context length out"):
        chat_body(replace(HELLO, options=Options(context_length=2048)))


def test_json_is_asked_for_as_an_object():
    assert chat_body(replace(HELLO, format=OutputFormat(json_object=True)))["response_format"] == {
        "type": "json_object"
    }


def test_a_schema_is_asked_for_by_name():
    assert chat_body(replace(HELLO, format=OutputFormat(json_schema=SCHEMA)))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA},
    }


def test_tools_are_written_as_functions():
    assert chat_body(replace(HELLO, tools=[WEATHER]))["tools"] == [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Tells the weather", "parameters": WEATHER.parameters},
        }
    ]


def test_the_done_mark_ends_the_answer():
    assert len(decode(delta("stop") + DONE + delta(content="more"))) == 1


def test_a_server_without_the_done_mark_ends_with_the_stream():
    usage = event(choices=[], usage={"prompt_tokens": 2, "completion_tokens": 1})
    assert decode(delta("stop") + usage)[-1].usage == Usage(2, 1)


def test_usage_that_comes_later_follows_the_end():
    usage = event(choices=[], usage={"prompt_tokens": 2, "completion_tokens": 1})
    assert decode(delta("stop"), usage + DONE) == [FinishChunk(FinishReason.STOP), UsageChunk(Usage(2, 1))]


def test_the_done_mark_without_a_finish_reason_is_a_stop_where_something_was_said():
    assert decode(delta(content="a") + DONE)[-1] == FinishChunk(FinishReason.STOP)


def test_the_done_mark_alone_is_a_protocol_error():
    with pytest.raises(BackendProtocolError, match="reason to finish"):
        decode(delta(role="assistant") + DONE)


@pytest.mark.parametrize("reason", ["stop", "eos", "end_turn"])
def test_a_reason_of_the_servers_own_is_a_stop(reason: str):
    assert decode(delta(reason))[-1].reason is FinishReason.STOP


@pytest.mark.parametrize("reason", ["length", "tool_calls", "content_filter"])
def test_openais_reasons_are_taken_over(reason: str):
    assert decode(delta(reason))[-1].reason == reason


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_both_names_for_reasoning_are_understood(name: str):
    assert decode(delta(**{name: "hm"}) + delta("stop"))[0] == ThinkingChunk("hm")


def test_cached_tokens_are_told():
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    assert decode(delta("stop"), event(choices=[], usage=usage) + DONE)[-1].usage == Usage(9, 1, 8)


@pytest.mark.parametrize(
    ("details", "thinking"),
    [
        ({"reasoning_tokens": 4}, 4),
        ({"reasoning_tokens": 0}, 0),
        ({"reasoning_tokens": 4.0}, 4),
        *(({"reasoning_tokens": odd}, None) for odd in (-1, 4.5, True, "4", None, 2**31)),
        ({}, None),
        (None, None),
        (7, None),
    ],
)
def test_tokens_spent_on_thinking_are_told_where_the_server_counts_them(details: Json, thinking: int | None):
    usage = {"prompt_tokens": 9, "completion_tokens": 6, "completion_tokens_details": details}
    assert decode(delta("stop"), event(choices=[], usage=usage) + DONE)[-1].usage == Usage(9, 6, None, thinking)


def test_timings_behind_the_usage_do_not_take_the_thinking_back():
    usage = {"prompt_tokens": 9, "completion_tokens": 6, "completion_tokens_details": {"reasoning_tokens": 4}}
    read = event(choices=[], usage=usage) + event(choices=[], timings=timings(8, 1, 6)) + DONE
    assert decode(delta("stop"), read)[-1].usage == Usage(9, 6, 8, 4)


@pytest.mark.parametrize("error", [{"message": "out of memory"}, "out of memory"])
def test_an_error_in_the_stream_is_a_failure(error: Json):
    with pytest.raises(BackendFailed, match="out of memory"):
        decode(event(error=error))


def test_comments_that_keep_the_connection_alive_are_nothing():
    assert len(decode(b": ping\n\n", delta("stop") + DONE)) == 1


def call(index: int | None, id: str | None = None, name: str | None = None, arguments: str | None = None) -> bytes:
    piece: Json = {"function": {"name": name, "arguments": arguments}}
    return delta(tool_calls=[piece | ({} if index is None else {"index": index}) | ({"id": id} if id else {})])


def calls_of(*reads: bytes) -> list[ToolCall]:
    return [chunk.call for chunk in decode(*reads, delta("tool_calls") + DONE) if isinstance(chunk, ToolCallChunk)]


def test_interleaved_pieces_of_two_calls_are_put_together_by_index():
    assert calls_of(
        call(0, "a", "f", '{"x":'), call(1, "b", "g", '{"y"'), call(0, arguments="1}"), call(1, arguments=":2}")
    ) == [ToolCall("a", "f", {"x": 1}), ToolCall("b", "g", {"y": 2})]


def test_calls_without_an_index_are_told_apart_by_their_ids():
    assert calls_of(call(None, "a", "f", "{}"), call(None, "b", "g", '{"y"'), call(None, arguments=":2}")) == [
        ToolCall("a", "f", {}),
        ToolCall("b", "g", {"y": 2}),
    ]


@pytest.mark.parametrize("arguments", ["", None, " ", "{}"])
def test_a_call_without_arguments_has_an_empty_object(arguments: str | None):
    assert calls_of(call(0, "a", "f", arguments)) == [ToolCall("a", "f", {})]


@pytest.mark.parametrize(
    "arguments", ["{", "[]", "1", '{"a":1}}', '"text"', "[" * 2000, '{"a":' * 300 + "1" + "}" * 300]
)
def test_arguments_that_are_no_object_are_handed_on_as_text(arguments: str):
    [found] = calls_of(call(0, "a", "f", arguments))
    assert (found.arguments, found.arguments_text) == (None, arguments)


def test_arguments_are_bounded():
    with pytest.raises(BackendProtocolError, match="arguments of a tool call"):
        calls_of(*(call(0, "a", "f", "x" * 600_000) for _ in range(2)))


@pytest.mark.parametrize(
    "data",
    [
        event(choices=1),
        event(choices=[1]),
        delta(content=1),
        event(choices=[], usage={"prompt_tokens": "1"}),
        event(choices=[], usage=[]),
        b"data: []\n\n",
        b"data: 1\n\n",
        b"data:\n\n",
    ],
)
def test_an_event_of_another_shape_costs_what_is_odd_in_it(data: bytes):
    assert decode(delta(content="a") + data + delta(content="b") + data + delta("stop") + data + DONE) == [
        TextChunk("a"),
        TextChunk("b"),
        FinishChunk(FinishReason.STOP),
    ]


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: nonsense\n\n"])
def test_an_event_that_is_no_json_is_a_protocol_error(data: bytes):
    with pytest.raises(BackendProtocolError):
        decode(data)


def timings(cached: int, prompt: int, predicted: int) -> Json:
    return {"cache_n": cached, "prompt_n": prompt, "predicted_n": predicted}


def test_llama_cpps_timings_tell_the_usage_so_far():
    assert decode(delta(content="a", timings=timings(5, 2, 1)), delta("stop"))[:2] == [
        TextChunk("a"),
        UsageChunk(Usage(prompt_tokens=7, completion_tokens=1, cached_tokens=5)),
    ]


@pytest.mark.parametrize(
    ("told", "expected"), [(20.9, 20), (0, 0), (-1, None), ("20", None), (None, None), (True, None), (1e300, None)]
)
def test_llama_cpp_tells_how_long_it_read_the_prompt(told: Json, expected: int | None):
    first = delta(content="a", timings=timings(5, 2, 1) | {"prompt_ms": told})
    _, usage, finish = decode(first, delta("stop") + DONE)
    assert (usage.prompt_ms, finish.prompt_ms) == (expected, expected)


def test_several_timings_of_one_read_are_told_once():
    read = b"".join(delta(content="a", timings=timings(0, 2, number)) for number in (1, 2, 3))
    assert [chunk for chunk in decode(read, delta("stop")) if isinstance(chunk, UsageChunk)] == [
        UsageChunk(Usage(2, 3, 0))
    ]


def test_a_piece_that_stands_for_several_tokens_says_so():
    reads = [delta(content=text, timings=timings(0, 2, count)) for text, count in (("a", 1), ("🌍", 4), ("b", 5))]
    assert [chunk.tokens for chunk in decode(*reads, delta("stop")) if isinstance(chunk, TextChunk)] == [1, 3, 1]


def test_usage_before_a_failure_in_the_same_read_is_told():
    decoder, chunks = OpenAIDecoder(), list[Chunk]()
    with pytest.raises(BackendFailed):
        decoder.feed(delta(content="a", timings=timings(0, 2, 1)) + event(error="no"), chunks)
    assert chunks == [TextChunk("a"), UsageChunk(Usage(2, 1, 0))]


async def listed(fake: FakeModelServer, entry: Json) -> Json:
    fake.replies["/v1/models"] = (200, orjson.dumps({"data": [entry]}))
    async with aclosing(OpenAIBackend("openai", fake.url)) as backend:
        return (await backend.models())[0]


async def test_no_capability_is_guessed(fake: FakeModelServer):
    assert (await listed(fake, {"id": "gpt"})).capabilities is None


async def test_what_llama_cpp_tells_of_its_model_is_taken_over(fake: FakeModelServer):
    meta = {"n_ctx": 4096, "n_ctx_train": 8192, "n_params": 134515008, "size": 96576768, "ftype": "Q4_1"}
    model = await listed(fake, {"id": "smollm2", "meta": meta})
    assert (model.context_length, model.parameter_size, model.size_bytes, model.quantization) == (
        4096,
        "134.52M",
        96576768,
        "Q4_1",
    )


async def test_billions_of_parameters_are_written_short(fake: FakeModelServer):
    assert (await listed(fake, {"id": "m", "meta": {"n_params": 3_212_749_888}})).parameter_size == "3.21B"


@pytest.mark.parametrize(
    "listing",
    [
        b'{"models": [{"id": "a"}, {"id": "b"}]}',
        b'\xef\xbb\xbf{"data": ["a", {"id": "b"}, 7, "", {"id": "a", "max_model_len": NaN}]}',
        b'["a", "b"]',
    ],
)
async def test_models_are_listed_in_every_form(fake: FakeModelServer, listing: bytes):
    fake.replies["/v1/models"] = (200, listing)
    async with aclosing(OpenAIBackend("openai", fake.url)) as backend:
        assert [model.name for model in await backend.models()] == ["a", "b"]
