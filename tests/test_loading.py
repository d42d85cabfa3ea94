"""Models that have to be loaded first: their askers are told, wait as long as that takes, and pay for no prompt."""

import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.lowlevel
import orjson
import pytest

from backends import loading
from backends.errors import BackendTimeout, TimeoutPhase
from backends.ollama.backend import OllamaBackend
from backends.ollama.loading import LoadingWatch
from backends.protocol import ChatRequest, Message, TextChunk
from backends.timeouts import TimedBackend, Timeouts
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, Socket
from tests.support.generations import GENERATE, asking, none_runs

SOON = 0.05


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LOOK_SECONDS", 0.01)


def loads(fake: FakeModelServer, *listed: Json) -> None:
    """From now on these models are loaded, or are about to be."""
    fake.replies["/api/ps"] = (200, orjson.dumps({"models": listed}))


async def next_event(socket: Socket) -> Json:
    return next(iter((await socket.receive())["payload"]["data"].values()))


@pytest.fixture
async def backend(fake: FakeModelServer) -> AsyncIterator[OllamaBackend]:
    async with aclosing(OllamaBackend("ollama", fake.url)) as backend:
        yield backend


async def test_a_viewer_is_told_that_the_model_is_being_loaded(gateway: RunningGateway):
    loads(gateway.fake)
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:hold-3"))
        assert (await next_event(socket))["__typename"] == "GenerationStarted"
        waits = await next_event(socket)
        assert (waits["__typename"], waits["position"], waits["reason"]) == ("GenerationQueued", 0, "LOADING")
        gateway.fake.release()
        rest = [event async for event in socket.events()]
    assert "".join(event.get("text", "") for event in rest) == "0 1 2 "
    assert rest[-1]["usage"] == {"promptTokens": 3, "completionTokens": 3, "source": "BACKEND"}


async def test_nobody_is_told_so_of_a_model_that_is_loaded(gateway: RunningGateway):
    loads(gateway.fake, {"name": "fake:hold-3", "expires_at": "2030-01-01T00:00:00Z"})
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:hold-3"))
        await gateway.fake.was_asked("GET /api/ps", 3)
        gateway.fake.release()
        kinds = [event["__typename"] async for event in socket.events()]
    assert "GenerationQueued" not in kinds


async def test_who_leaves_while_the_model_is_being_loaded_pays_nothing(gateway: RunningGateway):
    loads(gateway.fake)
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:hold-3"))
        await next_event(socket)
        generation = (await next_event(socket))["generationId"]
        await socket.complete()
        await none_runs(gateway)
    found = await gateway.run(
        "query($id: ID!) { generation(id: $id) { state usage { promptTokens completionTokens } } }", {"id": generation}
    )
    assert found["generation"] == {"state": "CANCELLED", "usage": {"promptTokens": 0, "completionTokens": 0}}


async def test_loading_has_a_bound_of_its_own(fake: FakeModelServer, backend: OllamaBackend):
    loads(fake)
    timed = TimedBackend(backend, Timeouts(load=None, first_byte=0.5))
    texts: list[str] = []

    async def on_loading(is_loading: bool) -> None:
        if is_loading:
            begun.set()

    async def ask() -> None:
        async with timed.generate(ChatRequest("fake:hold-3", [Message("user", "hi")]), on_loading) as batches:
            texts.extend([chunk.text async for batch in batches for chunk in batch if isinstance(chunk, TextChunk)])

    begun = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await begun.wait()
        await anyio.sleep(0.6)  # longer than the first token may take
        fake.release()
    assert texts == ["0 ", "1 ", "2 "]


async def test_it_ends_when_the_bound_is_reached(fake: FakeModelServer, backend: OllamaBackend):
    loads(fake)
    timed = TimedBackend(backend, Timeouts(load=SOON, first_byte=60))
    with pytest.raises(BackendTimeout) as timeout:
        async with timed.generate(ChatRequest("fake:hold-3", [Message("user", "hi")])):
            pass
    assert timeout.value.phase is TimeoutPhase.LOADING


async def test_the_first_token_has_its_whole_bound_once_the_model_is_loaded(
    fake: FakeModelServer, backend: OllamaBackend
):
    loads(fake)
    timed, told = TimedBackend(backend, Timeouts(load=60, first_byte=0.3)), list[bool]()

    async def on_loading(is_loading: bool) -> None:
        told.append(is_loading)
        if is_loading:
            loads(fake, {"name": "fake:hold-3", "expires_at": "2030-01-01T00:00:00Z"})

    with pytest.raises(BackendTimeout) as timeout:
        async with timed.generate(ChatRequest("fake:hold-3", [Message("user", "hi")]), on_loading):
            pass
    assert (timeout.value.phase, told) == (TimeoutPhase.FIRST_BYTE, [True, False])


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ([None, "1", "2", "3"], [True, True, True, True]),  # listed at once, and without a time to unload it
        ([None, "1", "1"], [True, True, False]),
        (["1", "1"], [False, False]),
        (["1", "2", "2"], [False, True, False]),
    ],
)
async def test_a_model_is_loaded_when_it_is_known_until_when(
    fake: FakeModelServer, backend: OllamaBackend, looks: list[str | None], found: list[bool]
):
    loaded = LoadingWatch(backend._client, "llama3:latest")  # pyright: ignore[reportPrivateUsage]
    seen: list[bool] = []
    for expires_at in looks:
        loads(fake, *([] if expires_at is None else [{"model": "llama3:latest", "expires_at": expires_at}]))
        seen.append(await loaded.is_loading())
    assert seen == found


async def test_a_look_that_fails_is_logged(
    fake: FakeModelServer, backend: OllamaBackend, caplog: pytest.LogCaptureFixture
):
    fake.replies["/api/ps"] = (500, b'{"error": "no list"}')
    loaded = LoadingWatch(backend._client, "llama3:latest")  # pyright: ignore[reportPrivateUsage]
    failed = anyio.Event()

    async def look() -> bool:
        try:
            return await loaded.is_loading()
        finally:
            failed.set()

    async def told(_: bool) -> None: ...

    with caplog.at_level("DEBUG", loading.__name__):
        async with loading.watching(look, told):
            await failed.wait()
    assert [record.getMessage() for record in caplog.records] == [
        "no further look at whether the model is loaded: no list"
    ]


@pytest.mark.parametrize("answer", [(404, b"{}"), (200, b"[]"), (200, b'{"models": [1, {"name": null}]}'), (500, b"x")])
async def test_a_server_that_does_not_tell_is_waited_for_as_ever(gateway: RunningGateway, answer: tuple[int, bytes]):
    gateway.fake.replies["/api/ps"] = answer
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:hold-3"))
        await gateway.fake.was_asked("GET /api/ps")
        gateway.fake.release()
        assert [event async for event in socket.events()][-1]["__typename"] == "GenerationCompleted"


async def test_a_model_that_runs_elsewhere_is_never_loaded_here(
    tmp_path: Path, backend: OllamaBackend, fake: FakeModelServer
):
    fake.replies["/api/tags"] = (200, b'{"models": [{"name": "fake:hold-3", "remote_host": "https://ollama.com"}]}')
    await backend.models()
    loads(fake)
    async with anyio.create_task_group() as tasks:
        async with aclosing(backend):
            tasks.start_soon(_release, fake)
            async with backend.generate(ChatRequest("fake:hold-3", [Message("user", "hi")]), _never):
                pass
    assert "GET /api/ps" not in fake.asked


async def _release(fake: FakeModelServer) -> None:
    await fake.request()
    await anyio.sleep(SOON)
    fake.release()


async def _never(is_loading: bool) -> None:
    raise AssertionError(is_loading)


async def test_a_block_that_ends_before_the_first_look_leaves_nothing_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(loading, "LOOK_SECONDS", 60)

    async def never(*_: bool) -> bool:
        pytest.fail("nobody looks, and nothing is told")

    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            async with loading.watching(never, never):
                await anyio.lowlevel.checkpoint()
        found = gc.collect()
    finally:
        gc.enable()
    assert found < 100  # a task that is cancelled leaves 30 each time
