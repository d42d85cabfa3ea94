"""The log of every stream: appended to by the one who generates, read by any number of viewers.

A log keeps each generation's events in order. A viewer replays what stands after its cursor and then follows;
it may come late, come twice or come again. What ended is kept for a while, then forgotten.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol
from uuid import UUID

import anyio

from gateway.errors import StreamExpired
from gateway.events import TERMINAL, Event
from gateway.packing import Packed, pack, packed_size, unpack


class StreamLog(Protocol):
    """Where events are kept. Every implementation passes one contract suite (tests/test_stream_log.py)."""

    async def open(self, stream_id: UUID) -> None:
        """Begin an empty stream. From here on `follow` waits instead of raising."""
        ...

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events that continue the sequence. A cancellation does not cut it short.

        Raises ValueError for a gap, and for anything after a terminal event.
        """
        ...

    async def read(self, stream_id: UUID) -> Sequence[Event]:
        """All events so far. Raises StreamExpired like `follow`."""
        ...

    def follow(self, stream_id: UUID, after: int = 0) -> AsyncGenerator[Sequence[Event], None]:
        """All events after the sequence number `after`, as they come, until the terminal one.

        Each item is everything that has come since the last one was taken, so a slow viewer gets larger items,
        never older ones. Raises StreamExpired where the stream is unknown or forgotten.
        """
        ...


class _Stream:
    """One stream in memory. `changed` is there only while somebody waits for it; `packed` once it has ended."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.packed: Packed | None = None
        self.changed: anyio.Event | None = None
        self.size = 0
        self.ended_at: float | None = None

    async def wait(self) -> None:
        if self.changed is None:
            self.changed = anyio.Event()
        await self.changed.wait()

    def after(self, sequence: int) -> list[Event]:
        """All events so far behind this one."""
        return self.events[sequence:] if self.packed is None else unpack(self.packed, sequence)

    def pack(self) -> None:
        """It has ended: the events go where they take less."""
        self.packed = pack(self.events)
        self.size = packed_size(self.packed)
        self.events = []

    def wake(self) -> None:
        if self.changed is not None:
            self.changed.set()
            self.changed = None


class MemoryStreamLog:
    """The log of a gateway that is one process.

    Ended streams are forgotten `retention` seconds after their end, and the oldest of them earlier when all
    ended ones together take more than about `max_bytes`. Running streams are never forgotten.
    """

    def __init__(self, retention: float, max_bytes: int) -> None:
        self._retention = retention
        self._max_bytes = max_bytes
        self._streams: dict[UUID, _Stream] = {}
        self._ended: OrderedDict[UUID, _Stream] = OrderedDict()
        self._ended_bytes = 0

    async def open(self, stream_id: UUID) -> None:
        """Begin an empty stream."""
        self._streams[stream_id] = _Stream()

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events and wake whoever waits."""
        stream = self._streams[stream_id]
        for event in events:
            if stream.ended_at is not None or event.sequence != len(stream.events) + 1:
                raise ValueError(f"event {event.sequence} does not continue a stream of {len(stream.events)}")
            stream.events.append(event)
            if isinstance(event, TERMINAL):
                self._end(stream_id, stream)
        stream.wake()

    async def read(self, stream_id: UUID) -> Sequence[Event]:
        """All events so far."""
        return self._find(stream_id).after(0)

    async def follow(self, stream_id: UUID, after: int = 0) -> AsyncGenerator[Sequence[Event], None]:
        """Replay, then follow."""
        stream = self._find(stream_id)
        while True:
            if batch := stream.after(after):
                after += len(batch)
                yield batch
            elif stream.ended_at is not None:
                return
            else:
                await stream.wait()

    def _find(self, stream_id: UUID) -> _Stream:
        self._forget_old()
        stream = self._streams.get(stream_id)
        if stream is None:
            raise StreamExpired
        return stream

    def _end(self, stream_id: UUID, stream: _Stream) -> None:
        stream.ended_at = time.monotonic()
        stream.pack()
        self._ended[stream_id] = stream
        self._ended_bytes += stream.size
        self._forget_old()

    def _forget_old(self) -> None:
        horizon = time.monotonic() - self._retention
        while self._ended:
            stream_id, stream = next(iter(self._ended.items()))
            expired = stream.ended_at is not None and stream.ended_at < horizon
            if not expired and self._ended_bytes <= self._max_bytes:
                break
            del self._ended[stream_id], self._streams[stream_id]
            self._ended_bytes -= stream.size
