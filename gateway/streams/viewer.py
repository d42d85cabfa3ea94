"""One reader of one stream."""

from collections.abc import AsyncGenerator, Callable, Sequence
from time import monotonic
from uuid import UUID

import anyio

from gateway.streams.events import Event, TextDelta, ThinkingDelta, merged


class Viewer:
    """An async iterator over a stream's events that is counted from its making to its end or `aclose`.

    A class and not a generator, because a generator that was never started does not run its clean-up. Events
    that pile up while the viewer is slow come merged; so do those of a model that is faster than one event in
    `interval` seconds. The first text, and any that comes later than that, is handed on at once.
    """

    def __init__(
        self,
        generation_id: UUID,
        batches: AsyncGenerator[Sequence[Event], None],
        on_close: Callable[[], None] | None = None,
        interval: float = 0,
    ) -> None:
        self.generation_id = generation_id
        self._batches = batches
        self._events: list[Event] = []  # the next one last
        self._on_close = on_close
        self._interval = interval
        self._next_at = 0.0

    def __aiter__(self) -> "Viewer":
        return self

    async def __anext__(self) -> Event:
        """Give the next event. Raises StreamExpired where the stream is no longer kept."""
        while not self._events:
            try:
                rest = self._next_at - monotonic()
                if rest > 0:
                    await anyio.sleep(rest)
                batch = await anext(self._batches)
            except BaseException:
                self._close()
                raise
            self._events = list(merged(batch))
            if self._interval and isinstance(self._events[-1], TextDelta | ThinkingDelta):
                self._next_at = monotonic() + self._interval
            self._events.reverse()
        return self._events.pop()

    async def aclose(self) -> None:
        """Stop watching. May be called twice."""
        self._close()
        await self._batches.aclose()

    def _close(self) -> None:
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()
