"""The wrapper that bounds how long a model server may take."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing

import anyio
import anyio.lowlevel
import pytest

from backends.errors import BackendFailed, BackendTimeout, TimeoutPhase
from backends.ollama.backend import OllamaBackend
from backends.protocol import ChatRequest, Chunk, Message
from backends.timeouts import TimedBackend, Timeouts
from tests.support.fake_model_server import FakeModelServer, Script, running_fake_model_server

SOON = 0.05
"""Seconds. Long enough that a time-out is not there at once, short enough to wait for."""


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    async with running_fake_model_server() as fake:
        yield fake


@pytest.fixture
async def timed(fake: FakeModelServer) -> AsyncIterator[Callable[..., TimedBackend]]:
    """Make a backend with the time-outs given, and no others."""
    async with aclosing(OllamaBackend("ollama", fake.url)) as backend:
        yield lambda **seconds: TimedBackend(
            backend, Timeouts(**({"first_byte": None, "between_tokens": None, "total": None} | seconds))
        )


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def full_url() -> Iterator[str]:
    """A server that takes no more connections: its queue is full, so that the kernel drops what comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as one, socket.socket() as two:
        for client in (one, two):
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def read(backend: TimedBackend, model: str) -> list[Chunk]:
    chunks: list[Chunk] = []
    async with backend.generate(ChatRequest(f"fake:{model}", [Message("user", "hi")])) as batches:
        async for batch in batches:
            chunks += batch
    return chunks


async def phase_of(backend: TimedBackend, model: str) -> TimeoutPhase:
    with pytest.raises(BackendTimeout) as timeout:
        await read(backend, model)
    return timeout.value.phase


async def test_a_server_that_does_not_begin_is_too_slow(timed: Callable[..., TimedBackend]):
    assert await phase_of(timed(first_byte=SOON), "hold") is TimeoutPhase.FIRST_BYTE


async def test_a_server_that_begins_without_a_token_is_too_slow(timed: Callable[..., TimedBackend]):
    assert await phase_of(timed(first_byte=SOON), "stall-0") is TimeoutPhase.FIRST_BYTE


async def test_a_server_that_stops_between_tokens_is_too_slow(timed: Callable[..., TimedBackend]):
    assert await phase_of(timed(between_tokens=SOON), "stall-3") is TimeoutPhase.BETWEEN_TOKENS


async def test_an_answer_that_never_ends_is_too_slow(timed: Callable[..., TimedBackend]):
    assert await phase_of(timed(between_tokens=30, total=SOON), "paced-100000-1") is TimeoutPhase.TOTAL


async def test_the_total_counts_from_the_request(timed: Callable[..., TimedBackend]):
    assert await phase_of(timed(first_byte=30, total=SOON), "hold") is TimeoutPhase.TOTAL


async def test_a_connection_that_is_not_taken_is_too_slow(full_url: str):
    async with aclosing(OllamaBackend("ollama", full_url, connect_timeout=SOON)) as backend:
        with pytest.raises(BackendTimeout) as timeout:
            await backend.ping()
    assert (timeout.value.phase, str(timeout.value)) == (
        TimeoutPhase.CONNECT,
        "The model server took longer than 0.05 s (connect).",
    )


@pytest.mark.parametrize("question", ["models", "ping"])
async def test_a_server_that_never_answers_a_question_is_too_slow(silent_url: str, question: str):
    async with aclosing(OllamaBackend("ollama", silent_url)) as backend:
        with pytest.raises(BackendTimeout) as timeout:
            await getattr(TimedBackend(backend, Timeouts(first_byte=SOON)), question)()
    assert timeout.value.phase is TimeoutPhase.FIRST_BYTE


async def test_the_first_byte_has_its_own_bound_and_not_the_one_between_tokens(
    timed: Callable[..., TimedBackend], fake: FakeModelServer
):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, timed(first_byte=None, between_tokens=SOON), "hold")
        request = await fake.request()
        await anyio.sleep(SOON * 2)  # a slow start is what this is about
        request.release()
    assert not request.left


async def test_waiting_for_the_answer_to_begin_and_for_its_first_token_have_one_bound_together(
    timed: Callable[..., TimedBackend], fake: FakeModelServer
):
    # With a bound for each, the second would end after the total, and that would be the phase.
    fake.scripts["fake:both"] = Script(hold=True, stall=True)
    async with anyio.create_task_group() as tasks:

        async def release() -> None:
            request = await fake.request()
            await anyio.sleep(SOON * 3)
            request.release()
            request.released = anyio.Event()

        tasks.start_soon(release)
        assert await phase_of(timed(first_byte=SOON * 4, total=SOON * 6), "both") is TimeoutPhase.FIRST_BYTE
        tasks.cancel_scope.cancel()


async def test_a_slow_reader_does_not_make_the_server_look_slow(timed: Callable[..., TimedBackend]):
    tokens = 0
    backend = timed(first_byte=SOON, between_tokens=SOON)
    async with backend.generate(ChatRequest("fake:count-3", [Message("user", "hi")])) as batches:
        await anyio.sleep(SOON * 2)  # a slow reader is what this is about
        async for batch in batches:
            await anyio.sleep(SOON * 2)
            tokens += len(batch)
    assert tokens == 4


async def test_a_time_out_stops_the_servers_work(timed: Callable[..., TimedBackend], fake: FakeModelServer):
    await phase_of(timed(between_tokens=SOON), "stall")
    request = await fake.request()
    await request.ended.wait()
    assert request.left


async def test_a_reader_may_wait_for_something_after_the_time_out(timed: Callable[..., TimedBackend]):
    waited = False
    backend = timed(between_tokens=SOON)
    async with backend.generate(ChatRequest("fake:stall", [Message("user", "hi")])) as batches:
        try:
            async for _ in batches:
                pass
        except BackendTimeout:
            await anyio.lowlevel.checkpoint()
            waited = True
    assert waited


async def test_the_callers_own_cancellation_is_not_a_time_out(
    timed: Callable[..., TimedBackend], fake: FakeModelServer
):
    with anyio.move_on_after(SOON) as scope:
        await read(timed(first_byte=30, between_tokens=30, total=30), "stall")
    assert scope.cancelled_caught


async def test_errors_of_the_backend_inside_pass_through(timed: Callable[..., TimedBackend]):
    with pytest.raises(BackendFailed):
        await read(timed(first_byte=30, between_tokens=30, total=30), "error")


async def test_the_name_is_that_of_the_backend_inside(timed: Callable[..., TimedBackend]):
    assert timed().name == "ollama"


async def test_without_bounds_nothing_is_too_slow(timed: Callable[..., TimedBackend]):
    assert len(await read(timed(), "count-3")) == 4
