"""What every backend promises (`backends.protocol.Backend`), held by each kind, bare and with time-outs round it."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from itertools import chain
from typing import Any

import anyio
import pytest

from backends.errors import (
    BackendError,
    BackendFailed,
    BackendModelNotFound,
    BackendOverloaded,
    BackendProtocolError,
    BackendRejected,
    BackendUnavailable,
)
from backends.ollama.backend import OllamaBackend
from backends.openai import OpenAIBackend
from backends.protocol import (
    Backend,
    ChatRequest,
    Chunk,
    FinishChunk,
    FinishReason,
    Message,
    TextChunk,
    ThinkingChunk,
    Tool,
    ToolCall,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from backends.timeouts import TimedBackend, Timeouts
from tests.support.fake_model_server import (
    FAILURE,
    NOT_FOUND,
    Ending,
    FakeModelServer,
    Script,
    running_fake_model_server,
)

KINDS: dict[str, Callable[[str], OllamaBackend | OpenAIBackend]] = {
    "ollama": lambda url: OllamaBackend("ollama", url),
    "openai": lambda url: OpenAIBackend("openai", url, "a-key"),
}
PATHS = {
    "ollama": {"models": "/api/tags", "chat": "/api/chat"},
    "openai": {"models": "/v1/models", "chat": "/v1/chat/completions"},
}
WEATHER = Tool("weather", "Tells the weather", {"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    async with running_fake_model_server() as fake:
        yield fake


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def bare(kind: str, fake: FakeModelServer) -> AsyncIterator[OllamaBackend | OpenAIBackend]:
    """A backend of each kind in turn."""
    async with aclosing(KINDS[kind](fake.url)) as backend:
        yield backend


@pytest.fixture(params=["bare", "timed"])
def backend(request: pytest.FixtureRequest, bare: OllamaBackend | OpenAIBackend) -> Backend:
    """The same, bare and with generous time-outs round it."""
    return bare if request.param == "bare" else TimedBackend(bare, Timeouts())


def ask(model: str, text: str = "one two three", **more: Any) -> ChatRequest:
    return ChatRequest(f"fake:{model}", [Message("user", text)], **more)


async def batches_of(backend: Backend, request: ChatRequest) -> list[list[Chunk]]:
    async with backend.generate(request) as batches:
        return [list(batch) async for batch in batches]


async def chunks_of(backend: Backend, request: ChatRequest) -> list[Chunk]:
    return list(chain.from_iterable(await batches_of(backend, request)))


async def failure_of(backend: Backend, request: ChatRequest) -> tuple[list[Chunk], BackendError]:
    """Give what came before the failure, and the failure."""
    chunks: list[Chunk] = []
    try:
        async with backend.generate(request) as batches:
            async for batch in batches:
                chunks += batch
    except BackendError as error:
        return chunks, error
    pytest.fail("the answer ended well")


def finish_of(chunks: list[Chunk]) -> FinishChunk:
    """The one end of an answer, with the usage that came behind it: nothing else may."""
    [place] = [index for index, chunk in enumerate(chunks) if isinstance(chunk, FinishChunk)]
    finish = chunks[place]
    assert isinstance(finish, FinishChunk)
    for chunk in chunks[place + 1 :]:
        assert isinstance(chunk, UsageChunk)
        finish = replace(finish, usage=chunk.usage)
    return finish


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk))


async def test_the_answer_comes_whole(backend: Backend):
    assert text_of(await chunks_of(backend, ask("echo", "Grüße an 世界 🌍"))) == "Grüße an 世界 🌍"


async def test_behind_the_end_of_an_answer_nothing_comes_but_usage(backend: Backend):
    assert finish_of(await chunks_of(backend, ask("count-5")))


async def test_the_finish_tells_the_usage(backend: Backend):
    chunks = await chunks_of(backend, ask("count-5", "four words of prompt"))
    assert finish_of(chunks).usage == Usage(prompt_tokens=4, completion_tokens=5)


async def test_usage_that_the_server_never_tells_is_unknown(backend: Backend):
    assert finish_of(await chunks_of(backend, ask("no-usage"))).usage == Usage(None, None, None)


async def test_every_piece_counts_as_one_token(backend: Backend):
    chunks = await chunks_of(backend, ask("count-5"))
    assert [chunk.tokens for chunk in chunks if isinstance(chunk, TextChunk)] == [1] * 5


async def test_no_batch_is_empty(backend: Backend):
    assert all(await batches_of(backend, ask("thinking")))


async def test_what_comes_in_one_read_is_one_batch(backend: Backend):
    (batch,) = await batches_of(backend, ask("together-20"))
    assert len(batch) == 21


async def test_an_answer_of_no_tokens_is_a_finish_alone(backend: Backend):
    assert [type(chunk) for chunk in await chunks_of(backend, ask("no-usage-0"))] == [FinishChunk]


async def test_stopping_at_the_length_is_told(backend: Backend):
    assert finish_of(await chunks_of(backend, ask("length"))).reason is FinishReason.LENGTH


async def test_stopping_by_itself_is_told(backend: Backend):
    assert finish_of(await chunks_of(backend, ask("echo"))).reason is FinishReason.STOP


async def test_thinking_is_kept_apart_from_the_answer(backend: Backend):
    chunks = await chunks_of(backend, ask("thinking", "yes"))
    assert [chunk for chunk in chunks if isinstance(chunk, TextChunk | ThinkingChunk)] == [
        ThinkingChunk("Let me "),
        ThinkingChunk("think."),
        TextChunk("yes"),
    ]


async def test_tool_calls_come_whole_with_their_arguments_decoded(backend: Backend):
    chunks = await chunks_of(backend, ask("tools-2", "Größe", tools=[WEATHER, Tool("time", "", {})]))
    assert [chunk.call for chunk in chunks if isinstance(chunk, ToolCallChunk)] == [
        ToolCall("call_0", "weather", {"text": "Größe"}),
        ToolCall("call_1", "time", {"text": "Größe"}),
    ]


async def test_an_answer_that_calls_tools_finishes_for_that_reason(backend: Backend):
    # The fake server says "stop", as Ollama does.
    assert finish_of(await chunks_of(backend, ask("tools", tools=[WEATHER]))).reason is FinishReason.TOOL_CALLS


BROKEN = {
    "error": BackendFailed,
    "malformed": BackendProtocolError,
    "truncated": BackendProtocolError,
    "cut": BackendUnavailable,
}


@pytest.mark.parametrize("model", list(BROKEN))
async def test_an_answer_that_breaks_raises_its_own_error(backend: Backend, model: str):
    _, error = await failure_of(backend, ask(model))
    assert type(error) is BROKEN[model]


@pytest.mark.parametrize("model", list(BROKEN))
async def test_tokens_that_came_before_a_failure_are_given_first(backend: Backend, model: str):
    chunks, _ = await failure_of(backend, ask(f"{model}-4"))
    assert text_of(chunks) == "0 1 2 3 "


async def test_tokens_and_the_failure_in_one_read_are_both_given(backend: Backend, fake: FakeModelServer):
    fake.scripts["both"] = Script(["a", "b"], together=True, ending=Ending.ERROR)
    chunks, error = await failure_of(backend, ChatRequest("both", [Message("user", "hi")]))
    assert (text_of(chunks), type(error)) == ("ab", BackendFailed)


async def test_an_error_in_the_stream_is_told_in_the_servers_words(backend: Backend):
    _, error = await failure_of(backend, ask("error"))
    assert str(error) == "the fake model failed on purpose"


STATUSES = {
    400: BackendRejected,
    404: BackendModelNotFound,
    408: BackendUnavailable,
    413: BackendRejected,
    422: BackendRejected,
    429: BackendOverloaded,
    500: BackendFailed,
    502: BackendUnavailable,
    503: BackendOverloaded,
    504: BackendUnavailable,
}


@pytest.mark.parametrize("status", list(STATUSES))
async def test_a_status_raises_the_error_that_it_means(backend: Backend, status: int):
    _, error = await failure_of(backend, ask(f"status-{status}"))
    assert (type(error), str(error)) == (STATUSES[status], NOT_FOUND if status == 404 else FAILURE)


async def test_a_model_that_the_server_lacks_is_not_found(backend: Backend):
    _, error = await failure_of(backend, ask("no-such"))
    assert (type(error), str(error)) == (BackendModelNotFound, "model 'fake:no-such' not found")


async def test_a_server_that_is_no_model_server_is_not_taken_for_a_missing_model(
    backend: Backend, kind: str, fake: FakeModelServer
):
    fake.replies[PATHS[kind]["chat"]] = (404, b"<html>Not Found</html>")
    _, error = await failure_of(backend, ask("echo"))
    assert type(error) is BackendRejected
    assert "Check the address" in str(error)


async def test_a_redirect_is_not_followed(backend: Backend, kind: str, fake: FakeModelServer):
    fake.replies[PATHS[kind]["chat"]] = (307, b"")
    _, error = await failure_of(backend, ask("echo"))
    assert type(error) is BackendRejected


async def test_a_servers_words_are_handed_on_without_addresses_and_keys(
    backend: Backend, kind: str, fake: FakeModelServer
):
    fake.replies[PATHS[kind]["chat"]] = (500, b'{"error": "Post \\"http://10.0.0.1/x\\": Bearer abc sk-12\\n failed"}')
    _, error = await failure_of(backend, ask("echo"))
    assert str(error) == 'Post "[...]": [...] [...] failed'


async def test_a_servers_words_are_shortened(backend: Backend, kind: str, fake: FakeModelServer):
    fake.replies[PATHS[kind]["chat"]] = (500, b'{"error": "' + b"x" * 100_000 + b'"}')
    _, error = await failure_of(backend, ask("echo"))
    assert len(str(error)) <= 300


async def test_models_are_listed_by_name(backend: Backend, fake: FakeModelServer):
    assert [model.name for model in await backend.models()] == fake.models


async def test_the_context_length_of_a_model_is_told(backend: Backend):
    assert all(model.context_length for model in await backend.models())


@pytest.mark.parametrize("body", [b"", b"7", b"{", b"{}", b'{"models": 1, "data": 1}'])
async def test_a_list_that_is_none_is_a_protocol_error(backend: Backend, kind: str, fake: FakeModelServer, body: bytes):
    fake.replies[PATHS[kind]["models"]] = (200, body)
    with pytest.raises(BackendProtocolError):
        await backend.models()


async def test_a_server_that_fails_at_its_list_says_so(backend: Backend, kind: str, fake: FakeModelServer):
    fake.replies[PATHS[kind]["models"]] = (500, b'{"error": "no disk"}')
    with pytest.raises(BackendFailed, match="no disk"):
        await backend.models()


async def test_a_server_that_answers_can_be_pinged(backend: Backend):
    await backend.ping()


async def test_a_closed_backend_is_unavailable(bare: OllamaBackend | OpenAIBackend):
    await bare.aclose()
    with pytest.raises(BackendUnavailable):
        await bare.ping()


async def test_leaving_early_stops_the_servers_work(backend: Backend, fake: FakeModelServer):
    async with backend.generate(ask("paced-100000-1")) as batches:
        await anext(batches)
    request = await fake.request()
    await request.ended.wait()
    assert request.left
    assert request.sent < 100_000


async def test_cancelling_the_reader_stops_the_servers_work(backend: Backend, fake: FakeModelServer):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chunks_of, backend, ask("stall"))
        request = await fake.request()
        tasks.cancel_scope.cancel()
    await request.ended.wait()
    assert request.left


async def test_cancelling_while_nothing_has_come_yet_stops_the_servers_work(backend: Backend, fake: FakeModelServer):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chunks_of, backend, ask("hold"))
        request = await fake.request()
        tasks.cancel_scope.cancel()
    await request.ended.wait()
    assert request.left


async def test_the_readers_own_exception_passes_through(backend: Backend):
    async def read() -> None:
        async with backend.generate(ask("count-5")) as batches:
            async for _ in batches:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read()


async def test_a_whole_answer_leaves_its_connection_to_the_next(backend: Backend, fake: FakeModelServer):
    await chunks_of(backend, ask("count-5"))
    await chunks_of(backend, ask("count-5"))
    assert fake.requests[0].client == fake.requests[1].client


async def test_reading_up_to_the_finish_alone_leaves_the_connection_too(backend: Backend, fake: FakeModelServer):
    for _ in range(2):
        async with backend.generate(ask("count-5")) as batches:
            async for batch in batches:
                if any(isinstance(chunk, FinishChunk) for chunk in batch):
                    break
    assert fake.requests[0].client == fake.requests[1].client


async def test_many_answers_at_once_are_kept_apart(backend: Backend):
    answers: dict[int, str] = {}

    async def answer(number: int) -> None:
        answers[number] = text_of(await chunks_of(backend, ask("echo", f"I am {number}")))

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(answer, number)
    assert answers == {number: f"I am {number}" for number in range(50)}
