"""The stream log of a gateway that shares none."""

from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

from gateway.streams.buffer import StreamBuffer
from gateway.streams.events import Event
from gateway.streams.log import SavedStream, StreamOwner


class MemoryStreamLog:
    """A StreamLog and StreamOwnership that dies with this process. There is no other gateway."""

    def __init__(self, buffer: StreamBuffer) -> None:
        self._buffer = buffer

    @property
    def is_shared(self) -> bool:
        """Never."""
        return False

    async def open(self, stream_id: UUID, owner: StreamOwner, dropped: int = 0) -> None:
        """Begin an empty stream."""
        self._buffer.begin(stream_id, dropped)

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events and wake whoever waits."""
        self._buffer.add(stream_id, events)

    async def read(self, stream_id: UUID) -> Sequence[Event]:
        """Give all events so far."""
        return self._buffer.events(stream_id)

    def follow(
        self, stream_id: UUID, after: int = 0, *, finished: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Replay, then follow."""
        return self._buffer.follow(stream_id, after)

    async def claim(self, stream_id: UUID, owner: StreamOwner, *, detached: bool = False) -> SavedStream | None:
        """Find nothing: another process's streams died with it."""
        return None

    async def raise_fence(self, stream_id: UUID, fence: int) -> None:
        """Do nothing: nobody else can write it."""

    async def flush(self, stream_id: UUID) -> None:
        """Do nothing: memory is all there is."""

    async def release(self, stream_id: UUID) -> None:
        """Do nothing: nobody else can take it over."""

    def leave(self) -> None:
        """Do nothing: nobody waits for memory."""

    async def followers(self, stream_id: UUID) -> tuple[int, int]:
        """Count none."""
        return 0, 0

    async def cancel_elsewhere(self, stream_id: UUID) -> bool:
        """Find nobody to ask."""
        return False
