"""Model servers as they really speak: what was asked for and came is the answer, and what is odd costs its field."""

from typing import Any

import orjson
import pytest

from tests.fake_model_server import FakeModelServer, Raw
from tests.fake_scripts import Ending
from tests.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.generations import asking, text_of

EVENT = """
  __typename sequence
  ... on TextDelta { text offset tokens }
  ... on ThinkingDelta { thinking: text }
  ... on ToolCallRequested { call { id name arguments argumentsText } }
  ... on GenerationCompleted { finishReason usage { promptTokens completionTokens source } }
  ... on GenerationFailed { code message retryable usage { promptTokens completionTokens source } }
"""
GENERATE = f"subscription($input: GenerateInput!) {{ generate(input: $input) {{ {EVENT} }} }}"

OLLAMA, OPENAI = "/api/chat", "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def gateway(sqlite_url: str, tmp_path: Any, fake: FakeModelServer):
    """A gateway before the fake server in both of its roles."""
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, openai_url=fake.url)
    async with running_gateway(settings, fake) as gateway:
        yield gateway


@pytest.fixture
async def lone(sqlite_url: str, tmp_path: Any, fake: FakeModelServer):
    """A gateway before one Ollama alone."""
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url), fake) as gateway:
        yield gateway


def sse(value: Json | list[Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    return sse({"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]})


def usage(**counts: Any) -> bytes:
    return sse({"choices": [], "usage": counts})


def line(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", **fields}) + b"\n"


def said(text: str) -> bytes:
    return line(message={"role": "assistant", "content": text}, done=False)


def end(**fields: Any) -> bytes:
    return line(message={"role": "assistant", "content": ""}, done=True, done_reason="stop", **fields)


async def ask(gateway: RunningGateway, path: str, *answers: Raw, **fields: Any) -> list[Json]:
    gateway.fake.raw[path] = list(answers)
    model = "fake:echo" if path == OLLAMA else "openai/fake:echo"
    return await gateway.events(GENERATE, asking(model, **fields))


def ended(events: list[Json]) -> tuple[str, str, str]:
    """Kind of the end, its reason or code, and the text."""
    last = events[-1]
    return last["__typename"], last.get("finishReason") or last.get("code"), text_of(events)


WHOLE = ("GenerationCompleted", "STOP", "ab")
AB = (delta(content="a"), delta(content="b"))
FINISHED = (*AB, delta("stop"))
TOLD = {"promptTokens": 7, "completionTokens": 2, "source": "BACKEND"}

ENDS = {
    "open and silent": Raw(FINISHED, Ending.HOLD),
    "open, with comments": Raw(FINISHED, Ending.HOLD, heartbeat=b": ping\n\n"),
    "open, with empty chunks": Raw(FINISHED, Ending.HOLD, heartbeat=delta()),
    "closed without the done mark": Raw(FINISHED),
    "reset": Raw(FINISHED, Ending.CUT),
    "a done mark with a space": Raw((*FINISHED, b"data: [DONE] \n\n"), Ending.HOLD),
    "a done mark without its empty line": Raw((*FINISHED, b"data: [DONE]")),
    "no empty line behind the last event": Raw((*AB, delta("stop").rstrip())),
    "an error behind the end": Raw((*FINISHED, sse({"error": {"message": "late"}}))),
    "broken JSON behind the end": Raw((*FINISHED, b"data: {\n\n", DONE)),
    "usage of no use": Raw((*FINISHED, usage(prompt_tokens="3", completion_tokens=-1), DONE)),
    "usage that is a list": Raw((*FINISHED, sse({"choices": [], "usage": []}), DONE)),
    "the done mark without a reason": Raw((*AB, DONE)),
    "the reason with the last text": Raw((delta(content="a"), delta("stop", content="b"), DONE)),
    "reasons that are words": Raw((delta("null", content="a"), delta("", content="b"), delta("stop"), DONE)),
    "text behind the reason": Raw((delta("stop", content="a"), delta(content="b"), DONE)),
    "one JSON document": Raw(
        [
            orjson.dumps(
                {"object": "chat.completion", "choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}
            )
        ],
        content_type="application/json",
    ),
    "one JSON document without a reason": Raw([b'{"choices": [\n{"message": {"content": "ab"}}\n]}'], Ending.FINISH),
}


@pytest.mark.parametrize("name", list(ENDS))
async def test_an_answer_is_whole_however_its_stream_ends(gateway: RunningGateway, name: str):
    assert ended(await ask(gateway, OPENAI, ENDS[name])) == WHOLE


@pytest.mark.parametrize("name", ["open and silent", "reset", "an error behind the end"])
async def test_a_whole_answer_is_not_asked_for_again(gateway: RunningGateway, name: str):
    events = await ask(gateway, OPENAI, ENDS[name], onBackendLoss="CONTINUE")
    assert ended(events) == WHOLE
    assert len(gateway.fake.requests) == 1


async def test_usage_that_comes_late_is_taken(gateway: RunningGateway):
    told = Raw((*FINISHED, usage(prompt_tokens=7.0, completion_tokens=2)), Ending.HOLD)
    assert (await ask(gateway, OPENAI, told))[-1]["usage"] == TOLD


@pytest.mark.parametrize("zeros", [{"prompt_tokens": 0, "completion_tokens": 0}, {"completion_tokens": 0}])
async def test_zeros_beside_text_are_not_told(gateway: RunningGateway, zeros: Json):
    events = await ask(gateway, OPENAI, Raw((*FINISHED, usage(**zeros), DONE)))
    assert events[-1]["usage"] == {"promptTokens": 4, "completionTokens": 2, "source": "ESTIMATED"}


OLLAMA_ENDS = {
    "odd durations": Raw((said("a"), said("b"), end(load_duration=1.5e9, total_duration="x", eval_duration=-1))),
    "odd counts": Raw((said("a"), said("b"), end(prompt_eval_count="3", eval_count=[]))),
    "no line end": Raw((said("a"), said("b"), end().rstrip())),
    "reset behind the end": Raw((said("a"), said("b"), end()), Ending.CUT),
    "open behind the end": Raw((said("a"), said("b"), end()), Ending.HOLD),
    "not quite JSON": Raw((said("a"), said("b"), b'{"done":true,"x":NaN,"y":-Infinity,"z":1e999}\n')),
    "an error that is null": Raw((said("a"), line(message={"content": "b"}, error=None), end())),
    "an error that is empty": Raw((said("a"), line(message={"content": "b"}, error=""), end())),
}


@pytest.mark.parametrize("name", list(OLLAMA_ENDS))
async def test_an_answer_of_ollama_is_whole_however_its_stream_ends(gateway: RunningGateway, name: str):
    assert ended(await ask(gateway, OLLAMA, OLLAMA_ENDS[name])) == WHOLE


async def test_an_answer_that_goes_round_in_a_loop_has_an_end_of_its_own(gateway: RunningGateway):
    events = await ask(gateway, OLLAMA, Raw([said("no "), *[said("so ")] * 31]), onBackendLoss="CONTINUE")
    assert ended(events) == ("GenerationCompleted", "REPETITION", "no " + "so " * 31)
    assert len(gateway.fake.requests) == 1


async def test_an_answer_that_ends_early_without_a_loop_is_cut_off(gateway: RunningGateway):
    events = await ask(gateway, OLLAMA, Raw([said(f"{number} ") for number in range(40)]))
    assert events[-1]["code"] == "BACKEND_PROTOCOL_ERROR"


PARTS = [
    ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", ""),
    ({"type": "text", "text": "ab"}, "ab", ""),
    ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "ab"}], "ab", "hm"),
    ([{"type": "image_url"}, {"type": "text", "text": "ab"}, 7, None], "ab", ""),
]


@pytest.mark.parametrize(("content", "text", "thinking"), PARTS)
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_content_may_come_in_parts(gateway: RunningGateway, path: str, content: Any, text: str, thinking: str):
    openai = (delta(content=content), delta("stop"), DONE)
    ollama = (line(message={"content": content}), end())
    events = await ask(gateway, path, Raw(openai if path == OPENAI else ollama))
    assert ended(events)[::2] == ("GenerationCompleted", text)
    assert "".join(event.get("thinking", "") for event in events) == thinking


async def test_a_refusal_is_text(gateway: RunningGateway):
    assert text_of(await ask(gateway, OPENAI, Raw((delta(refusal="I cannot"), delta("stop"), DONE)))) == "I cannot"


async def test_reasoning_may_come_in_parts(gateway: RunningGateway):
    events = await ask(gateway, OPENAI, Raw((delta(reasoning={"text": "hm"}), delta("stop", content="ab"), DONE)))
    assert [event.get("thinking") for event in events if "thinking" in event] == ["hm"]


HALVES = {
    "both halves of a pair": (b'"\\ud83d"', b'"\\ude00"', "\U0001f600"),
    "the bytes of a sequence": (b'"\xf0\x9f"', b'"\x98\x80"', "\U0001f600"),
    "one half alone": (b'"a\\ud83d"', b'"b"', "a\ufffdb"),
    "the other half alone": (b'"a"', b'"\\ude00b"', "a\ufffdb"),
    "an odd byte": (b'"a\xff"', b'"b"', "a\ufffdb"),
    "half a pair at the end": (b'"a"', b'"\\ud83d"', "a\ufffd"),
    "a control character": (b'"a\x01"', b'"b"', "a\x01b"),
}


@pytest.mark.parametrize("name", list(HALVES))
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_text_that_is_not_quite_unicode_is_made_whole(gateway: RunningGateway, path: str, name: str):
    first, second, text = HALVES[name]
    if path == OPENAI:
        pieces = [b'data: {"choices":[{"delta":{"content":%s}}]}\n\n' % piece for piece in (first, second)]
        answer = Raw([*pieces, delta("stop"), DONE])
    else:
        answer = Raw([*(b'{"message":{"content":%s}}\n' % piece for piece in (first, second)), end()])
    assert ended(await ask(gateway, path, answer))[::2] == ("GenerationCompleted", text)


EVENTS = [
    b"event: ping\ndata: ping\n\n",
    b"event: ping\ndata: {}\n\n",
    b"data:\n\n",
    b"data: \n\n",
    b": comment\n\n",
    b"event: metadata\ndata: [1]\n\n",
    b"id: 7\nretry: 100\n\n",
    b'event: usage\ndata: {"prompt_tokens": 3}\n\n',
]


@pytest.mark.parametrize("event", EVENTS)
async def test_events_that_are_no_part_of_the_answer_are_passed_over(gateway: RunningGateway, event: bytes):
    writes = (event, AB[0], event, AB[1], event, delta("stop"), event, DONE)
    assert ended(await ask(gateway, OPENAI, Raw(writes))) == WHOLE


def calls(events: list[Json]) -> list[tuple[str, Any]]:
    return [(event["call"]["name"], event["call"]["arguments"]) for event in events if "call" in event]


def piece(id: str | None = None, name: str | None = None, arguments: Any = None, index: int | None = 0) -> Json:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    given = {key: value for key, value in (("id", id), ("index", index)) if value is not None}
    return {**given, "type": "function", "function": function}


TWO = [("f", {"x": 1}), ("g", {"y": 2})]
TOOL_CALLS: dict[str, tuple[list[Json], Any]] = {
    "two ids under one index": ([piece("a", "f", '{"x":1}'), piece("b", "g", '{"y":2}')], TWO),
    "no index, and the id in each piece": (
        [
            piece("a", "f", '{"x"', index=None),
            piece("a", None, ":1}", index=None),
            piece("b", "g", '{"y":2}', index=None),
        ],
        TWO,
    ),
    "no index and no id": ([piece(None, "f", '{"x":1}', index=None), piece(None, "g", '{"y":2}', index=None)], TWO),
    "the name in each piece": (
        [piece(None, "f", '{"x"', index=None), piece(None, "f", ":1}", index=None), piece(None, "g", '{"y":2}')],
        TWO,
    ),
    "an object": ([piece("a", "f", {"x": 1}), piece("b", "g", {"y": 2}, index=1)], TWO),
    "JSON in a string of JSON": ([piece("a", "f", '"{\\"x\\":1}"'), piece("b", "g", '{"y":2}', index=1)], TWO),
    "null": ([piece("a", "f", "null")], [("f", {})]),
    "nothing": ([piece("a", "f")], [("f", {})]),
    "odd numbers": ([piece("a", "f", '{"x":NaN,"y":1e999,"z":123456789012345678901234567890}')], None),
    "half a character": ([piece("a", "f", '{"x":"\\ud83d"}')], [("f", {"x": "\ufffd"})]),
}


@pytest.mark.parametrize("name", list(TOOL_CALLS))
async def test_tool_calls_are_put_together(gateway: RunningGateway, name: str):
    pieces, expected = TOOL_CALLS[name]
    writes = [*(delta(tool_calls=[each]) for each in pieces), delta("tool_calls"), DONE]
    events = await ask(gateway, OPENAI, Raw(writes))
    assert events[-1].get("finishReason") == "TOOL_CALLS"
    assert expected is None or calls(events) == expected


async def test_a_call_that_was_cut_off_is_told_as_that(gateway: RunningGateway):
    writes = [delta(tool_calls=[piece("a", "f", '{"x": [1, ')]), delta("length"), DONE]
    events = await ask(gateway, OPENAI, Raw(writes))
    assert ended(events)[:2] == ("GenerationCompleted", "LENGTH")
    assert calls(events) == [("f", None)]
    assert events[-2]["call"]["argumentsText"] == '{"x": [1,'


async def test_a_call_that_cannot_be_read_although_finished_names_its_tool(gateway: RunningGateway):
    counts = usage(prompt_tokens=7, completion_tokens=2)
    writes = [delta(tool_calls=[piece("a", "f", "{x: 1}")]), delta("tool_calls"), counts, DONE]
    events = await ask(gateway, OPENAI, Raw(writes), onBackendLoss="CONTINUE")
    assert events[-1]["code"] == "MALFORMED_TOOL_CALL"
    assert "'f'" in events[-1]["message"]
    assert events[-1]["usage"] == TOLD
    assert len(gateway.fake.requests) == 1


@pytest.mark.parametrize("arguments", [{"x": 1}, '{"x": 1}', None, "null"])
async def test_ollamas_calls_are_read_in_every_form(gateway: RunningGateway, arguments: Any):
    call = {"function": {"name": "f", "arguments": arguments}}
    events = await ask(gateway, OLLAMA, Raw([line(message={"content": "", "tool_calls": [call]}), end()]))
    assert calls(events) == [("f", {"x": 1} if arguments not in (None, "null") else {})]


REASON = "the schema has a mistake"
REASONS: list[Any] = [
    {"error": REASON},
    {"error": {"message": REASON}},
    {"error": {"message": {"detail": REASON}}},
    {"object": "error", "message": REASON, "type": "BadRequestError", "code": 400},
    {"detail": REASON},
    {"detail": [{"loc": ["body"], "msg": REASON}]},
    {"message": REASON},
    [{"error": {"message": REASON}}],
    {"errors": [{"message": REASON}]},
    {"error": orjson.dumps({"error": {"code": 400, "message": REASON}}).decode()},
    REASON,
]


@pytest.mark.parametrize("body", REASONS)
@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_the_servers_reason_reaches_the_user(gateway: RunningGateway, path: str, status: int, body: Any):
    data = body.encode() if isinstance(body, str) else orjson.dumps(body)
    kind = "text/plain" if isinstance(body, str) else "application/json"
    [*_, last] = await ask(gateway, path, Raw([data], status=status, content_type=kind))
    assert (last["code"], last["message"]) == ("BACKEND_REJECTED" if status == 400 else "BACKEND_FAILED", REASON)
    assert last["usage"]["promptTokens"] == 0


@pytest.mark.parametrize("body", [body for body in REASONS if not isinstance(body, str)])
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_an_error_under_the_status_200_is_told_and_bills_nothing(gateway: RunningGateway, path: str, body: Any):
    [*_, last] = await ask(gateway, path, Raw([orjson.dumps(body) + b"\n"], content_type="application/json"))
    assert last["message"] == REASON
    assert last["usage"]["promptTokens"] == 0


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain", "application/json"])
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_a_web_page_in_the_place_of_an_answer_is_told_as_that(gateway: RunningGateway, path: str, kind: str):
    page = b"<!DOCTYPE html>\n<html><body><form>Sign in</form></body></html>"
    [*_, last] = await ask(gateway, path, Raw([page], content_type=kind))
    assert last["code"] == "BACKEND_REJECTED"
    assert "web page" in last["message"]
    assert last["usage"]["promptTokens"] == 0


CONTEXT = [
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
    "the request exceeds the available context size (512 tokens), try increasing it",
    "input length 600 exceeds the context length 512",
    "prompt is too long: 200001 tokens > 200000 maximum",
]


@pytest.mark.parametrize("words", CONTEXT)
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_prompt_that_does_not_fit_has_a_code_of_its_own(
    gateway: RunningGateway, path: str, words: str, status: int
):
    body = orjson.dumps({"error": {"message": words}}) + b"\n"
    events = await ask(gateway, path, Raw([body], status=status), onBackendLoss="CONTINUE")
    assert (events[-1]["code"], events[-1]["retryable"]) == ("CONTEXT_TOO_LONG", False)
    assert len(gateway.fake.requests) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": "model 'm' not found"}, "MODEL_NOT_FOUND"),
        ({"object": "error", "message": "The model `m` does not exist."}, "MODEL_NOT_FOUND"),
        ({"detail": "Not Found"}, "BACKEND_REJECTED"),
        ({"error": {"message": "File Not Found", "type": "not_found_error"}}, "BACKEND_REJECTED"),
    ],
)
async def test_a_404_that_names_the_model_is_told_from_a_wrong_address(gateway: RunningGateway, body: Json, code: str):
    answer = Raw([orjson.dumps(body)], status=404, content_type="application/json")
    assert (await ask(gateway, OPENAI, answer))[-1]["code"] == code


async def test_a_server_that_knows_no_stream_options_is_asked_without_them(gateway: RunningGateway):
    refusal = {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}
    answers = [Raw([orjson.dumps(refusal)], status=422), Raw((*FINISHED, DONE))]
    for _ in range(2):
        assert ended(await ask(gateway, OPENAI, *answers)) == WHOLE
        answers = answers[1:]
    bodies = [request.body for request in gateway.fake.requests]
    assert ["stream_options" in body for body in bodies] == [True, False, False]


LOSSES: dict[str, tuple[Raw, int]] = {
    "429": (Raw([b'{"error":"slow down"}'], status=429), 1),
    "400": (Raw([b'{"error":"no"}'], status=400), 1),
    "the same 500 twice": (Raw([b'{"error":"bad schema"}'], status=500), 2),
    "the same error in the stream twice": (Raw([b'{"error":"bad schema"}\n']), 2),
}


@pytest.mark.parametrize("name", list(LOSSES))
async def test_what_is_no_loss_is_not_asked_again(lone: RunningGateway, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.continuation.FIRST_PAUSE_SECONDS", 0.01)
    answer, requests = LOSSES[name]
    events = await ask(lone, OLLAMA, answer, onBackendLoss="CONTINUE")
    assert events[-1]["__typename"] == "GenerationFailed"
    assert len(lone.fake.requests) == requests


async def test_a_server_that_asks_to_wait_is_left_alone_for_as_long(lone: RunningGateway):
    busy = Raw([b'{"error":"busy"}'], status=503, headers={"retry-after": "1"})
    events = await ask(lone, OLLAMA, busy, Raw([said("a"), said("b"), end()]), onBackendLoss="CONTINUE")
    assert ended(events) == WHOLE
    assert len(lone.fake.requests) == 2
