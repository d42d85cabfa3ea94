"""Logprobs are asked of a model server only when a viewer wants them, and come whole with their text."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from backends.logprobs import TokenLogprob
from backends.ollama.stream import OllamaDecoder
from backends.openai.request import ServerKind, chat_body
from backends.openai.stream import OpenAIDecoder
from backends.protocol import ChatRequest, Chunk, Json, Message, TextChunk, ThinkingChunk
from gateway.streams.codec import decode, encode
from gateway.streams.events import LONGEST_MERGED, Event, TextDelta, ThinkingDelta, merged
from gateway.streams.packing import pack, packed_size, size, unpack
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway
from tests.support.generations import START, WATCH, asking, ends, text_of, until_tokens
from tests.support.valkeys import ValkeyServer
from tests.test_replicas import gateways

TOLD = """__typename ... on GenerationEvent { generationId sequence }
  ... on TextDelta { text offset tokens logprobs { token logprob bytes } }
  ... on GenerationCompleted { finishReason }"""
GENERATE = f"subscription($input: GenerateInput!) {{ generate(input: $input) {{ {TOLD} }} }}"
WATCH_TOLD = WATCH.replace("tokens }", "tokens logprobs { token logprob bytes } }", 1)
THREE: list[Json] = [{"token": f"{n} ", "logprob": -n / 4, "bytes": list(f"{n} ".encode())} for n in range(3)]


def told_by(events: list[Json]) -> list[Json]:
    """All logprobs of a stream, in their order."""
    return [told for event in events for told in event.get("logprobs") or ()]


@pytest.mark.parametrize("model", ["fake:count-3", "fake:together-3"])
async def test_what_is_selected_is_asked_for_and_told(double: RunningGateway, model: str):
    for name, path in ((model, "/api/chat"), (f"openai/{model}", "/v1/chat/completions")):
        events = await double.events(GENERATE, asking(name))
        asked = double.fake.requests[-1]
        assert (asked.path, asked.body["logprobs"]) == (path, True)
        assert (text_of(events), told_by(events)) == ("0 1 2 ", THREE)


SELECTIONS = {
    "__typename ... on TextDelta { text }": False,
    "... on TextDelta { logprobs { token } }": True,
    "... { ... on TextDelta { mine: logprobs { token } } }": True,
    "...Named": True,
    "... on TextDelta @include(if: $no) { logprobs { token } }": False,
    "... on TextDelta { logprobs @skip(if: true) { token } text }": False,
    "... on TextDelta @skip(if: $no) { logprobs @include(if: true) { token } }": True,
}


@pytest.mark.parametrize("selection", SELECTIONS)
async def test_a_model_server_is_asked_only_for_what_is_selected(double: RunningGateway, selection: str):
    named = (
        "fragment Named on GenerateEvent { ... on TextDelta { logprobs { token } } }" if selection == "...Named" else ""
    )
    declared = ", $no: Boolean = false" if "$no" in selection else ""
    query = f"subscription($input: GenerateInput!{declared}) {{ generate(input: $input) {{ {selection} }} }} {named}"
    await double.events(query, asking("fake:count-3"))
    assert double.fake.requests[0].body.get("logprobs", False) is SELECTIONS[selection]


async def test_a_generation_that_was_only_started_has_none(double: RunningGateway):
    started = await double.run(START, asking("fake:count-3"))
    events = await double.events(WATCH_TOLD, {"id": started["startGeneration"]["generation"]["id"]})
    assert "logprobs" not in double.fake.requests[0].body
    assert [event["logprobs"] for event in events if event["__typename"] == "TextDelta"][:1] == [None]


async def test_a_retry_under_an_idempotency_key_may_want_them(double: RunningGateway):
    asked = asking("fake:count-3", idempotencyKey="logprobs", onDisconnect="CONTINUE")
    id = (await double.run(START, asked))["startGeneration"]["generation"]["id"]
    events = await double.events(GENERATE, asked)
    assert (events[0]["generationId"], told_by(events)) == (id, [])


async def test_a_server_that_refuses_them_answers_without(double: RunningGateway):
    double.fake.refuses = lambda body: "logprobs are not supported with this model" if "logprobs" in body else None
    for times in (2, 4):  # another model of the same server may tell them
        events = await double.events(GENERATE, asking("openai/fake:count-3"))
        assert (text_of(events), told_by(events), len(double.fake.requests)) == ("0 1 2 ", [], times)


async def test_they_come_at_another_gateway_and_behind_a_cursor(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    async with gateways(2, tmp_path, sqlite_url, fake, valkey) as (one, other):
        async with one.connect() as socket:
            await socket.subscribe(GENERATE, asking("fake:stall-3", onDisconnect="CONTINUE"))
            seen = await until_tokens(socket, 1)
        fake.release()
        rest = await other.events(WATCH_TOLD, {"id": seen[0]["generationId"], "after": seen[-1]["sequence"]})
    assert told_by(seen + rest) == THREE
    assert len(ends(rest)) == 1


async def test_a_begun_answer_tells_them_where_the_turn_is_closed(double: RunningGateway):
    double.fake.closes_turns = True
    messages = [{"role": "USER", "text": "count"}, {"role": "ASSISTANT", "text": "0 1 2 "}]
    events = await double.events(GENERATE, {"input": {"model": "fake:count-5", "prompt": {"messages": messages}}})
    assert double.fake.requests[-1].path == "/api/generate"
    assert [told["token"] for told in told_by(events)] == ["3 ", "4 "]


async def test_an_answer_that_goes_on_elsewhere_tells_them_there_too(double: RunningGateway):
    double.fake.models.append("fake:loses-3-3")
    events = await double.events(GENERATE, asking("fake:loses-3-3", onBackendLoss="CONTINUE"))
    assert text_of(events) == "0 1 2 3 4 5 "
    assert [told["token"] for told in told_by(events)] == [f"{number} " for number in range(6)]


def test_llama_cpp_is_asked_for_the_token_alone_and_not_for_the_twenty_likeliest():
    asked = ChatRequest("m", [Message("user", "hello")], logprobs=True)
    told = {server: chat_body(asked, server).get("top_logprobs") for server in ServerKind}
    assert told == {ServerKind.UNKNOWN: None, ServerKind.LLAMA_CPP: 1, ServerKind.VLLM: None}


def openai(choices: list[dict[str, Any]], *, think_tags: bool = False) -> list[Chunk]:
    decoder, chunks = OpenAIDecoder(think_tags=think_tags, logprobs=True), list[Chunk]()
    for choice in choices:
        decoder.feed(b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n", chunks)
    return chunks


def token(text: str, **more: Json) -> dict[str, Any]:
    return {"delta": {"content": text}, "logprobs": {"content": [{"token": text, "logprob": -1} | more]}}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        7,
        [],
        {"content": None},
        {"content": 7},
        {"content": [None, 7, {}, {"token": "a"}, {"token": 1, "logprob": -1}, {"token": "a", "logprob": None}]},
        {"content": [{"token": "a", "logprob": True}, {"token": "a", "logprob": "-1"}]},
        {"tokens": ["a"], "token_logprobs": [-1]},
    ],
)
def test_what_is_odd_costs_the_logprobs_and_not_the_text(odd: Json):
    assert openai([{"delta": {"content": "a"}, "logprobs": odd}]) == [TextChunk("a")]
    decoder, chunks = OllamaDecoder(logprobs=True), list[Chunk]()
    told = odd.get("content") if isinstance(odd, dict) else odd
    decoder.feed(orjson.dumps({"message": {"content": "a"}, "logprobs": told}) + b"\n", chunks)
    assert chunks == [TextChunk("a")]


@pytest.mark.parametrize("odd", [7, "a", [256], [-1], ["a"], [None], [1.5], {}])
def test_odd_bytes_are_not_told(odd: Json):
    assert openai([token("a", bytes=odd)]) == [TextChunk("a", 1, [TokenLogprob("a", -1.0)])]


def test_a_number_that_no_float_holds_costs_its_token():
    told = b'{"content": [{"token": "a", "logprob": %s}]}'
    data = b'data: {"choices": [{"delta": {"content": "a"}, "logprobs": ' + told + b"}]}\n\n"
    for number in (b"-Infinity", b"NaN", b"-1e999", b"1" + b"0" * 400):
        chunks = list[Chunk]()
        OpenAIDecoder(logprobs=True).feed(data % number, chunks)
        assert chunks == [TextChunk("a")]


def test_those_of_thoughts_and_their_tags_are_left_out():
    chunks = openai([token(text) for text in ("<think>", "hm", "</think>", "\n\n", "yes")], think_tags=True)
    assert chunks == [ThinkingChunk("hm", 2), TextChunk("yes", 3, [TokenLogprob("yes", -1.0)])]


def test_those_of_half_a_character_wait_for_the_rest():
    decoder, chunks = OpenAIDecoder(logprobs=True), list[Chunk]()
    told = '"logprobs": {"content": [{"token": "%s", "logprob": -1, "bytes": [240, 159]}]}'
    for half in ("\\ud83d", "\\ude42"):
        choice = '{"delta": {"content": "%s"}, %s}' % (half, told % half)  # noqa: UP031 - braces of JSON
        decoder.feed(f'data: {{"choices": [{choice}]}}\n\n'.encode(), chunks)
    assert chunks == [TextChunk("🙂", 2, [TokenLogprob("\N{REPLACEMENT CHARACTER}", -1.0, b"\xf0\x9f")] * 2)]


ONE = TokenLogprob("a", -0.5, b"a")
SOME: list[Event] = [
    TextDelta(1, "a", 0, 1, [ONE]),
    TextDelta(2, "b", 1, 1),
    TextDelta(3, "c", 2, 2, [TokenLogprob("c", -1e30, None), TokenLogprob("", 0.0, b"")]),
    ThinkingDelta(4, "d", 0, 1),
]


def test_they_are_read_as_they_were_written():
    assert decode(encode(SOME)) == SOME


def test_a_delta_without_them_is_written_as_before():
    assert encode([TextDelta(1, "a", 0, 1)]) == b'[["t",1,"a",0,1]]'


def test_what_a_later_gateway_adds_to_a_text_is_passed_over():
    assert decode(b'[["t",1,"a",0,1,null,{"later":1}]]') == [TextDelta(1, "a", 0, 1)]


@pytest.mark.parametrize(
    "odd", [b"7", b"[7]", b'[["a"]]', b'[["a","b",null]]', b'[["a",-1.5,"xx"]]', b"[[1,-1.5,null]]"]
)
def test_logprobs_that_no_gateway_writes_are_refused(odd: bytes):
    with pytest.raises(ValueError, match=r"events|fromhex"):
        decode(b'[["t",1,"a",0,1,%s]]' % odd)


def test_merging_keeps_them_in_their_order():
    (text, _) = merged(SOME)
    assert isinstance(text, TextDelta)
    assert [told.token for told in text.logprobs or ()] == ["a", "c", ""]


def test_a_merged_event_with_them_stays_sendable():
    events: list[Event] = [TextDelta(number, "a", number - 1, 1, [ONE]) for number in range(1, 3001)]
    assert max(len(orjson.dumps([encode([event]).decode()])) for event in merged(events)) < 4 * LONGEST_MERGED


def test_packing_keeps_them_and_counts_their_memory():
    assert unpack(pack(SOME)) == SOME
    assert unpack(pack(SOME), 1) == SOME[1:]
    plain: list[Event] = [TextDelta(number, "a", number - 1, 1) for number in range(1, 101)]
    told: list[Event] = [TextDelta(number, "a", number - 1, 1, [ONE]) for number in range(1, 101)]
    assert packed_size(pack(told)) - packed_size(pack(plain)) == size(told[0]) * 100 - size(plain[0]) * 100 > 10_000


async def test_a_thinking_model_tells_those_of_its_answer_alone(double: RunningGateway):
    for name in ("fake:thinking", "openai/fake:thinking"):
        events = await double.events(GENERATE, asking(name, "yes"))
        assert [told["token"] for told in told_by(events)] == ["yes"]
