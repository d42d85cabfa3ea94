"""However a server writes an answer within its format, the answer is the same."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import BackendError
from backends.ollama.backend import OllamaBackend
from backends.ollama.stream import OllamaDecoder
from backends.openai import OpenAIBackend
from backends.openai.stream import OpenAIDecoder
from backends.protocol import (
    ChatRequest,
    Chunk,
    FinishChunk,
    FinishReason,
    Message,
    TextChunk,
    ThinkingChunk,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from backends.streaming import ChunkDecoder
from tests.support import mutated_answers
from tests.support.fake_model_server import Raw, running_fake_model_server
from tests.support.mutated_answers import (
    ARGUMENTS,
    CALL_ID,
    COMPLETION_TOKENS,
    NAME,
    PROMPT_TOKENS,
    TEXT,
    THINKING,
    Writer,
)
from tests.support.quirks import OLLAMA, OPENAI

WRITERS: dict[str, tuple[Callable[[Writer], bytes], Callable[[], ChunkDecoder]]] = {
    "ollama-chat": (mutated_answers.ollama_chat, OllamaDecoder),
    "ollama-generate": (mutated_answers.ollama_generate, OllamaDecoder),
    "openai": (mutated_answers.openai, OpenAIDecoder),
}


def decoded(decoder: ChunkDecoder, reads: Sequence[bytes]) -> list[Chunk]:
    """What `backends.streaming` makes of these reads."""
    chunks: list[Chunk] = []
    try:
        for data in reads:
            decoder.feed(data, chunks)
            if decoder.complete:
                return chunks
        decoder.end(chunks)
    except BackendError:
        if not decoder.finished:
            raise
    return chunks


def check(chunks: Sequence[Chunk], written: bytes) -> None:
    """Hold the chunks against the answer that was written."""
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk)) == TEXT, written
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, ThinkingChunk)) == THINKING, written
    [call] = [chunk.call for chunk in chunks if isinstance(chunk, ToolCallChunk)]
    assert (call.name, call.arguments) == (NAME, ARGUMENTS), written
    assert call.id == CALL_ID or CALL_ID not in written.decode(), written
    [finish] = [chunk for chunk in chunks if isinstance(chunk, FinishChunk)]
    assert finish.reason is FinishReason.TOOL_CALLS, written
    told = [chunk.usage for chunk in chunks if isinstance(chunk, FinishChunk | UsageChunk)]
    assert told[-1] == Usage(PROMPT_TOKENS, COMPLETION_TOKENS), written


@pytest.mark.parametrize("format", list(WRITERS))
@given(seed=st.integers(0, 2**32))
def test_an_answer_is_the_same_however_it_is_written(format: str, seed: int):
    write, decoder = WRITERS[format]
    writer = Writer(Random(seed))
    written = write(writer)
    check(decoded(decoder(), writer.reads(written)), written)


REQUEST = ChatRequest("fake:echo", [Message("user", "hello")])


async def test_it_is_the_same_over_http():
    async with (
        running_fake_model_server() as fake,
        aclosing(OllamaBackend("ollama", fake.url)) as ollama,
        aclosing(OpenAIBackend("openai", fake.url)) as openai,
    ):
        for seed in range(10):
            for backend, path, name in ((ollama, OLLAMA, "ollama-chat"), (openai, OPENAI, "openai")):
                writer = Writer(Random(seed))
                written = WRITERS[name][0](writer)
                fake.raw[path] = [Raw(writer.reads(written))]
                async with backend.generate(REQUEST) as batches:
                    check([chunk async for batch in batches for chunk in batch], written)
