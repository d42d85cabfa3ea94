"""Makes the events of one generation, and writes them into the stream log once its row is in the database."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from uuid import UUID

from anyio.lowlevel import checkpoint_if_cancelled

from backends.protocol import Chunk, FinishChunk, TextChunk, ThinkingChunk, ToolCallChunk, UsageChunk
from gateway.generation.hooks import Observer
from gateway.latch import Latch
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
    whoever writes that waits for `shown`. The `observer` is told what is in the log.
    """

    def __init__(self, log: StreamLog, generation_id: UUID, observer: Observer | None = None) -> None:
        self.shown = Latch()
        self._log = log
        self._generation_id = generation_id
        self._observer = observer
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
        await self._write(events)

    async def show(self) -> None:
        """Append what was held, and let the rest follow: the row is in the database. Raises what the log does."""
        try:
            while self._held:
                held = list(self._held)
                await self._write(held)
                del self._held[: len(held)]
        finally:
            self._held.clear()
            self.shown.set()

    async def _write(self, events: Sequence[Event]) -> None:
        await self._log.append(self._generation_id, events)
        self._sequence += len(events)
        if self._observer is not None:
            self._observer(events)


class Deltas:
    """Makes events of what a model says: neighbours of one kind become one, behind what was said before.

    `logprobs` is whether the events have them. `malformed` is the tool of the first call that is none.
    """

    def __init__(self, *, logprobs: bool) -> None:
        self.malformed: str | None = None
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

    def events(self, first: int, chunks: Sequence[Chunk]) -> tuple[list[Event], FinishChunk | None]:
        """Give the events of one read, numbered from `first`, and the end that it held.

        Neighbours of one kind are one event: a burst costs what one token costs.
        """
        if len(chunks) == 1 and type(chunk := chunks[0]) is TextChunk and not self._logprobs:  # nearly every read
            delta = TextDelta(first, chunk.text, self._text_offset, chunk.tokens)
            self._text_offset += utf16_length(chunk.text)
            return [delta], None
        events: list[Event] = []
        finish: FinishChunk | None = None
        for kind, group in groupby((chunk for chunk in chunks if not isinstance(chunk, UsageChunk)), key=type):
            if kind is TextChunk:
                events.append(self._text(first + len(events), group))
            elif kind is ThinkingChunk:
                events.append(self._thinking(first + len(events), group))
            else:
                for chunk in group:
                    if isinstance(chunk, ToolCallChunk):
                        events.append(ToolCallRequested(first + len(events), chunk.call))
                        if chunk.call.arguments is None:
                            self.malformed = self.malformed or chunk.call.name
                    elif isinstance(chunk, FinishChunk):
                        finish = chunk
        return events, finish

    def _text(self, sequence: int, chunks: Iterable[Chunk]) -> TextDelta:
        pieces = [chunk for chunk in chunks if isinstance(chunk, TextChunk)]
        text, tokens = _joined(pieces)
        delta = TextDelta(sequence, text, self._text_offset, tokens, _logprobs(pieces) if self._logprobs else None)
        self._text_offset += utf16_length(text)
        return delta

    def _thinking(self, sequence: int, chunks: Iterable[Chunk]) -> ThinkingDelta:
        text, tokens = _joined([chunk for chunk in chunks if isinstance(chunk, ThinkingChunk)])
        delta = ThinkingDelta(sequence, text, self._thinking_offset, tokens)
        self._thinking_offset += utf16_length(text)
        return delta


def _joined(pieces: Sequence[TextChunk | ThinkingChunk]) -> tuple[str, int]:
    if len(pieces) == 1:
        return pieces[0].text, pieces[0].tokens
    return "".join([piece.text for piece in pieces]), sum(piece.tokens for piece in pieces)


def _logprobs(pieces: Iterable[TextChunk]) -> list[TokenLogprob] | None:
    told = [piece.logprobs for piece in pieces if piece.logprobs is not None]
    return [logprob for logprobs in told for logprob in logprobs] if told else None
