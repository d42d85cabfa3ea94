"""Counts the tokens of one generation exactly, however it ends."""

from collections.abc import Sequence
from functools import cached_property

import orjson

from backends.estimates import estimated_tokens
from backends.protocol import (
    ChatRequest,
    Chunk,
    FinishChunk,
    MediaKind,
    TextChunk,
    ThinkingChunk,
    ToolCall,
    ToolCallChunk,
    UsageChunk,
)
from backends.usage import NOT_TOLD
from backends.wire import LARGEST_COUNT
from gateway.generation.estimates import Pieces, Prompt, Rates, rounded_up
from gateway.streams import NO_USAGE, TokenUsage, UsageSource, UsageSources, weakest

TOKENS_PER_IMAGE = 256
"""What common vision encoders make of one image."""


_GUESSED = UsageSources(UsageSource.ESTIMATED, UsageSource.ESTIMATED)
_COUNTED = UsageSources(UsageSource.ESTIMATED, UsageSource.COUNTED)


def added(first: TokenUsage, second: TokenUsage) -> TokenUsage:
    """Give what two parts of one generation used together; the source of a sum is the weaker one's."""
    if first is NO_USAGE:  # of nearly every generation, at each token
        return second
    if NO_USAGE in (first, second):
        return second if first == NO_USAGE else first
    return bounded(
        TokenUsage(
            prompt_tokens=first.prompt_tokens + second.prompt_tokens,
            completion_tokens=first.completion_tokens + second.completion_tokens,
            cached_tokens=_sum_of_told(first.cached_tokens, second.cached_tokens),
            sources=UsageSources(
                weakest(first.sources.prompt, second.sources.prompt),
                weakest(first.sources.completion, second.sources.completion),
                _source_of_told(first.sources.cached, second.sources.cached),
                _source_of_told(first.sources.thinking, second.sources.thinking),
            ),
            thinking_tokens=_sum_of_told(first.thinking_tokens, second.thinking_tokens),
        )
    )


def _sum_of_told(*counts: int | None) -> int | None:
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def _source_of_told(*sources: UsageSource | None) -> UsageSource | None:
    """Give the source of a sum: where one part was not told, there may be more than the sum."""
    if all(source is None for source in sources):
        return None
    return weakest(*(source or UsageSource.ESTIMATED for source in sources))


def bounded(usage: TokenUsage) -> TokenUsage:
    """Give the same counts, none larger than can be stored and told."""
    cached = None if usage.cached_tokens is None else min(usage.cached_tokens, LARGEST_COUNT)
    thinking = None if usage.thinking_tokens is None else min(usage.thinking_tokens, LARGEST_COUNT)
    prompt, completion = min(usage.prompt_tokens, LARGEST_COUNT), min(usage.completion_tokens, LARGEST_COUNT)
    return TokenUsage(prompt, completion, cached, usage.sources, thinking)


def prompt_of(request: ChatRequest) -> Prompt:
    """Give what a prompt's tokens are guessed from, for when a backend was cut off before it told them."""
    tokens = float(TOKENS_PER_IMAGE * images_in(request))
    for message in request.messages:
        tokens += estimated_tokens(message.text) + estimated_tokens(message.thinking or "")
        tokens += sum(_call_tokens(call) for call in message.tool_calls)
    for tool in request.tools:
        tokens += estimated_tokens(tool.name + tool.description + orjson.dumps(tool.parameters).decode())
    return Prompt(tokens, len(request.messages))


def images_in(request: ChatRequest) -> int:
    """Count how many images a request has."""
    return sum(message.media.count(MediaKind.IMAGE) for message in request.messages)


def _call_tokens(call: ToolCall) -> float:
    return estimated_tokens(call.name + (call.arguments_text or orjson.dumps(call.arguments).decode()))


class Meter:
    """Adds up the chunks of one answer.

    The backend's own numbers win, also those told mid-stream. Without them the completion is counted as it
    streams: the servers we speak to send one token a chunk. What is more than that, or a whole tool call, can only be
    estimated, as the prompt can: by the rates of the model that was `asked`, which `learn` from what it tells.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.eval_ms: int | None = None
        """What generating took, as the backend told it last."""
        self.prompt_ms: int | None = None
        """What reading the prompt took, as the backend told it last."""
        self._request = request
        self._asked = False
        self._finished = False
        self._told = NOT_TOLD
        self._counted = 0
        self._thought = False
        self._pieces = Pieces()
        self._calls = 0
        self._rates = Rates()
        self._final: TokenUsage | None = None
        self._now: TokenUsage | None = None

    def asked(self, rates: Rates | None = None) -> None:
        """Give the request goes out to a model with these rates: from here on its prompt counts."""
        self._asked, self._now = True, None
        self._rates = rates or self._rates

    def refused(self) -> None:
        """Give the backend did not take the request, or has not begun to read it: it costs nothing."""
        self._asked = False

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Take the chunks of one read."""
        self._now = None
        for chunk in chunks:
            match chunk:
                case TextChunk() | ThinkingChunk():
                    self._counted += chunk.tokens
                    self._thought = self._thought or isinstance(chunk, ThinkingChunk)
                    self._pieces.add(chunk.text, chunk.tokens)
                case ToolCallChunk(call):
                    self._calls += rounded_up(_call_tokens(call))
                case UsageChunk() | FinishChunk():
                    self._told = self._told.updated(chunk.usage)
                    self.eval_ms = chunk.eval_ms if chunk.eval_ms is not None else self.eval_ms
                    self.prompt_ms = chunk.prompt_ms if chunk.prompt_ms is not None else self.prompt_ms
                    self._finished = self._finished or isinstance(chunk, FinishChunk)

    @property
    def counted(self) -> int:
        """How many tokens have come, as far as they can be counted."""
        return self._counted + self._calls

    def end(self) -> None:
        """Take the answer for ended: its numbers stay, and the rates learn from them where the backend told them all.

        Other answers go on teaching the rates, and whoever asks later must be told what stands in the attempts.
        """
        self._now = None
        self._final = usage = self.usage()
        if usage.source is not UsageSource.BACKEND:
            return
        if not images_in(self._request):  # models differ too much in what they make of them
            self._rates.learn_prompt(self._prompt, usage.prompt_tokens)
        if not self._calls:
            self._rates.learn_answer(self._pieces, usage.completion_tokens)

    @cached_property
    def _prompt(self) -> Prompt:
        return prompt_of(self._request)

    def usage(self) -> TokenUsage:
        """Give the numbers now; final once the answer has ended. A zero beside text was not told, only written."""
        if not self._asked:
            return TokenUsage()
        if self._final is not None:
            return self._final
        if self._now is None:  # two ask at each token
            self._now = self._counted_up()
        return self._now

    def _counted_up(self) -> TokenUsage:
        prompt = self._told.prompt_tokens or None
        completion = self._told.completion_tokens or (None if self.counted else self._told.completion_tokens)
        if prompt is not None and completion is not None and (self._finished or completion >= self._counted):
            thinking = self._thinking(completion)
            sources = self._sources(UsageSource.BACKEND, UsageSource.BACKEND, thinking)
            return TokenUsage(prompt, completion, self._told.cached_tokens, sources, thinking)
        said = self._rates.answer_tokens(self._pieces)
        guessed = self._calls > 0 or said != self._counted
        written = min(max(said + self._calls, completion or 0), LARGEST_COUNT)
        if self._told is NOT_TOLD:  # at nearly each token: the same, without a look at each number
            sources = _GUESSED if guessed else _COUNTED
            return TokenUsage(self._rates.prompt_tokens(self._prompt), written, None, sources)
        thinking = self._thinking(written)
        return TokenUsage(
            prompt_tokens=self._rates.prompt_tokens(self._prompt) if prompt is None else prompt,
            completion_tokens=written,
            cached_tokens=self._told.cached_tokens,
            sources=self._sources(
                UsageSource.ESTIMATED if prompt is None else UsageSource.BACKEND,
                UsageSource.ESTIMATED if guessed else UsageSource.COUNTED,
                thinking,
            ),
            thinking_tokens=thinking,
        )

    def _sources(self, prompt: UsageSource, completion: UsageSource, thinking: int | None) -> UsageSources:
        """Give the sources: what is cached, and what was thinking, nobody but the backend knows."""
        told = UsageSource.BACKEND
        cached = None if self._told.cached_tokens is None else told
        return UsageSources(prompt, completion, cached, None if thinking is None else told)

    def _thinking(self, completion: int) -> int | None:
        """Give the part of the completion that was thinking, where what was told of it can be that."""
        told = self._told.thinking_tokens
        if told is None or told > completion or (told == 0 and self._thought):
            return None
        return told
