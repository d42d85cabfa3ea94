"""A model server that fails at its answers is left alone, tried again, and used again."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from shutil import copy
from typing import Any

import anyio
import pytest

from gateway.catalog import BreakerState
from server.fake_model_server.scripts import Ending, Script
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import CANCEL, GENERATE, asking, ends, next_event, start, text_of, until
from tests.support.polling import pause

FAILURES = 3
BACKENDS = "{ backends { name ready breaker } models { name deployments { backend } } }"
SPARE = "fake:count-3"
MODEL = "m"
OTHER_USER = "ada"
LONG, SHORT = 60.0, 0.01
ROOT = Path(__file__).parent.parent


@asynccontextmanager
async def gateway_before(
    fake: FakeModelServer, folder: Path, url: str, *, breaker_pause: float = LONG, **others: Any
) -> AsyncGenerator[RunningGateway]:
    """A gateway whose first model server fails at each answer of the model `m`, until it is healed."""
    fake.models, fake.behaviours[MODEL] = [MODEL, SPARE], "fake:status-500"
    breaker = {"breaker_failures": FAILURES, "breaker_pause": breaker_pause}
    async with running_gateway(gateway_settings(folder, url, fake.url, **breaker, **others), fake) as gateway:
        yield gateway


@pytest.fixture
async def gateway(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncGenerator[RunningGateway]:
    async with gateway_before(fake, tmp_path, sqlite_url) as gateway:
        yield gateway


@pytest.fixture
async def trying(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncGenerator[RunningGateway]:
    """One that tries again at once."""
    async with gateway_before(fake, tmp_path, sqlite_url, breaker_pause=SHORT) as gateway:
        yield gateway


def heal(gateway: RunningGateway, behaviour: str = "fake:count-3") -> None:
    gateway.fake.behaviours[MODEL] = behaviour


async def ask(gateway: RunningGateway, model: str = MODEL, **fields: Any) -> Json:
    """The end of a generation."""
    (end,) = ends(await gateway.events(GENERATE, asking(model, **fields)))
    return end


async def break_it(gateway: RunningGateway) -> None:
    for _ in range(FAILURES):
        assert (await ask(gateway))["error"]["code"] == "BACKEND_FAILED"


async def state(gateway: RunningGateway, name: str = "ollama") -> str:
    return {it["name"]: it["breaker"] for it in (await gateway.run(BACKENDS))["backends"]}[name]


async def until_state(gateway: RunningGateway, wanted: str) -> None:
    with anyio.fail_after(30):
        while await state(gateway) != wanted:
            await pause()


async def test_after_failures_in_a_row_a_model_server_is_not_asked_and_the_refusal_says_when(gateway: RunningGateway):
    await break_it(gateway)
    end = await ask(gateway)
    assert len(gateway.fake.requests) == FAILURES
    assert (end["error"]["code"], end["error"]["retryable"]) == ("BACKEND_UNAVAILABLE", True)
    assert 0 < end["error"]["retryAfterMs"] <= LONG * 1000
    assert end["usage"] == {"promptTokens": 0, "completionTokens": 0, "source": "COUNTED"}
    told = await gateway.run(BACKENDS)
    assert told["backends"] == [{"name": "ollama", "ready": True, "breaker": "OPEN"}]
    readiness = await gateway.client.get(
        "/readyz"
    )  # it stays ready: without requests nobody would try the server again
    assert (readiness.status_code, readiness.json()["backends"][0]["breakers"]) == (200, {"OPEN": 1})


@pytest.mark.parametrize(
    ("behaviour", "opens"),
    [
        ("fake:status-500", True),
        ("fake:status-503", True),
        ("fake:error-3", True),
        ("fake:cut-3", True),
        ("fake:truncated-3", True),
        ("fake:malformed-3", True),
        ("fake:status-400", False),
        ("fake:status-404", False),
        ("fake:status-429", False),
        ("fake:count-3", False),
    ],
)
async def test_what_opens_it_is_the_fault_of_the_server(gateway: RunningGateway, behaviour: str, opens: bool):
    heal(gateway, behaviour)
    for _ in range(FAILURES):
        await ask(gateway)
    assert await state(gateway) == ("OPEN" if opens else "CLOSED")


async def test_a_server_that_cannot_be_reached_is_left_alone_until_it_is_back(sqlite_url: str, tmp_path: Path):
    async with AsyncExitStack() as life:
        fake = await life.enter_async_context(running_fake_model_server())
        async with gateway_before(fake, tmp_path, sqlite_url) as gateway:
            assert (await ask(gateway, SPARE))["__typename"] == "GenerationCompleted"
            await life.aclose()
            told = [(await ask(gateway, SPARE))["error"] for _ in range(FAILURES + 1)]
            assert {error["code"] for error in told} == {"BACKEND_UNAVAILABLE"}
            assert [error["retryAfterMs"] is None for error in told] == [True] * FAILURES + [False]
            async with running_fake_model_server(int(fake.url.rpartition(":")[2])) as again:
                again.models = [SPARE]
                await until_state(gateway, "HALF_OPEN")
                assert (await ask(gateway, SPARE))["__typename"] == "GenerationCompleted"


async def test_what_is_cancelled_tells_nothing(gateway: RunningGateway):
    heal(gateway, "fake:hold-3")
    for _ in range(FAILURES):
        generation_id = await start(gateway, MODEL)
        await gateway.run(CANCEL, {"id": generation_id})
    assert await state(gateway) == "CLOSED"


async def test_an_answer_begins_the_count_anew(gateway: RunningGateway):
    for _ in range(2):
        for _ in range(FAILURES - 1):
            await ask(gateway)
        assert (await ask(gateway, SPARE))["__typename"] == "GenerationCompleted"
    assert await state(gateway) == "CLOSED"


async def test_a_trial_that_is_answered_closes_it(trying: RunningGateway):
    await break_it(trying)
    await until_state(trying, "HALF_OPEN")
    heal(trying)
    assert (await ask(trying))["__typename"] == "GenerationCompleted"
    assert await state(trying) == "CLOSED"


async def test_a_trial_that_fails_opens_it_again(trying: RunningGateway):
    await break_it(trying)
    await until_state(trying, "HALF_OPEN")
    assert (await ask(trying))["error"]["code"] == "BACKEND_FAILED"
    assert len(trying.fake.requests) == FAILURES + 1
    assert await state(trying) in ("OPEN", "HALF_OPEN")


async def test_one_trial_at_a_time_and_the_first_word_of_its_answer_lets_the_others_in(trying: RunningGateway):
    await break_it(trying)
    await until_state(trying, "HALF_OPEN")
    heal(trying, "fake:hold-3")
    async with trying.connect() as socket:
        await socket.subscribe(GENERATE, asking(MODEL))
        held = await trying.fake.request(FAILURES)
        assert (await ask(trying))["error"]["code"] == "BACKEND_UNAVAILABLE"
        heal(trying, "fake:stall-3")
        held.release()
        await until(socket, "GenerationCompleted")
        await socket.subscribe(GENERATE, asking(MODEL), id="2")
        await until(socket, "TextDelta", id="2")
        assert await state(trying) == "CLOSED"


async def test_a_trial_that_is_cancelled_leaves_it_to_the_next_one(trying: RunningGateway):
    await break_it(trying)
    await until_state(trying, "HALF_OPEN")
    heal(trying, "fake:hold-3")
    generation_id = await start(trying, MODEL)
    await trying.fake.request(FAILURES)
    await trying.run(CANCEL, {"id": generation_id})
    assert await state(trying) == "HALF_OPEN"
    heal(trying)
    assert (await ask(trying))["__typename"] == "GenerationCompleted"


async def test_a_server_that_came_back_is_tried_without_waiting_for_the_pause(gateway: RunningGateway):
    await break_it(gateway)
    gateway.fake.replies["/api/tags"] = (500, b"")
    assert not (await gateway.run(BACKENDS))["backends"][0]["ready"]
    del gateway.fake.replies["/api/tags"]
    await until_state(gateway, "HALF_OPEN")
    heal(gateway)
    assert (await ask(gateway))["__typename"] == "GenerationCompleted"


async def test_failures_of_one_model_keep_out_no_other(gateway: RunningGateway):
    await break_it(gateway)
    assert (await ask(gateway))["error"]["code"] == "BACKEND_UNAVAILABLE"
    assert (await ask(gateway, SPARE))["__typename"] == "GenerationCompleted"


async def test_failures_of_one_user_keep_out_nobody_else(gateway: RunningGateway):
    await break_it(gateway)
    await gateway.make_user(OTHER_USER)
    mine = gateway.token
    await gateway.sign_in(OTHER_USER)
    heal(gateway)
    assert (await ask(gateway))["__typename"] == "GenerationCompleted"
    gateway.token = mine
    assert (await ask(gateway))["__typename"] == "GenerationCompleted"


async def test_who_waits_for_a_slot_is_told_at_once_while_it_is_left_alone(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    async with gateway_before(fake, tmp_path, sqlite_url, ollama_parallel=1) as gateway:
        await break_it(gateway)
        await gateway.make_user(OTHER_USER)
        mine = gateway.token
        await gateway.sign_in(OTHER_USER)
        heal(gateway, "fake:hold-3")
        await start(gateway, MODEL)  # holds the one slot
        await fake.request(FAILURES)
        gateway.token = mine
        assert (await ask(gateway))["error"]["code"] == "BACKEND_UNAVAILABLE"


async def test_a_model_with_another_backend_is_served_there(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    async with running_fake_model_server() as other:
        other.models, other.behaviours[MODEL] = [MODEL], "fake:count-3"
        async with gateway_before(fake, tmp_path, sqlite_url, openai_url=other.url) as gateway:
            await break_it(gateway)
            end = await ask(gateway)
            assert (end["__typename"], len(other.requests)) == ("GenerationCompleted", 1)
            models = {it["name"]: it for it in (await gateway.run(BACKENDS))["models"]}
            assert models[MODEL]["deployments"] == [
                {"backend": "openai"},
                {"backend": "ollama"},
            ]
            assert await state(gateway, "openai") == "CLOSED"


async def test_what_waits_for_a_slot_when_it_opens_goes_elsewhere(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    async with running_fake_model_server() as other:
        other.models, other.behaviours[MODEL] = [MODEL], "fake:count-3"
        async with (
            gateway_before(fake, tmp_path, sqlite_url, openai_url=other.url, ollama_parallel=1) as gateway,
            gateway.connect() as socket,
        ):
            for _ in range(FAILURES - 1):
                await ask(gateway)
            fake.scripts[MODEL] = Script(text=["a "], stall=True, ending=Ending.ERROR)
            await start(gateway, MODEL)
            last = await fake.request(FAILURES - 1)
            await socket.subscribe(GENERATE, asking(MODEL))
            assert (await next_event(socket))["__typename"] == "GenerationQueued"
            last.release()
            events = await until(socket, "GenerationCompleted")
            assert text_of(events) == "0 1 2 "
            assert len(other.requests) == 1


async def test_what_may_continue_waits_until_it_is_tried_again(trying: RunningGateway):
    await break_it(trying)
    heal(trying)
    end = await ask(trying, onBackendLoss="CONTINUE")
    assert end["__typename"] == "GenerationCompleted"


async def test_the_log_the_metrics_and_plugins_are_told(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, caplog: pytest.LogCaptureFixture
):
    token = "a-token-of-prometheus"
    (tmp_path / "plugins").mkdir()
    copy(ROOT / "tests/support/plugins/all_hooks.py", tmp_path / "plugins")
    others = {"plugins_dir": tmp_path / "plugins", "metrics_token": token, "breaker_pause": SHORT}
    async with gateway_before(fake, tmp_path, sqlite_url, **others) as gateway:
        await break_it(gateway)
        scraped = await gateway.client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
        heal(gateway)
        await until_state(gateway, "HALF_OPEN")
        await ask(gateway)
        [plugin] = gateway.app.running.plugins.threads
        while plugin.waiting:
            await pause()
        told = [value.breaker for name, value in plugin.plugin.told if name == "backend"]  # pyright: ignore
    gauges = {
        state: f'breaker{{backend="ollama",state="{state}"}} {float(state != "CLOSED")}' for state in BreakerState
    }
    assert gauges["CLOSED"] in scraped.text
    assert sum(gauge in scraped.text for gauge in gauges.values()) == 2  # its short pause may be over by then
    assert told == ["CLOSED", "OPEN", "CLOSED"]  # the first tells that the server answers
    said = [record.getMessage() for record in caplog.records if record.name == "gateway.catalog.breaker"]
    assert said == ["backend ollama is left alone for 0.01 s after 3 failures in a row", "backend ollama answers again"]
