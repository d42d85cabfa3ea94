"""Traces: spans of operations, generations and model servers, below the client's, sent to a real OTLP receiver."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.app import create_app
from server.settings import SettingsError
from tests.support.databases import SqliteDatabases
from tests.support.gateways import RunningGateway, gateway_settings
from tests.support.generations import COMPLETE, GENERATE, asking
from tests.support.shared.gateways import gateway_before_fake
from tests.support.shared.otlp import Receiver, otlp_receiver

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
PROMPT = "a prompt that nobody else may read"


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """A receiver, to which what is started now sends its spans."""
    async with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
            monkeypatch.delenv(name, raising=False)
        yield receiver


@pytest.fixture
def traced(sqlite_databases: SqliteDatabases, tmp_path: Path):
    """Run a gateway that sends traces; all have been sent when the block is left."""

    @asynccontextmanager
    async def running(*, content: bool = False) -> AsyncIterator[RunningGateway]:
        async with gateway_before_fake(sqlite_databases, tmp_path, traces=True, traces_content=content) as gateway:
            gateway.fake.models += ["fake:loses-2-3", "fake:count-5", "fake:status-500"]
            yield gateway

    return running


async def test_an_operation_a_generation_and_its_model_server_are_one_trace(receiver: Receiver, traced):
    async with traced() as gateway:
        answered = await gateway.post(COMPLETE, asking("fake:count-5", PROMPT), traceparent=TRACEPARENT)
        assert "errors" not in answered.json()
        [asked] = [request for request in gateway.fake.requests if request.model == "fake:count-5"]
    [operation] = [span for span in receiver.named("mutation") if span.trace == TRACE]
    [generation], [attempt] = receiver.named("generate fake:count-5"), receiver.named("chat fake:count-5")
    assert (operation.parent, operation.service) == (PARENT, "ollagraph")
    assert (generation.trace, generation.parent) == (TRACE, operation.id)
    assert (attempt.trace, attempt.parent) == (TRACE, generation.id)
    assert asked.headers["traceparent"] == f"00-{TRACE}-{attempt.id}-01"
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "fake:count-5",
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ["stop"],
    }
    assert generation.attributes.items() >= told.items()
    assert attempt.attributes.items() >= (told | {"gen_ai.provider.name": "ollama"}).items()
    assert [span for span in receiver.spans if span.failed or span.events] == []
    assert PROMPT.encode() not in receiver.raw  # content is never told unless it is asked for
    assert b"0 1 2 3" not in receiver.raw


async def test_content_is_told_where_it_is_asked_for(receiver: Receiver, traced):
    async with traced(content=True) as gateway:
        await gateway.run(COMPLETE, asking("fake:count-5", PROMPT))
    [attempt] = receiver.named("chat fake:count-5")
    assert PROMPT in attempt.attributes["gen_ai.input.messages"]
    assert "0 1 2 3 4" in attempt.attributes["gen_ai.output.messages"]


async def test_each_attempt_has_a_span_and_a_failure_tells_its_kind_alone(receiver: Receiver, traced):
    async with traced() as gateway:
        await gateway.events(GENERATE, asking("fake:loses-2-3", PROMPT, onBackendLoss="CONTINUE"))
        await gateway.events(GENERATE, asking("fake:status-500", PROMPT))
    [generation] = receiver.named("generate fake:loses-2-3")
    first, second = receiver.named("chat fake:loses-2-3")
    assert {first.parent, second.parent} == {generation.id}
    assert (first.failed, first.attributes["error.type"]) == (True, "BackendUnavailable")
    assert (second.failed, generation.failed) == (False, False)
    [failed] = receiver.named("generate fake:status-500")
    assert (failed.failed, failed.attributes["error.type"]) == (True, "BACKEND_FAILED")
    assert [span for span in receiver.spans if span.events] == []


async def test_a_socket_gives_its_trace_when_it_opens_or_with_an_operation(receiver: Receiver, traced):
    other = TRACE[::-1]
    async with traced() as gateway:
        init = {**gateway.headers(), "traceparent": TRACEPARENT}
        async with gateway.connect(init=init) as socket:
            await socket.subscribe("query { viewer { method } }", id="1")
            assert [event async for event in socket.events("1")]
            extensions = {"traceparent": f"00-{other}-{PARENT}-01"}
            payload = {"query": "query { viewer { method } }", "extensions": extensions}
            await socket.send({"type": "subscribe", "id": "2", "payload": payload})
            assert [event async for event in socket.events("2")]
    assert [span.trace for span in receiver.named("query")] == [TRACE, other]


async def test_what_is_not_sampled_is_not_sent(receiver: Receiver, traced, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with traced() as gateway:
        await gateway.run(COMPLETE, asking("fake:count-5", PROMPT))
    assert receiver.spans == []


async def test_missing_packages_are_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "server.traces.spans", None)
    with pytest.raises(SettingsError, match=r"pip install 'ollagraph\[traces\]'"):
        create_app(gateway_settings(tmp_path, "sqlite://", None, traces=True))
