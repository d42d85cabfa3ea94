"""Makes the events of one generation, and writes them into the stream log once its row is in the database."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from uuid import UUID

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from backends.protocol import Chunk, TextChunk, ThinkingChunk, ToolCallChunk, UsageChunk
from gateway.streams import (
    Event,
    StreamLog,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCallRequested,
    utf16_length,
)


class Writer:
    """The one who writes a stream. Nothing is shown before `show`, though the backend may be asked already.

    What stands at the beginning can be held until then, everything else waits. Nor has a generation an end before it:
    whoever writes that waits for `shown`.
    """

    def __init__(self, log: StreamLog, generation_id: UUID) -> None:
        self.shown = anyio.Event()
        self._log = log
        self._generation_id = generation_id
        self._held: list[Event] = []
        self._sequence = 0

    @property
    def next(self) -> int:
        """The number of the next event."""
        return self._sequence + len(self._held) + 1

    def go_on(self, sequence: int) -> None:
        """Write behind what another gateway wrote."""
        self._sequence = sequence
        self.shown.set()

    def hold(self, event: Event) -> None:
        """Keep an event for the beginning."""
        self._held.append(event)

    async def append(self, events: Sequence[Event]) -> None:
        """Append events. A number is used up only when the log has taken its event, so the end fits after a failure."""
        if not self.shown.is_set():
            await self.shown.wait()
            await checkpoint_if_cancelled()  # it may have been for nothing
        await self._log.append(self._generation_id, events)
        self._sequence += len(events)

    async def show(self) -> None:
        """Append what was held, and let the rest follow: the row is in the database. Raises what the log does."""
        try:
            while self._held:
                held = list(self._held)
                await self._log.append(self._generation_id, held)
                self._sequence += len(held)
                del self._held[: len(held)]
        finally:
            self._held.clear()
            self.shown.set()


class Deltas:
    """Makes events of what a model says: neighbours of one kind become one, behind what was said before.

    `logprobs` is whether the events have them.
    """

    def __init__(self, *, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._text_offset = 0
        self._thinking_offset = 0

    def go_on(self, events: Iterable[Event]) -> None:
        """Count what another gateway wrote."""
        for event in events:
            if isinstance(event, TextDelta):
                self._text_offset = event.offset + utf16_length(event.text)
            elif isinstance(event, ThinkingDelta):
                self._thinking_offset = event.offset + utf16_length(event.text)

    def events(self, first: int, chunks: Iterable[Chunk]) -> list[Event]:
        """Give the chunks of one read, neighbours of one kind as one event: a burst costs what one token costs."""
        events: list[Event] = []
        said = (chunk for chunk in chunks if not isinstance(chunk, UsageChunk))
        for kind, group in groupby(said, key=type):
            if kind is TextChunk:
                events.append(self.text(first + len(events), group))
            elif kind is ThinkingChunk:
                events.append(self.thinking(first + len(events), group))
            else:
                calls = (chunk.call for chunk in group if isinstance(chunk, ToolCallChunk))
                events += [ToolCallRequested(number, call) for number, call in enumerate(calls, first + len(events))]
        return events

    def text(self, sequence: int, chunks: Iterable[Chunk]) -> TextDelta:
        """Give the event of some text."""
        pieces = [chunk for chunk in chunks if isinstance(chunk, TextChunk)]
        text, tokens = _joined(pieces)
        delta = TextDelta(sequence, text, self._text_offset, tokens, _logprobs(pieces) if self._logprobs else None)
        self._text_offset += utf16_length(text)
        return delta

    def thinking(self, sequence: int, chunks: Iterable[Chunk]) -> ThinkingDelta:
        """Give the event of some thinking."""
        text, tokens = _joined([chunk for chunk in chunks if isinstance(chunk, ThinkingChunk)])
        delta = ThinkingDelta(sequence, text, self._thinking_offset, tokens)
        self._thinking_offset += utf16_length(text)
        return delta


def _joined(pieces: Sequence[TextChunk | ThinkingChunk]) -> tuple[str, int]:
    return "".join([piece.text for piece in pieces]), sum(piece.tokens for piece in pieces)


def _logprobs(pieces: Iterable[TextChunk]) -> list[TokenLogprob] | None:
    told = [piece.logprobs for piece in pieces if piece.logprobs is not None]
    return [logprob for logprobs in told for logprob in logprobs] if told else None
