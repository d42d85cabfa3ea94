"""Backends that fail, in every way there is: one end, the right code, and the numbers of what was said before."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.gateways import EVERY_MODEL, Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import COMPLETE, GENERATE, START, WATCH, asking, ends, look, start, text_of, total, until


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


IN_THE_STREAM = [
    ("fake:error-3", "BACKEND_FAILED"),
    ("fake:malformed-3", "BACKEND_PROTOCOL_ERROR"),
    ("fake:truncated-3", "BACKEND_PROTOCOL_ERROR"),
    ("fake:cut-3", "BACKEND_UNAVAILABLE"),
]
INSTEAD_OF_AN_ANSWER = [
    ("fake:status-404", "MODEL_NOT_FOUND", False),
    ("fake:status-429", "BACKEND_OVERLOADED", True),
    ("fake:status-500", "BACKEND_FAILED", True),
    ("fake:status-503", "BACKEND_OVERLOADED", True),
]
TOO_LATE = [
    ("fake:stall-3", {"between_tokens_timeout": 2}, "between tokens", 3),
    ("fake:hold-3", {"first_byte_timeout": 2}, "first byte", 0),
    ("fake:stall-3", {"generation_timeout": 3}, "total", 3),
]


async def failure(gateway: RunningGateway, model: str) -> tuple[list[Json], Json]:
    """The events of a generation that fails, and its one end."""
    events = await gateway.events(GENERATE, asking(model))
    (end,) = ends(events)
    assert end is events[-1]
    assert end["__typename"] == "GenerationFailed"
    return events, end


@pytest.mark.parametrize(("model", "code"), IN_THE_STREAM)
async def test_a_failure_in_the_stream_ends_it_once_and_counts_what_came(
    own_gateway: RunningGateway, model: str, code: str
):
    events, end = await failure(own_gateway, model)
    assert (end["error"]["code"], end["error"]["retryable"]) == (code, True)
    assert end["generation"] == {"state": "FAILED", "error": {"code": code}}
    assert text_of(events) == "0 1 2 "
    assert end["usage"] == {"promptTokens": 4, "completionTokens": 3, "source": "ESTIMATED"}
    assert await total(own_gateway) == {"generations": 1, "promptTokens": 4, "completionTokens": 3}


@pytest.mark.parametrize(("model", "code"), IN_THE_STREAM)
async def test_what_was_said_before_a_failure_stands_in_the_mutations_answer(
    gateway: RunningGateway, model: str, code: str
):
    answer = (await gateway.run(COMPLETE, asking(model)))["generate"]
    assert (answer["__typename"], answer["code"], answer["error"]["retryable"]) == ("GenerateFailure", code, True)
    assert answer["text"] == "0 1 2 "
    assert answer["generation"]["usage"]["completionTokens"] == 3


@pytest.mark.parametrize(("model", "code", "retryable"), INSTEAD_OF_AN_ANSWER)
async def test_a_refusal_ends_it_once_and_costs_nothing(
    gateway: RunningGateway, model: str, code: str, retryable: bool
):
    _, end = await failure(gateway, model)
    assert (end["error"]["code"], end["error"]["retryable"]) == (code, retryable)
    assert end["usage"] == {"promptTokens": 0, "completionTokens": 0, "source": "COUNTED"}


@pytest.mark.parametrize(("model", "setting", "phase", "tokens"), TOO_LATE)
async def test_a_backend_that_is_too_slow_is_left_and_told_apart(
    sqlite_url: str,
    tmp_path: Path,
    fake: FakeModelServer,
    model: str,
    setting: dict[str, float],
    phase: str,
    tokens: int,
):
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, **setting), fake) as gateway:
        _, end = await failure(gateway, model)
    assert (end["error"]["code"], end["error"]["retryable"]) == ("BACKEND_TIMEOUT", True)
    assert phase in end["error"]["message"]
    assert end["usage"] == {"promptTokens": 4, "completionTokens": tokens, "source": "ESTIMATED"}
    request = await fake.request()
    await request.ended.wait()
    assert request.left


async def test_the_gateway_answers_after_every_failure(gateway: RunningGateway):
    for model in (*(name for name, *_ in IN_THE_STREAM), *(name for name, *_ in INSTEAD_OF_AN_ANSWER)):
        await failure(gateway, model)
    assert text_of(await gateway.events(GENERATE, asking("fake:count-3"))) == "0 1 2 "


async def test_a_failed_generation_can_be_watched_again(gateway: RunningGateway):
    events, end = await failure(gateway, "fake:error-3")
    again = await gateway.events(WATCH, {"id": end["generationId"]})
    assert (text_of(again), again[-1]) == (text_of(events), end)


async def test_a_backend_that_is_gone_is_told_from_a_model_that_never_was(sqlite_url: str, tmp_path: Path):
    async with AsyncExitStack() as life:
        fake = await life.enter_async_context(running_fake_model_server())
        fake.models += EVERY_MODEL
        async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url), fake) as gateway:
            await gateway.run("{ models { name } }")
            await life.aclose()
            answer = (await gateway.run(COMPLETE, asking("fake:count-3")))["generate"]
            assert (answer["__typename"], answer["code"]) == ("GenerateFailure", "BACKEND_UNAVAILABLE")
            refusal = (await gateway.run(START, asking("fake:none")))["startGeneration"]
            assert refusal["code"] == "MODEL_NOT_FOUND"
            assert "These backends do not answer now: ollama." in refusal["message"]


async def test_a_backend_that_comes_back_is_used_again(sqlite_url: str, tmp_path: Path):
    async with AsyncExitStack() as life:
        fake = await life.enter_async_context(running_fake_model_server())
        async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url), fake) as gateway:
            await life.aclose()
            assert not (await gateway.run("{ models { name } }"))["models"]
            async with running_fake_model_server(int(fake.url.rpartition(":")[2])) as again:
                again.models += EVERY_MODEL
                assert (await gateway.run(COMPLETE, asking("fake:count-3")))["generate"]["text"] == "0 1 2 "


async def test_a_backend_that_dies_mid_stream_is_told_as_gone(sqlite_url: str, tmp_path: Path):
    async with AsyncExitStack() as life:
        fake = await life.enter_async_context(running_fake_model_server())
        fake.models += EVERY_MODEL
        async with (
            running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url), fake) as gateway,
            gateway.connect() as socket,
        ):
            id = await start(gateway, "fake:stall-3")
            await socket.subscribe(WATCH, {"id": id})
            seen = ""
            while seen != "0 1 2 ":
                seen += text_of(await until(socket, "TextDelta"))
            await life.aclose()
            end = (await until(socket, "GenerationFailed"))[-1]
            assert (end["error"]["code"], end["usage"]["completionTokens"]) == ("BACKEND_UNAVAILABLE", 3)
            assert (await look(gateway, id))["state"] == "FAILED"
