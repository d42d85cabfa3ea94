"""What happens in the life of one generation, as values in the order of the stream log.

    Queued* ── Started ── Queued* ── (TextDelta | ThinkingDelta | ToolCallRequested | Resumed)* ── end

    end = Completed | Cancelled | Failed

It is queued again where its model has to be loaded. Each event has a sequence number, from 1, without gaps; the last
one is the only terminal event.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from backends.logprobs import TokenLogprob
from backends.protocol import ToolCall
from gateway.errors import ErrorCode


class UsageSource(StrEnum):
    """Where a number comes from, the strongest source first.

    BACKEND: the model server told it. COUNTED: it was counted as the answer streamed. ESTIMATED: it had to be guessed
    from the text, or a part of it was not told.
    """

    BACKEND = "BACKEND"
    COUNTED = "COUNTED"
    ESTIMATED = "ESTIMATED"


_STRENGTH = tuple(UsageSource)


def weakest(*sources: UsageSource | None) -> UsageSource:
    """Give the weakest of these; None is a number that is not there."""
    return max((source for source in sources if source is not None), key=_STRENGTH.index)


class UsageSources(NamedTuple):
    """Where each number of a generation's usage comes from; None with a number that is None."""

    prompt: UsageSource = UsageSource.COUNTED
    completion: UsageSource = UsageSource.COUNTED
    cached: UsageSource | None = None
    thinking: UsageSource | None = None

    @classmethod
    def of_weakest(cls, source: UsageSource, prompt: int, cached: int | None, thinking: int | None) -> Self:
        """Give what gateways before 1.0 meant, which told the weakest source alone."""
        told = UsageSource.BACKEND
        return cls(
            told if source is UsageSource.COUNTED and prompt else source,
            source,
            None if cached is None else told,
            None if thinking is None else told,
        )


COUNTED_BY_US = UsageSources()
"""Nothing was told."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What one generation used.

    `cached_tokens` are part of `prompt_tokens`, and `thinking_tokens` of `completion_tokens`; None where the backend
    does not tell.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    sources: UsageSources = COUNTED_BY_US
    thinking_tokens: int | None = None

    @property
    def source(self) -> UsageSource:
        """The weakest source of the prompt's and the answer's count, which are what is billed."""
        prompt, completion = self.sources.prompt, self.sources.completion
        return prompt if prompt is completion else weakest(prompt, completion)


NO_USAGE = TokenUsage()
"""Nothing was asked of a model."""


class FinishReason(StrEnum):
    """Why a generation ended without an error."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REPETITION = "repetition"


class CancelReason(StrEnum):
    """Why a generation was cancelled."""

    REQUESTED = "REQUESTED"
    VIEWERS_LEFT = "VIEWERS_LEFT"
    DEADLINE = "DEADLINE"
    LIMIT = "LIMIT"
    SHUTDOWN = "SHUTDOWN"


class QueueReason(StrEnum):
    """What it waits for."""

    BUSY = "BUSY"
    LOADING = "LOADING"
    LIMIT = "LIMIT"


@dataclass(frozen=True, slots=True)
class Queued:
    """It waits for a place at the backend, or for a limit; at position 0, for the backend to load the model.

    `position` is 1 for the next one to be taken.
    """

    sequence: int
    position: int
    reason: QueueReason = QueueReason.BUSY


@dataclass(frozen=True, slots=True)
class Started:
    """Its turn has come and the backend is asked. Gateways before 1.0 did not tell which one."""

    sequence: int
    queued_ms: int
    backend: str = ""


@dataclass(slots=True)
class TextDelta:
    """A piece of the answer. `offset` is where it begins in the whole text, in UTF-16 units as JavaScript counts.

    `logprobs` are those of its tokens; None where nobody asked for them, or the backend did not tell. Nobody changes
    one: there may be one for each token, and frozen it would take twice as long to make.
    """

    sequence: int
    text: str
    offset: int
    tokens: int
    logprobs: Sequence[TokenLogprob] | None = None


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """A piece of the model's reasoning; `offset` counts in the reasoning alone."""

    sequence: int
    text: str
    offset: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ToolCallRequested:
    """The model wants a tool called."""

    sequence: int
    call: ToolCall


class LossReason(StrEnum):
    """What an answer lost on the way."""

    BACKEND_LOST = "BACKEND_LOST"
    GATEWAY_LOST = "GATEWAY_LOST"


@dataclass(frozen=True, slots=True)
class Resumed:
    """The resume point: what comes behind was said by another model server, or through another gateway."""

    sequence: int
    reason: LossReason
    backend: str


@dataclass(frozen=True, slots=True)
class Completed:
    """It ended as it should."""

    sequence: int
    finish_reason: FinishReason
    usage: TokenUsage


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It was ended before its time. What was said before stands, and is counted in `usage`."""

    sequence: int
    reason: CancelReason
    usage: TokenUsage


@dataclass(frozen=True, slots=True)
class Failed:
    """It ended with an error. What was said before stands, and is counted in `usage`."""

    sequence: int
    code: ErrorCode
    message: str
    retryable: bool
    usage: TokenUsage
    retry_after_ms: int | None = None


Delta = TextDelta | ThinkingDelta
End = Completed | Cancelled | Failed
Event = Queued | Started | TextDelta | ThinkingDelta | ToolCallRequested | Resumed | End
TERMINAL = (Completed, Cancelled, Failed)

LONGEST_MERGED = 65_536
"""Characters: many WebSocket clients refuse a message of more than 1 MiB."""

LOGPROB_CHARACTERS = 64
"""What a logprob counts as beside its token, which makes a thousand of them an event: each is some 100 bytes there."""


def utf16_length(text: str) -> int:
    """Give the length of a string as JavaScript counts it: characters beyond U+FFFF are two."""
    return len(text) if text.isascii() else len(text) + sum(character > "\uffff" for character in text)


def merged(events: Sequence[Event]) -> Sequence[Event]:
    """Give the same stream in fewer events: neighbouring deltas of one kind become one, under the last one's sequence.

    It is what a viewer gets that is slower than the model: nothing is lost, and a cursor taken from the merged
    event is right. No event grows beyond `LONGEST_MERGED` by it.
    """
    if len(events) == 1:
        return events
    result: list[Event] = []
    run: list[Delta] = []
    length = 0

    def close_run() -> None:
        if len(run) == 1:
            result.append(run[0])
        elif run:
            first, last = run[0], run[-1]
            text = "".join(delta.text for delta in run)
            tokens = sum(delta.tokens for delta in run)
            if isinstance(first, TextDelta):
                result.append(TextDelta(last.sequence, text, first.offset, tokens, _all_logprobs(run)))
            else:
                result.append(ThinkingDelta(last.sequence, text, first.offset, tokens))
        run.clear()

    for event in events:
        if isinstance(event, TextDelta | ThinkingDelta):
            more = len(event.text)
            if isinstance(event, TextDelta) and event.logprobs is not None:
                more += LOGPROB_CHARACTERS * len(event.logprobs)
            if run and (type(run[0]) is not type(event) or length + more > LONGEST_MERGED):
                close_run()
                length = 0
            run.append(event)
            length += more
        else:
            close_run()
            length = 0
            result.append(event)
    close_run()
    return result


def _all_logprobs(deltas: Iterable[Delta]) -> list[TokenLogprob] | None:
    """Give those of all deltas together; None where none has any."""
    told = [delta.logprobs for delta in deltas if isinstance(delta, TextDelta) and delta.logprobs is not None]
    return [logprob for logprobs in told for logprob in logprobs] if told else None
