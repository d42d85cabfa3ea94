"""Counts the tokens of one generation exactly, however it ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from backends.protocol import (
    ChatRequest,
    Chunk,
    FinishChunk,
    TextChunk,
    ThinkingChunk,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from backends.wire import LARGEST_COUNT

CHARACTERS_PER_TOKEN = 4
"""The usual rule of thumb for English text and today's vocabularies."""

TOKENS_PER_IMAGE = 256
"""What common vision encoders make of one image."""


class UsageSource(StrEnum):
    """Where the numbers come from: the weakest source that was needed.

    BACKEND: the model server told them. COUNTED: the prompt was told, the completion was counted as it streamed.
    ESTIMATED: at least one of them had to be guessed from the text.
    """

    BACKEND = "BACKEND"
    COUNTED = "COUNTED"
    ESTIMATED = "ESTIMATED"


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What one generation used. `cached_tokens` are part of `prompt_tokens`; None where the backend does not tell."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    source: UsageSource = UsageSource.COUNTED


_STRENGTH = (UsageSource.BACKEND, UsageSource.COUNTED, UsageSource.ESTIMATED)

NO_USAGE = TokenUsage()
"""Nothing was asked of a model."""


def added(first: TokenUsage, second: TokenUsage) -> TokenUsage:
    """What two parts of one generation used together; the source is the weaker one's."""
    if NO_USAGE in (first, second):
        return second if first == NO_USAGE else first
    cached = [part.cached_tokens for part in (first, second) if part.cached_tokens is not None]
    return bounded(
        TokenUsage(
            prompt_tokens=first.prompt_tokens + second.prompt_tokens,
            completion_tokens=first.completion_tokens + second.completion_tokens,
            cached_tokens=sum(cached) if cached else None,
            source=max(first.source, second.source, key=_STRENGTH.index),
        )
    )


def bounded(usage: TokenUsage) -> TokenUsage:
    """The same counts, none larger than can be stored and told."""
    cached = None if usage.cached_tokens is None else min(usage.cached_tokens, LARGEST_COUNT)
    prompt, completion = min(usage.prompt_tokens, LARGEST_COUNT), min(usage.completion_tokens, LARGEST_COUNT)
    return TokenUsage(prompt, completion, cached, usage.source)


def estimated_prompt_tokens(request: ChatRequest) -> int:
    """A guess at the prompt's tokens, for when a backend was cut off before it told them."""
    characters = sum(len(message.content) + len(message.thinking or "") for message in request.messages)
    images = sum(len(message.images) for message in request.messages)
    return -(-characters // CHARACTERS_PER_TOKEN) + images * TOKENS_PER_IMAGE


class Meter:
    """Adds up the chunks of one answer.

    The backend's own numbers win, also those told mid-stream. Without them the completion is counted as it
    streams: the servers we speak to send one token a chunk; a whole tool call can only be estimated.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.eval_ms: int | None = None
        """What generating took, as the backend told it last."""
        self._request = request
        self._asked = False
        self._finished = False
        self._told = Usage()
        self._counted = 0
        self._estimated = 0

    def asked(self) -> None:
        """The request has gone out: from here on its prompt counts."""
        self._asked = True

    def refused(self) -> None:
        """The backend did not take the request: it costs nothing."""
        self._asked = False

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Take the chunks of one read."""
        for chunk in chunks:
            match chunk:
                case TextChunk() | ThinkingChunk():
                    self._counted += chunk.tokens
                case ToolCallChunk(call):
                    written = call.arguments_text or str(call.arguments)
                    self._estimated += -(-len(call.name + written) // CHARACTERS_PER_TOKEN)
                case UsageChunk() | FinishChunk():
                    self._told = _newer(self._told, chunk.usage)
                    self.eval_ms = chunk.eval_ms if chunk.eval_ms is not None else self.eval_ms
                    self._finished = self._finished or isinstance(chunk, FinishChunk)

    @property
    def counted(self) -> int:
        """How many tokens have come, as far as they can be counted."""
        return self._counted + self._estimated

    def usage(self) -> TokenUsage:
        """The numbers now; final once the answer has ended. A zero beside text was not told, only written."""
        if not self._asked:
            return TokenUsage()
        prompt = self._told.prompt_tokens or None
        completion = self._told.completion_tokens or (None if self.counted else self._told.completion_tokens)
        if prompt is not None and completion is not None and (self._finished or completion >= self._counted):
            return TokenUsage(prompt, completion, self._told.cached_tokens, UsageSource.BACKEND)
        guessed = prompt is None or self._estimated > 0
        return TokenUsage(
            prompt_tokens=estimated_prompt_tokens(self._request) if prompt is None else prompt,
            completion_tokens=min(max(self.counted, completion or 0), LARGEST_COUNT),
            cached_tokens=self._told.cached_tokens,
            source=UsageSource.ESTIMATED if guessed else UsageSource.COUNTED,
        )


def _newer(old: Usage, new: Usage) -> Usage:
    """What is known after `new` was told: a None in it takes nothing back."""
    return Usage(
        old.prompt_tokens if new.prompt_tokens is None else new.prompt_tokens,
        old.completion_tokens if new.completion_tokens is None else new.completion_tokens,
        old.cached_tokens if new.cached_tokens is None else new.cached_tokens,
    )
