"""A generation that lost its model server goes on at one that can, in the same stream; or fails, exactly counted."""

from typing import Any
from uuid import UUID

import orjson
import pytest

from backends.protocol import (
    AudioPart,
    BlobPart,
    ChatRequest,
    FilePart,
    ImagePart,
    MediaKind,
    Message,
    Options,
    OutputFormat,
    TextPart,
    ThinkingLevel,
)
from gateway.generation.continuation import PartialAnswer, continuation, decode_request, encode_request
from gateway.streams.events import TextDelta, ThinkingDelta, ToolCall, ToolCallRequested
from tests.support.fake_model_server import Ending, Script
from tests.support.gateways import Json, RunningGateway
from tests.support.generations import asked, asking, text_of


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


EVENT = """__typename ... on GenerationEvent { sequence } ... on TextDelta { text offset }
  ... on GenerationResumed { lossReason backend }
  ... on GenerationCompleted { finishReason usage { promptTokens completionTokens source } }
  ... on GenerationFailed { error { code } usage { completionTokens } }"""
GENERATE = f"subscription($input: GenerateInput!) {{ generate(input: $input) {{ {EVENT} }} }}"

REQUEST = ChatRequest("m", [Message("user", "one two")])


async def watched(gateway: RunningGateway, model: str, **fields: Any) -> list[dict[str, Any]]:
    gateway.fake.models.append(model)
    return await gateway.events(GENERATE, asking(model, onBackendLoss="CONTINUE", **fields))


async def test_an_answer_goes_on_where_its_model_server_died(gateway: RunningGateway):
    events = await watched(gateway, "fake:loses-3-4")
    assert text_of(events) == "0 1 2 3 4 5 6 "
    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(set(sequences))
    assert [event["offset"] for event in events if "offset" in event] == sorted(
        {event["offset"] for event in events if "offset" in event}
    )
    (seam,) = [event for event in events if event["__typename"] == "GenerationResumed"]
    assert (seam["lossReason"], seam["backend"]) == ("BACKEND_LOST", "ollama")
    # 3 words and then 3 words and the 3 that were said; the first part's prompt was never told and is a guess
    assert events[-1]["usage"] == {"promptTokens": 4 + 6, "completionTokens": 7, "source": "ESTIMATED"}
    first, second = await attempts(gateway)
    assert (first["error"]["code"], second["error"]) == ("BACKEND_UNAVAILABLE", None)
    assert [attempt["usage"]["completionTokens"] for attempt in (first, second)] == [3, 4]


async def test_the_model_is_given_what_was_said_and_the_tokens_that_are_left(gateway: RunningGateway):
    events = await watched(gateway, "fake:loses-3-4", options={"maxTokens": 5})
    assert (text_of(events), events[-1]["finishReason"]) == ("0 1 2 3 4 ", "LENGTH")
    second = await gateway.fake.request(1)
    assert second.body["messages"][-1] == {"role": "assistant", "content": "0 1 2 "}
    assert second.body["options"]["num_predict"] == 2


async def test_when_all_tokens_had_come_only_the_word_of_the_end_was_lost(gateway: RunningGateway):
    events = await watched(gateway, "fake:loses-3-4", options={"maxTokens": 3})
    assert (text_of(events), events[-1]["finishReason"]) == ("0 1 2 ", "LENGTH")
    assert len(gateway.fake.requests) == 1


async def test_a_template_that_closes_the_turn_is_not_asked_to_begin_anew(gateway: RunningGateway):
    gateway.fake.closes_turns = True
    events = await watched(gateway, "fake:loses-3-4")
    assert text_of(events) == "0 1 2 3 4 5 6 "
    second = await gateway.fake.request(1)
    assert second.path == "/api/generate"
    assert second.body == {
        "model": "fake:loses-3-4",
        "prompt": "<|user|>one two three<|end|><|assistant|>0 1 2 ",
        "raw": True,
        "stream": True,
        "truncate": False,
    }


async def test_where_nobody_can_tell_how_it_goes_on_the_loss_stands(gateway: RunningGateway):
    gateway.fake.renders = False
    events = await watched(gateway, "fake:loses-3-4")
    assert (events[-1]["error"]["code"], text_of(events)) == ("BACKEND_UNAVAILABLE", "0 1 2 ")


async def test_an_answer_that_thought_cannot_go_on_where_the_turn_is_closed(gateway: RunningGateway):
    gateway.fake.closes_turns = True
    gateway.fake.scripts["thinker"] = Script(["a ", "b "], thinking=["hm "], ending=Ending.CUT)
    events = await watched(gateway, "thinker")
    assert events[-1]["error"]["code"] == "BACKEND_UNAVAILABLE"
    assert [request.path for request in gateway.fake.requests] == ["/api/chat"]


async def test_a_conversation_that_ends_with_the_assistants_turn_goes_on_in_it(gateway: RunningGateway):
    gateway.fake.closes_turns = True
    messages = [{"role": "USER", "text": "count"}, {"role": "ASSISTANT", "text": "0 1 2 "}]
    asked = {"input": {"model": "fake:count-5", "prompt": {"messages": messages}}}
    assert text_of(await gateway.events(GENERATE, asked)) == "3 4 "


async def test_without_being_asked_to_it_fails(gateway: RunningGateway):
    gateway.fake.models.append("fake:loses-3-4")
    events = await gateway.events(GENERATE, asking("fake:loses-3-4"))
    assert (events[-1]["error"]["code"], events[-1]["usage"]["completionTokens"]) == ("BACKEND_UNAVAILABLE", 3)


async def test_a_model_that_kills_every_server_is_given_up(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.generation.continuation.LONGEST_PAUSE_SECONDS", 0.01)
    events = await watched(gateway, "fake:cut-0")
    assert events[-1]["error"]["code"] == "BACKEND_UNAVAILABLE"
    assert len(gateway.fake.requests) == 11


async def test_what_a_server_refuses_is_not_asked_again(gateway: RunningGateway):
    events = await watched(gateway, "fake:status-400")
    assert events[-1]["error"]["code"] == "BACKEND_REJECTED"
    assert len(gateway.fake.requests) == 1


def said(*events: Any) -> PartialAnswer:
    result = PartialAnswer()
    result.add(events)
    return result


def test_what_has_said_nothing_is_asked_as_before():
    assert continuation(REQUEST, said()) is REQUEST


@pytest.mark.parametrize(
    ("request_", "events"),
    [
        (REQUEST, [TextDelta(1, "a", 0, 1), ToolCallRequested(2, ToolCall("1", "f", {}))]),
        (REQUEST, [ThinkingDelta(1, "hm", 0, 1)]),
        (ChatRequest("m", REQUEST.messages, format=OutputFormat(json_object=True)), [TextDelta(1, "{", 0, 1)]),
        (ChatRequest("m", REQUEST.messages, Options(max_tokens=1)), [TextDelta(1, "a", 0, 1)]),
    ],
    ids=["tool call", "thought", "format", "no tokens left"],
)
def test_there_are_places_where_no_model_can_go_on(request_: ChatRequest, events: list[Any]):
    assert continuation(request_, said(*events)) is None


def test_an_answer_that_the_caller_had_begun_stays_one_turn():
    begun = ChatRequest("m", [*REQUEST.messages, Message("assistant", "a ")], continues=True)
    rest = continuation(begun, said(TextDelta(1, "b", 0, 1)))
    assert rest is not None
    assert rest.messages == [*REQUEST.messages, Message("assistant", "a b")]


def test_a_thought_that_is_over_goes_along():
    rest = continuation(REQUEST, said(ThinkingDelta(1, "hm", 0, 1), TextDelta(2, "a", 0, 1)))
    assert rest is not None
    assert rest.continues
    assert rest.messages[-1] == Message("assistant", "a", thinking="hm")


OTHER_PARTS = (
    AudioPart("aGk=", "audio/wav"),
    FilePart("aGk=", "text/plain"),
    BlobPart(UUID(int=7), MediaKind.FILE),
)


def test_a_request_can_be_read_by_another_gateway():
    call = ToolCall("1", "f", {"a": [1]})
    parts = [TextPart("\u00e4\0"), ImagePart("aGk="), *OTHER_PARTS]
    messages = [Message("user", parts), Message("assistant", tool_calls=[call])]
    request = ChatRequest(
        "m",
        messages,
        Options(temperature=0.5, stop=("x",)),
        OutputFormat(json_schema={"type": "object"}),
        thinking=ThinkingLevel.HIGH,
    )
    again = decode_request(encode_request(request))
    assert encode_request(again) == encode_request(request)
    assert again.messages[1].tool_calls[0] == call
    assert tuple(again.messages[0].content)[2:] == OTHER_PARTS


ATTEMPTS = """
{ generations { nodes { attempts {
  backend startedAt finishedAt usage { completionTokens } error { code retryable }
} } } }
"""


async def attempts(gateway: RunningGateway) -> list[Json]:
    [node] = (await gateway.run(ATTEMPTS))["generations"]["nodes"]
    return node["attempts"]


async def test_each_backend_that_was_asked_is_recorded(own_gateway: RunningGateway):
    await own_gateway.events(GENERATE, asking("fake:count-3"))
    [attempt] = await attempts(own_gateway)
    assert (attempt["backend"], attempt["error"]) == ("ollama", None)
    assert attempt["usage"] == {"completionTokens": 3}
    assert attempt["startedAt"] <= attempt["finishedAt"]


async def test_an_attempt_under_way_is_shown(own_gateway: RunningGateway):
    async with own_gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:hold-3"))
        await asked(own_gateway)
        [attempt] = await attempts(own_gateway)
        assert (attempt["backend"], attempt["finishedAt"], attempt["usage"]) == ("ollama", None, None)


async def test_an_attempt_that_failed_says_why(own_gateway: RunningGateway):
    await own_gateway.events(GENERATE, asking("fake:cut-3"))
    [attempt] = await attempts(own_gateway)
    assert attempt["error"] == {"code": "BACKEND_UNAVAILABLE", "retryable": True}
    assert attempt["usage"] == {"completionTokens": 3}


def test_a_request_that_a_gateway_of_before_1_0_wrote_can_be_read():
    written = orjson.dumps(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "What?", "images": ["aGk="], "tool_calls": [], "thinking": None},
                {"role": "user", "content": "", "images": ["aGk="]},
                {"role": "assistant", "content": "It is", "images": []},
            ],
            "options": {"temperature": 0.5, "stop": ["x"]},
            "format": {"type": "object"},
            "tools": [],
            "think": True,
            "continues": True,
        }
    )
    assert decode_request(written) == ChatRequest(
        "m",
        [
            Message("user", [TextPart("What?"), ImagePart("aGk=")], tool_calls=[]),
            Message("user", [ImagePart("aGk=")]),
            Message("assistant", "It is"),
        ],
        Options(temperature=0.5, stop=["x"]),
        OutputFormat(json_schema={"type": "object"}),
        tools=[],
        thinking=ThinkingLevel.ON,
        continues=True,
    )
