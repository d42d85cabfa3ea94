"""Model servers as they really speak: what was asked for and came is the answer, and what is odd costs its field."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.fake_model_server import Ending, FakeModelServer, Raw
from tests.support.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import text_of
from tests.support.quirks import (
    AB,
    DONE,
    FINISHED,
    OLLAMA,
    OPENAI,
    TOLD,
    WHOLE,
    ask,
    delta,
    end,
    ended,
    line,
    said,
    sse,
    usage,
)

ENDS = {
    "open and silent": Raw(FINISHED, Ending.HOLD),
    "open, with comments": Raw(FINISHED, Ending.HOLD, heartbeat=b": ping\n\n"),
    "open, with empty chunks": Raw(FINISHED, Ending.HOLD, heartbeat=delta()),
    "closed without the done mark": Raw(FINISHED),
    "reset": Raw(FINISHED, Ending.CUT),
    "a done mark with a space": Raw((*FINISHED, b"data: [DONE] \n\n"), Ending.HOLD),
    "a done mark without its empty line": Raw((*FINISHED, b"data: [DONE]")),
    "no empty line behind the last event": Raw((*AB, delta("stop").rstrip())),
    "no line end, and open": Raw((*AB, delta("stop").rstrip()), Ending.HOLD),
    "no empty line, and reset": Raw((*AB, delta("stop")[:-1]), Ending.CUT),
    "a done mark without a line end or a reason, and open": Raw((*AB, b"data: [DONE]"), Ending.HOLD),
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
    "one JSON document, and open": Raw(
        [b'\xef\xbb\xbf{"choices": [{"message": {"content": "ab"}', b', "finish_reason": "stop"}]}'], Ending.HOLD
    ),
    "one JSON document, and reset": Raw([b'{"choices": [{"message": {"content": "ab"}}]}'], Ending.CUT),
    "a JSON document a line": Raw([b"".join(event.removeprefix(b"data: ") for event in FINISHED)]),
    "one JSON document without a reason": Raw([b'{"choices": [\n{"message": {"content": "ab"}}\n]}'], Ending.FINISH),
}


@pytest.mark.parametrize("name", list(ENDS))
async def test_an_answer_is_whole_however_its_stream_ends(double: RunningGateway, name: str):
    assert ended(await ask(double, OPENAI, ENDS[name])) == WHOLE


@pytest.mark.parametrize("name", ["open and silent", "reset", "an error behind the end"])
async def test_a_whole_answer_is_not_asked_for_again(double: RunningGateway, name: str):
    events = await ask(double, OPENAI, ENDS[name], onBackendLoss="CONTINUE")
    assert ended(events) == WHOLE
    assert len(double.fake.requests) == 1


async def test_a_document_a_line_that_ends_without_a_reason_is_cut_off(double: RunningGateway):
    events = await ask(double, OPENAI, Raw([event.removeprefix(b"data: ") for event in AB]))
    assert ended(events) == ("GenerationFailed", "BACKEND_PROTOCOL_ERROR", "ab")


@pytest.mark.parametrize(
    ("word", "reason"),
    [("model_length", "LENGTH"), ("MAX_OUTPUT_TOKENS", "LENGTH"), ("tool_use", "TOOL_CALLS"), ("eos", "STOP")],
)
async def test_the_reason_is_understood_in_each_servers_words(double: RunningGateway, word: str, reason: str):
    assert ended(await ask(double, OPENAI, Raw((*AB, delta(word), DONE)))) == ("GenerationCompleted", reason, "ab")


@pytest.mark.parametrize("word", ["error", "abort", "insufficient_system_resource"])
async def test_an_answer_that_its_server_broke_off_is_not_whole(double: RunningGateway, word: str):
    events = await ask(double, OPENAI, Raw((*AB, delta(word), DONE)))
    assert ended(events) == ("GenerationFailed", "BACKEND_FAILED", "ab")


async def test_zeros_take_nothing_back(double: RunningGateway):
    counts = (usage(prompt_tokens=7, completion_tokens=2), usage(prompt_tokens=0, completion_tokens=0))
    assert (await ask(double, OPENAI, Raw((*FINISHED, *counts, DONE))))[-1]["usage"] == TOLD


async def test_usage_that_comes_late_is_taken(double: RunningGateway):
    told = Raw((*FINISHED, usage(prompt_tokens=7.0, completion_tokens=2)), Ending.HOLD)
    assert (await ask(double, OPENAI, told))[-1]["usage"] == TOLD


@pytest.mark.parametrize("zeros", [{"prompt_tokens": 0, "completion_tokens": 0}, {"completion_tokens": 0}])
async def test_zeros_beside_text_are_not_told(double: RunningGateway, zeros: Json):
    events = await ask(double, OPENAI, Raw((*FINISHED, usage(**zeros), DONE)))
    counts = events[-1]["usage"]
    assert counts.pop("promptTokens") > 0  # as many as the model told of earlier prompts suggest
    assert counts == {"completionTokens": 2, "source": "ESTIMATED"}


OLLAMA_ENDS = {
    "odd durations": Raw((said("a"), said("b"), end(load_duration=1.5e9, total_duration="x", eval_duration=-1))),
    "odd counts": Raw((said("a"), said("b"), end(prompt_eval_count="3", eval_count=[]))),
    "no line end": Raw((said("a"), said("b"), end().rstrip())),
    "reset behind the end": Raw((said("a"), said("b"), end()), Ending.CUT),
    "open behind the end": Raw((said("a"), said("b"), end()), Ending.HOLD),
    "no line end, and open": Raw((said("a"), said("b"), end().rstrip()), Ending.HOLD),
    "no line end, and reset": Raw((said("a"), said("b"), end().rstrip()), Ending.CUT),
    "not quite JSON": Raw((said("a"), said("b"), b'{"done":true,"x":NaN,"y":-Infinity,"z":1e999}\n')),
    "an error that is null": Raw((said("a"), line(message={"content": "b"}, error=None), end())),
    "an error that is empty": Raw((said("a"), line(message={"content": "b"}, error=""), end())),
}


@pytest.mark.parametrize("name", list(OLLAMA_ENDS))
async def test_an_answer_of_ollama_is_whole_however_its_stream_ends(double: RunningGateway, name: str):
    assert ended(await ask(double, OLLAMA, OLLAMA_ENDS[name])) == WHOLE


async def test_an_answer_that_goes_round_in_a_loop_has_an_end_of_its_own(double: RunningGateway):
    events = await ask(double, OLLAMA, Raw([said("no "), *[said("so ")] * 31]), onBackendLoss="CONTINUE")
    assert ended(events) == ("GenerationCompleted", "REPETITION", "no " + "so " * 31)
    assert len(double.fake.requests) == 1


async def test_an_answer_that_ends_early_without_a_loop_is_cut_off(double: RunningGateway):
    events = await ask(double, OLLAMA, Raw([said(f"{number} ") for number in range(40)]))
    assert events[-1]["error"]["code"] == "BACKEND_PROTOCOL_ERROR"


PARTS = [
    ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", ""),
    ({"type": "text", "text": "ab"}, "ab", ""),
    ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "ab"}], "ab", "hm"),
    ([{"type": "image_url"}, {"type": "text", "text": "ab"}, 7, None], "ab", ""),
    ({"type": "text", "text": {"value": "ab", "annotations": []}}, "ab", ""),
    ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, "ab"], "ab", "hm"),
    ({"parts": [{"text": "hm", "thought": True}, {"text": "ab"}]}, "ab", "hm"),
]


@pytest.mark.parametrize(("content", "text", "thinking"), PARTS)
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_content_may_come_in_parts(double: RunningGateway, path: str, content: Any, text: str, thinking: str):
    openai = (delta(content=content), delta("stop"), DONE)
    ollama = (line(message={"content": content}), end())
    events = await ask(double, path, Raw(openai if path == OPENAI else ollama))
    assert ended(events)[::2] == ("GenerationCompleted", text)
    assert "".join(event.get("thinking", "") for event in events) == thinking


async def test_a_refusal_is_text(double: RunningGateway):
    assert text_of(await ask(double, OPENAI, Raw((delta(refusal="I cannot"), delta("stop"), DONE)))) == "I cannot"


@pytest.mark.parametrize(
    "reasoning",
    [
        {"reasoning": {"text": "hm"}},
        {"reasoning": None, "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
    ],
)
async def test_reasoning_may_come_in_parts(double: RunningGateway, reasoning: Json):
    events = await ask(double, OPENAI, Raw((delta(**reasoning), delta("stop", content="ab"), DONE)))
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
async def test_text_that_is_not_quite_unicode_is_made_whole(double: RunningGateway, path: str, name: str):
    first, second, text = HALVES[name]
    if path == OPENAI:
        pieces = [b'data: {"choices":[{"delta":{"content":%s}}]}\n\n' % piece for piece in (first, second)]
        answer = Raw([*pieces, delta("stop"), DONE])
    else:
        answer = Raw([*(b'{"message":{"content":%s}}\n' % piece for piece in (first, second)), end()])
    assert ended(await ask(double, path, answer))[::2] == ("GenerationCompleted", text)


EVENTS = [
    b"event: ping\ndata: ping\n\n",
    b"event: ping\ndata: {}\n\n",
    b"data:\n\n",
    b"data: \n\n",
    b": comment\n\n",
    b"event: metadata\ndata: [1]\n\n",
    b"id: 7\nretry: 100\n\n",
    b'event: usage\ndata: {"prompt_tokens": 3}\n\n',
    b'event: status\ndata: {"message": "third in line"}\n\n',
    b'event: warning\ndata: {"error": "an old model"}\n\n',
    b"data: ping\n\n",
    b'data: {"choices": [], "x": nan, "y": [-inf, None], "z": "a \\" nan"}\n\n',
]


@pytest.mark.parametrize("event", EVENTS)
async def test_events_that_are_no_part_of_the_answer_are_passed_over(double: RunningGateway, event: bytes):
    writes = (event, AB[0], event, AB[1], event, delta("stop"), event, DONE)
    assert ended(await ask(double, OPENAI, Raw(writes))) == WHOLE


async def test_an_error_event_may_hold_words_alone(double: RunningGateway):
    events = await ask(double, OPENAI, Raw((AB[0], b"event: error\ndata: the cache is full\n\n")))
    assert (events[-1]["error"]["code"], events[-1]["error"]["message"]) == ("BACKEND_FAILED", "the cache is full")


def calls(events: list[Json]) -> list[tuple[str, Any]]:
    return [(event["call"]["name"], event["call"]["arguments"]) for event in events if "call" in event]


def piece(id: str | None = None, name: str | None = None, arguments: Any = None, index: Any = 0) -> Json:
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
    "JSON in a string in a string": ([piece("a", "f", '"\\"{}\\""')], [("f", {})]),
    "indexes as text": (
        [
            *(piece(id, name, '{"', index="0" if id == "a" else "1") for id, name in (("a", "f"), ("b", "g"))),
            *(piece(None, None, rest, index=index) for rest, index in (('x":1}', "0"), ('y":2}', "1"))),
        ],
        TWO,
    ),
    "an empty object before the pieces": (
        [piece("a", "f", "{}"), piece(None, None, '{"x"'), piece(None, None, ":1}")],
        TWO[:1],
    ),
    "without the inner object": ([{"index": 0, "id": "a", "name": "f", "arguments": '{"x":1}'}], TWO[:1]),
    "null": ([piece("a", "f", "null")], [("f", {})]),
    "nothing": ([piece("a", "f")], [("f", {})]),
    "odd numbers": ([piece("a", "f", '{"x":NaN,"y":1e999,"z":123456789012345678901234567890}')], None),
    "half a character": ([piece("a", "f", '{"x":"\\ud83d"}')], [("f", {"x": "\ufffd"})]),
}


@pytest.mark.parametrize("name", list(TOOL_CALLS))
async def test_tool_calls_are_put_together(double: RunningGateway, name: str):
    pieces, expected = TOOL_CALLS[name]
    writes = [*(delta(tool_calls=[each]) for each in pieces), delta("tool_calls"), DONE]
    events = await ask(double, OPENAI, Raw(writes))
    assert events[-1].get("finishReason") == "TOOL_CALLS"
    assert expected is None or calls(events) == expected


@pytest.mark.parametrize("none", [{"tool_calls": None}, {"tool_calls": []}, {"function_call": None}])
async def test_a_field_for_calls_without_one_is_no_call(double: RunningGateway, none: Json):
    events = await ask(double, OPENAI, Raw([delta(content="a", **none), delta("stop", content="b", **none), DONE]))
    assert ended(events) == WHOLE


async def test_calls_of_the_older_api_are_calls(double: RunningGateway):
    pieces = [delta(function_call=call) for call in ({"name": "f", "arguments": '{"x"'}, {"arguments": ":1}"})]
    events = await ask(double, OPENAI, Raw([*pieces, delta("function_call"), DONE]))
    assert (events[-1].get("finishReason"), calls(events)) == ("TOOL_CALLS", TWO[:1])


async def test_a_call_that_was_cut_off_is_told_as_that(double: RunningGateway):
    writes = [delta(tool_calls=[piece("a", "f", '{"x": [1, ')]), delta("length"), DONE]
    events = await ask(double, OPENAI, Raw(writes))
    assert ended(events)[:2] == ("GenerationCompleted", "LENGTH")
    assert calls(events) == [("f", None)]
    assert events[-2]["call"]["argumentsText"] == '{"x": [1,'


async def test_a_call_that_cannot_be_read_although_finished_names_its_tool(double: RunningGateway):
    counts = usage(prompt_tokens=7, completion_tokens=2)
    writes = [delta(tool_calls=[piece("a", "f", "{x: 1}")]), delta("tool_calls"), counts, DONE]
    events = await ask(double, OPENAI, Raw(writes), onBackendLoss="CONTINUE")
    assert events[-1]["error"]["code"] == "MALFORMED_TOOL_CALL"
    assert "'f'" in events[-1]["error"]["message"]
    assert events[-1]["usage"] == TOLD
    assert len(double.fake.requests) == 1


@pytest.mark.parametrize("arguments", [{"x": 1}, '{"x": 1}', None, "null"])
async def test_ollamas_calls_are_read_in_every_form(double: RunningGateway, arguments: Any):
    call = {"function": {"name": "f", "arguments": arguments}}
    events = await ask(double, OLLAMA, Raw([line(message={"content": "", "tool_calls": [call]}), end()]))
    assert calls(events) == [("f", {"x": 1} if arguments not in (None, "null") else {})]


def deep_call(path: str, levels: int) -> list[bytes]:
    """An answer with a call of `f` whose arguments have so many levels: more than our own writer of JSON can do."""
    arguments = '{"x":' * levels + "1" + "}" * levels
    if path == OPENAI:
        return [delta(tool_calls=[piece("a", "f", arguments)]), delta("tool_calls"), DONE]
    call = f'{{"function": {{"name": "f", "arguments": {arguments}}}}}'
    return [f'{{"message": {{"content": "", "tool_calls": [{call}]}}}}\n'.encode(), end()]


@pytest.mark.parametrize("levels", [65, 250, 900])
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_arguments_that_are_nested_too_deeply_are_malformed(double: RunningGateway, path: str, levels: int):
    events = await ask(double, path, Raw(deep_call(path, levels)))
    assert events[-1]["error"]["code"] == "MALFORMED_TOOL_CALL"


@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_arguments_may_be_as_deep_as_callers_may_send_them_back(double: RunningGateway, path: str):
    [(name, arguments)] = calls(await ask(double, path, Raw(deep_call(path, 64))))
    assert (name, str(arguments).count("{")) == ("f", 64)


THOUGHTS = [
    (["<think>hm</think>ab"], "hm", "ab"),
    (["<thi", "nk>\nhm", "m</th", "ink>\n\na", "b"], "hmm", "ab"),
    (["  <think>hm"], "hm", ""),
    (["<think>", "\n", "hm", "</think>", "\n", "\nab", "\n"], "hm", "ab\n"),
    (["a<think>b</think>"], "", "a<think>b</think>"),
    (["<thin", " ice"], "", "<thin ice"),
    (["<think>a < b</think>", "c</think>"], "a < b", "c</think>"),
]


@pytest.mark.parametrize(("pieces", "thought", "text"), THOUGHTS)
async def test_thoughts_in_tags_are_told_apart_where_the_setting_says_so(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, pieces: list[str], thought: str, text: str
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, openai_url=fake.url, openai_think_tags=True)
    async with running_gateway(settings, fake) as gateway:
        writes = [*(delta(content=piece) for piece in pieces), delta("stop"), DONE]
        events = await ask(gateway, OPENAI, Raw(writes))
    assert ("".join(event.get("thinking", "") for event in events), text_of(events)) == (thought, text)
