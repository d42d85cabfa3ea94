"""Streams in the memory of one process: written at once, followed by any number of viewers, forgotten in time."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

from gateway.errors import StreamExpired
from gateway.streams.events import TERMINAL, End, Event, Resumed
from gateway.streams.log import StreamMoved
from gateway.streams.packing import Packed, pack, packed_size, size, unpack

_NO_EVENTS: list[Event] = []
"""Of all streams that have ended: thousands are kept, and each object of theirs is looked at by garbage collection."""


class _Stream:
    """One stream in memory. `_waiting` are those who wait for more; `packed` is there once it has ended.

    `dropped` is how many events at its beginning are no longer kept.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.dropped = 0
        self.length = 0
        self.packed: Packed | None = None
        self._waiting: tuple[asyncio.Future[None], ...] = ()  # an event would cost a tenth of a token
        self.size = 0
        self.finished_at: float | None = None
        self.end: End | None = None
        self.resumed_at = 0
        self.error: Exception | None = None

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting += (future,)
        try:
            await future
        except asyncio.CancelledError:
            self._waiting = tuple(it for it in self._waiting if it is not future)
            raise

    def append(self, event: Event) -> None:
        if self.finished_at is not None or event.sequence != self.length + 1:
            raise ValueError(f"event {event.sequence} does not continue a stream of {self.length}")
        self.events.append(event)
        self.length += 1
        self.size += size(event)
        if isinstance(event, TERMINAL):
            self.end = event
        elif isinstance(event, Resumed):
            self.resumed_at = event.sequence

    def after(self, sequence: int) -> list[Event]:
        """Give all events so far behind this one. Raises StreamExpired where some of them were dropped."""
        if sequence < self.dropped:
            raise StreamExpired
        return self.events[sequence - self.dropped :] if self.packed is None else unpack(self.packed, sequence)

    def shrink(self, most: int) -> None:
        """Drop the oldest events until they take no more bytes than that."""
        index = 0
        while self.size > most and index < len(self.events) - 1:
            self.size -= size(self.events[index])
            index += 1
        del self.events[:index]
        self.dropped += index

    def pack(self) -> None:
        """Put the events where they take less: it has ended."""
        self.packed = pack(self.events)
        self.size = packed_size(self.packed)
        self.events = _NO_EVENTS

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, ()
        for future in waiting:
            if not future.done():
                future.set_result(None)


class StreamBuffer:
    """What a stream log keeps in memory: all streams where nothing else does, else the own and the watched ones.

    Ended streams are forgotten `retention` seconds after their end, and the oldest of them earlier when all
    ended ones together take more than about `max_bytes`. Running streams are never forgotten, but of one that takes
    more than about `max_stream_bytes` the beginning is.
    """

    def __init__(self, retention: float, max_bytes: int, max_stream_bytes: int = 16_000_000) -> None:
        self._retention = retention
        self._max_bytes = max_bytes
        self._max_stream_bytes = max_stream_bytes
        self._streams: dict[UUID, _Stream] = {}
        self._finished: OrderedDict[UUID, _Stream] = OrderedDict()
        self._finished_bytes = 0

    def events(self, stream_id: UUID) -> Sequence[Event]:
        """Give all events so far. Raises StreamExpired."""
        return self._find(stream_id).after(0)

    async def follow(self, stream_id: UUID, after: int = 0) -> AsyncGenerator[Sequence[Event], None]:
        """Replay, then follow, as a StreamLog does."""
        stream = self._find(stream_id)
        known = stream.length
        while True:
            if known < stream.resumed_at <= after:
                raise StreamExpired  # what this viewer saw was lost, and something else was said in its place
            if batch := stream.after(after):
                after = known = batch[-1].sequence
                yield batch
                if stream.finished_at is not None and after == stream.length:
                    return
            elif stream.error is not None:
                raise stream.error
            elif stream.end is not None:
                yield [stream.end]
                return
            else:
                await stream.wait()

    def __contains__(self, stream_id: UUID) -> bool:
        self._forget_old()
        return stream_id in self._streams

    def begin(self, stream_id: UUID, dropped: int = 0) -> None:
        """Begin a stream of which the first events are not kept; who watched one of this name has to look again."""
        self.fail(stream_id, StreamMoved())
        self.forget(stream_id)
        stream = self._streams[stream_id] = _Stream()
        stream.dropped = stream.length = dropped

    def has_finished(self, stream_id: UUID) -> bool:
        """Tell whether its terminal event is here."""
        return stream_id in self._finished

    def length(self, stream_id: UUID) -> int:
        """Give the sequence number of the last event; 0 where the stream is not kept."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.length

    def dropped(self, stream_id: UUID) -> int:
        """Count how many events at the beginning of a stream are not kept."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.dropped

    def after(self, stream_id: UUID, sequence: int) -> tuple[int, list[Event]]:
        """Give how many events were dropped, and those behind a sequence number that are kept."""
        stream = self._streams[stream_id]
        return stream.dropped, stream.after(max(sequence, stream.dropped))

    def add(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events and wake whoever waits."""
        if not events:
            return  # what has ended must not end again
        stream = self._streams[stream_id]
        for event in events:
            stream.append(event)
        if stream.size > self._max_stream_bytes:
            stream.shrink(self._max_stream_bytes * 3 // 4)
        if stream.end is not None:
            self._finish(stream_id, stream)
        stream.wake()

    def fail(self, stream_id: UUID, error: Exception | None) -> None:
        """Let those who wait for more know why nothing comes; None takes it back."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.error = error
            stream.wake()

    def forget(self, stream_id: UUID) -> None:
        """Keep it no longer."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None and self._finished.pop(stream_id, None) is not None:
            self._finished_bytes -= stream.size

    def _find(self, stream_id: UUID) -> _Stream:
        self._forget_old()
        stream = self._streams.get(stream_id)
        if stream is None:
            raise StreamExpired
        return stream

    def _finish(self, stream_id: UUID, stream: _Stream) -> None:
        stream.finished_at = time.monotonic()
        stream.pack()
        self._finished[stream_id] = stream
        self._finished_bytes += stream.size
        self._forget_old()

    def _forget_old(self) -> None:
        horizon = time.monotonic() - self._retention
        while self._finished:
            stream_id, stream = next(iter(self._finished.items()))
            expired = stream.finished_at is not None and stream.finished_at < horizon
            if not expired and self._finished_bytes <= self._max_bytes:
                break
            self.forget(stream_id)
