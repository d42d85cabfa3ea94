"""Two gateways on one database that share no stream log: what one cannot do for the other is said, and not made up."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import GraphQLErrors, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import CANCEL, GENERATION, WATCH, look, start
from tests.support.polling import pause
from tests.test_replicas import SECRET

Two = tuple[RunningGateway, RunningGateway]


@pytest.fixture
async def apart(tmp_path: Path, sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(
                running_gateway(
                    gateway_settings(tmp_path / name, sqlite_url, fake.url, secret_key=SECRET, lease_time=0.5), fake
                )
            )
            for name in ("one", "other")
        ]
        yield one, other


async def test_a_cancellation_that_cannot_be_told_is_no_success(apart: Two, fake: FakeModelServer):
    one, other = apart
    id = await start(one, "fake:hold-3", onDisconnect="CONTINUE")
    with pytest.raises(GraphQLErrors) as caught:
        await other.run(CANCEL, {"id": id})
    assert caught.value.code == "STREAM_LOG_UNAVAILABLE"
    assert (await look(one, id))["state"] == "RUNNING"


async def test_what_runs_at_the_other_one_is_not_said_to_be_forgotten(apart: Two):
    one, other = apart
    id = await start(one, "fake:hold-3", onDisconnect="CONTINUE")
    with pytest.raises(GraphQLErrors) as caught:
        await other.events(WATCH, {"id": id})
    assert caught.value.code == "STREAM_LOG_UNAVAILABLE"
    assert "OLLAGRAPH_REDIS_URL" in str(caught.value)


async def test_the_text_of_what_ended_at_the_other_one_is_not_said_to_be_forgotten(apart: Two):
    one, other = apart
    id = await start(one, "fake:count-3", onDisconnect="CONTINUE")
    assert (await one.events(WATCH, {"id": id}))[-1]["__typename"] == "GenerationCompleted"
    with pytest.raises(GraphQLErrors) as caught:
        await other.run(GENERATION, {"id": id})
    assert caught.value.code == "STREAM_LOG_UNAVAILABLE"


async def test_they_warn_of_each_other(apart: Two, caplog: pytest.LogCaptureFixture):
    def warnings() -> list[str]:
        records = [*caplog.get_records("setup"), *caplog.get_records("call")]
        return [record.getMessage() for record in records if record.levelno == logging.WARNING]

    while not any("share no stream log" in warning for warning in warnings()):
        await pause()
