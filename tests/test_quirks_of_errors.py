"""How model servers refuse and fail: their reason reaches the user, and what is no loss is not asked for again."""

from typing import Any

import orjson
import pytest

from tests.support.fake_model_server import Raw
from tests.support.gateways import Json, RunningGateway
from tests.support.quirks import DONE, FINISHED, OLLAMA, OPENAI, WHOLE, ask, end, ended, line, said, sse

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
    {"error": {"message": "", "metadata": {"raw": REASON}}},
    {"error": {"errors": [{"msg": REASON}]}, "success": False},
    {"Message": REASON},
    {"fault": {"faultstring": REASON}},
    {"code": 1004, "msg": REASON},
    {"base_resp": {"status_code": 1004, "status_msg": REASON}, "choices": None},
    {"error": orjson.dumps({"error": {"code": 400, "message": REASON}}).decode()},
    REASON,
]


@pytest.mark.parametrize("body", REASONS)
async def test_the_servers_reason_reaches_the_user(double: RunningGateway, body: Any):
    """The words are found in one place, whatever the status; what the status says does not depend on the words."""
    data = body.encode() if isinstance(body, str) else orjson.dumps(body)
    kind = "text/plain" if isinstance(body, str) else "application/json"
    [*_, last] = await ask(double, OPENAI, Raw([data], status=400, content_type=kind))
    assert (last["error"]["code"], last["error"]["message"]) == ("BACKEND_REJECTED", REASON)
    assert last["usage"]["promptTokens"] == 0


@pytest.mark.parametrize(("status", "code"), [(400, "BACKEND_REJECTED"), (500, "BACKEND_FAILED")])
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_a_status_has_a_code_beside_the_reason(double: RunningGateway, path: str, status: int, code: str):
    [*_, last] = await ask(double, path, Raw([orjson.dumps({"error": REASON})], status=status))
    assert (last["error"]["code"], last["error"]["message"]) == (code, REASON)


@pytest.mark.parametrize("body", REASONS)
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_an_error_under_the_status_200_is_told_and_bills_nothing(double: RunningGateway, path: str, body: Any):
    data = body.encode() if isinstance(body, str) else orjson.dumps(body)
    [*_, last] = await ask(double, path, Raw([data + b"\n"], content_type="application/json"))
    assert last["error"]["message"] == REASON
    assert last["usage"]["promptTokens"] == 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("context_length_exceeded", "CONTEXT_TOO_LONG"),
        ("exceed_context_size_error", "CONTEXT_TOO_LONG"),
        ("429", "BACKEND_OVERLOADED"),
        ("invalid_value", "BACKEND_FAILED"),
    ],
)
async def test_what_the_words_leave_open_the_code_tells(double: RunningGateway, code: str, kind: str):
    [*_, last] = await ask(double, OPENAI, Raw([sse({"error": {"message": "No.", "code": code}})]))
    assert last["error"]["code"] == kind


@pytest.mark.parametrize("error", [{"message": ""}, {"code": 0, "message": None}, "null", False])
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_an_error_without_words_beside_text_is_none(double: RunningGateway, path: str, error: Any):
    chunk = {"choices": [{"index": 0, "delta": {"content": "ab"}, "finish_reason": "stop"}], "error": error}
    openai, ollama = (sse(chunk), DONE), (line(message={"content": "ab"}, error=error), end())
    assert ended(await ask(double, path, Raw(openai if path == OPENAI else ollama))) == WHOLE


@pytest.mark.parametrize("page", [b"<form method=post>", b"\xef\xbb\xbf<!doctype html>", b"\n<?xml version='1.0'?>"])
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_whatever_begins_with_a_tag_is_a_web_page(double: RunningGateway, path: str, page: bytes):
    [*_, last] = await ask(double, path, Raw([page], content_type="text/plain"))
    assert "web page" in last["error"]["message"]
    assert last["usage"]["promptTokens"] == 0


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain", "application/json"])
@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_a_web_page_in_the_place_of_an_answer_is_told_as_that(double: RunningGateway, path: str, kind: str):
    page = b"<!DOCTYPE html>\n<html><body><form>Sign in</form></body></html>"
    [*_, last] = await ask(double, path, Raw([page], content_type=kind))
    assert last["error"]["code"] == "BACKEND_REJECTED"
    assert "web page" in last["error"]["message"]
    assert last["usage"]["promptTokens"] == 0


CONTEXT = [
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
    "the request exceeds the available context size (512 tokens), try increasing it",
    "input length 600 exceeds the context length 512",
    "prompt is too long: 200001 tokens > 200000 maximum",
    "the input length exceeds the context length",
    "the prompt is longer than the context length currently available to the model; shorten the prompt",
    '{"error":{"code":400,"message":"request (600 tokens) exceeds the available context size (512 tokens), try '
    'increasing it","type":"exceed_context_size_error","n_prompt_tokens":600,"n_ctx":512}}',
]


@pytest.mark.parametrize(
    ("words", "path", "status"),
    [
        *((words, path, 400) for words in CONTEXT for path in (OLLAMA, OPENAI)),
        *((CONTEXT[0], path, status) for path in (OLLAMA, OPENAI) for status in (200, 500)),
    ],
)
async def test_a_prompt_that_does_not_fit_has_a_code_of_its_own(
    double: RunningGateway, path: str, words: str, status: int
):
    body = orjson.dumps({"error": {"message": words}}) + b"\n"
    events = await ask(double, path, Raw([body], status=status), onBackendLoss="CONTINUE")
    assert (events[-1]["error"]["code"], events[-1]["error"]["retryable"]) == ("CONTEXT_TOO_LONG", False)
    assert len(double.fake.requests) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": "model 'm' not found"}, "MODEL_NOT_FOUND"),
        ({"object": "error", "message": "The model `m` does not exist."}, "MODEL_NOT_FOUND"),
        ({"error": {"message": "Sorry.", "code": "model_not_found"}}, "MODEL_NOT_FOUND"),
        ({"message": "No model named m"}, "MODEL_NOT_FOUND"),
        ({"detail": "fake:echo is not served here"}, "MODEL_NOT_FOUND"),
        ({"detail": "Not Found"}, "BACKEND_REJECTED"),
        ({"error": {"message": "File Not Found", "type": "not_found_error"}}, "BACKEND_REJECTED"),
    ],
)
async def test_a_404_that_names_the_model_is_told_from_a_wrong_address(double: RunningGateway, body: Json, code: str):
    answer = Raw([orjson.dumps(body)], status=404, content_type="application/json")
    assert (await ask(double, OPENAI, answer))[-1]["error"]["code"] == code


async def test_a_server_that_knows_no_stream_options_is_asked_without_them(double: RunningGateway):
    refusal = {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}
    answers = [Raw([orjson.dumps(refusal)], status=422), Raw((*FINISHED, DONE))]
    for _ in range(2):
        assert ended(await ask(double, OPENAI, *answers)) == WHOLE
        answers = answers[1:]
    bodies = [request.body for request in double.fake.requests]
    assert ["stream_options" in body for body in bodies] == [True, False, False]


LOSSES: dict[str, tuple[list[Raw], int]] = {
    "429": ([Raw([b'{"error":"slow down"}'], status=429)], 1),
    "400": ([Raw([b'{"error":"no"}'], status=400)], 1),
    "the same 500 twice": ([Raw([b'{"error":"bad schema"}'], status=500)], 2),
    "the same 500 twice, under another id": (
        [Raw([b'{"error":"bad schema (request req_%d)"}' % number], status=500) for number in (1, 2)],
        2,
    ),
    "the same error in the stream twice": ([Raw([b'{"error":"bad schema"}\n'])], 2),
}


@pytest.mark.parametrize("name", list(LOSSES))
async def test_what_is_no_loss_is_not_asked_again(gateway: RunningGateway, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.generation.continuation.FIRST_PAUSE_SECONDS", 0.01)
    answers, requests = LOSSES[name]
    events = await ask(gateway, OLLAMA, *answers, onBackendLoss="CONTINUE")
    assert events[-1]["__typename"] == "GenerationFailed"
    assert len(gateway.fake.requests) == requests


async def test_a_server_that_asks_to_wait_is_left_alone_for_as_long(gateway: RunningGateway):
    busy = Raw([b'{"error":"busy"}'], status=503, headers={"retry-after": "1"})
    events = await ask(gateway, OLLAMA, busy, Raw([said("a"), said("b"), end()]), onBackendLoss="CONTINUE")
    assert ended(events) == WHOLE
    assert len(gateway.fake.requests) == 2


async def test_a_server_that_asks_to_wait_is_told_of(gateway: RunningGateway):
    busy = Raw([b'{"error":"busy"}'], status=503, headers={"retry-after": "7"})
    event = (await ask(gateway, OLLAMA, busy))[-1]
    assert event["error"]["retryAfterMs"] == 7_000
    found = await gateway.run("{ generations { nodes { error { code retryable retryAfterMs } } } }")
    (row,) = found["generations"]["nodes"]
    assert row["error"] == {"code": "BACKEND_OVERLOADED", "retryable": True, "retryAfterMs": 7_000}
