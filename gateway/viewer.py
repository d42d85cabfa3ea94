"""One reader of one stream."""

from collections import deque
from collections.abc import Callable
from uuid import UUID

from gateway.events import Event, merged
from gateway.streams import StreamLog


class Viewer:
    """An async iterator over a stream's events that is counted from its making to its end or `aclose`.

    A class and not a generator, because a generator that was never started does not run its clean-up. Events
    that pile up while the viewer is slow come merged.
    """

    def __init__(
        self, log: StreamLog, generation_id: UUID, after: int, on_close: Callable[[], None] | None = None
    ) -> None:
        self.generation_id = generation_id
        self._batches = log.follow(generation_id, after)
        self._events: deque[Event] = deque()
        self._on_close = on_close

    def __aiter__(self) -> "Viewer":
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises StreamExpired where the stream is no longer kept."""
        while not self._events:
            try:
                batch = await anext(self._batches)
            except BaseException:
                self._close()
                raise
            self._events.extend(merged(batch))
        return self._events.popleft()

    async def aclose(self) -> None:
        """Stop watching. May be called twice."""
        self._close()
        await self._batches.aclose()

    def _close(self) -> None:
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()
