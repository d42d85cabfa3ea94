"""What this gateway writes, on its way to Valkey.

All streams are written together in one round trip; while that is under way the next one fills. Viewers see nothing
that Valkey has not taken, so whatever a viewer has seen can be read on any gateway, also when this one is killed.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import anyio

from gateway.event_codec import encode, encode_usage
from gateway.events import TERMINAL, Event
from gateway.streams import MemoryStreamLog, Source, StreamMoved
from gateway.valkey import FENCED, Batch, Valkey, ValkeyUnavailable

logger = logging.getLogger(__name__)

MOST_IN_BATCH = 2000
"""Events of one stream that are written at once; there are as many only after Valkey was away."""

MOST_WAITING = 20_000
"""Events on their way to Valkey, over all streams, beyond which who generates waits."""


@dataclass(slots=True)
class _Owned:
    """A stream that this gateway writes. `pending` is what no viewer may see yet; `written` is what Valkey has."""

    source: Source
    pending: list[Event] = field(default_factory=list[Event])
    written: int = 0
    known: bool = False
    settled: anyio.Event | None = None

    def settle(self) -> None:
        if self.settled is not None:
            self.settled.set()


class Outbox:
    """The streams that this gateway writes. `lost` is told of those that another gateway has taken over."""

    def __init__(self, valkey: Valkey, local: MemoryStreamLog, lost: Callable[[UUID], None]) -> None:
        self._valkey = valkey
        self._local = local
        self._lost = lost
        self._owned: dict[UUID, _Owned] = {}
        self._dirty: dict[UUID, _Owned] = {}
        self._waiting = 0
        self._wake = anyio.Event()
        self._room = anyio.Event()
        self.connected = False
        """Whether Valkey takes what is written."""
        self.attached = False
        """Whether viewers see only what Valkey has. A short absence is waited for, so that no kill can lose text."""

    def open(self, stream_id: UUID, source: Source) -> None:
        """Begin an empty stream; Valkey hears of it at once, but nobody waits for that."""
        self._local.begin(stream_id)
        self._owned[stream_id] = owned = _Owned(source)
        self._mark(stream_id, owned)

    def take_up(self, stream_id: UUID, source: Source, *, known: bool) -> None:
        """Go on with a stream as it stands in memory and in Valkey, where that knows it."""
        self._owned[stream_id] = owned = _Owned(source)
        owned.written, owned.known = self._local.length(stream_id), known
        if not known:
            self._mark(stream_id, owned)

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events to the next batch; with a terminal one wait until Valkey has taken it, or is away.

        Raises ValueError for what does not continue the stream.
        """
        while self._waiting > MOST_WAITING and self.attached:
            await self._room.wait()
        owned = self._owned.get(stream_id)
        if owned is None:
            return  # another gateway has it, and its word counts
        expected = self._local.length(stream_id) + len(owned.pending) + 1
        terminal = isinstance(events[-1], TERMINAL)
        if owned.settled is not None or events[0].sequence != expected:
            raise ValueError(f"event {events[0].sequence} does not continue a stream of {expected - 1}")
        if terminal:
            owned.settled = anyio.Event()
        if not self.attached:
            self._local.add(stream_id, events)
            return
        owned.pending += events
        self._waiting += len(events)
        self._mark(stream_id, owned)
        if owned.settled is not None:
            await owned.settled.wait()

    def pending(self, stream_id: UUID) -> Sequence[Event]:
        """What of a stream is on its way."""
        owned = self._owned.get(stream_id)
        return owned.pending if owned is not None else ()

    def raise_fence(self, stream_id: UUID, fence: int) -> None:
        """Write it with a newer right from now on."""
        owned = self._owned.get(stream_id)
        if owned is not None:
            owned.source = replace(owned.source, fence=fence)

    async def flush(self, stream_id: UUID) -> None:
        """Wait until Valkey has everything, or stays away."""
        owned = self._owned.get(stream_id)
        while owned is not None and owned.pending and self.attached:
            await self._room.wait()

    async def leave(self, stream_id: UUID) -> None:
        """Wait until Valkey has everything, and let go of it."""
        await self.flush(stream_id)
        self._let_go(stream_id)

    def detach(self) -> None:
        """Valkey stays away: what was on its way is seen at once, and so is what comes."""
        self.attached = False
        for stream_id, owned in self._owned.items():
            self._publish(stream_id, owned, len(owned.pending))
        self._make_room()

    async def reattach(self) -> None:
        """Valkey is back: write what it missed or has forgotten, the whole of it where it came back empty."""
        self.forget_forgotten()
        stream_ids = list(self._owned)
        lengths = await self._valkey.lengths(stream_ids) if stream_ids else []
        for stream_id, length in zip(stream_ids, lengths, strict=True):
            owned = self._owned.get(stream_id)
            if owned is not None:
                self._written(stream_id, owned, length)
                owned.known = length > 0
                if owned.settled is None:
                    self._mark(stream_id, owned)
        self.connected = self.attached = True
        self._make_room()
        self._wake.set()

    def forget_forgotten(self) -> None:
        """What is no longer in memory cannot be written again."""
        for stream_id in [each for each in self._owned if each not in self._local]:
            del self._owned[stream_id]

    async def write_forever(self, unavailable: Callable[[ValkeyUnavailable], None]) -> None:
        """Write whatever comes, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._dirty and self.connected:
                dirty, self._dirty = self._dirty, {}
                try:
                    await self._write(dirty)
                except ValkeyUnavailable as error:
                    self._dirty = dirty | self._dirty
                    unavailable(error)

    def _make_room(self) -> None:
        """Those who wait for something to be written look again."""
        self._room.set()
        self._room = anyio.Event()

    def _mark(self, stream_id: UUID, owned: _Owned) -> None:
        self._dirty[stream_id] = owned
        self._wake.set()

    async def _write(self, dirty: dict[UUID, _Owned]) -> None:
        batches = [self._batch(stream_id, owned) for stream_id, owned in dirty.items()]
        replies = await self._valkey.append(batches)
        for batch, owned, last in zip(batches, dirty.values(), replies, strict=True):
            if last == FENCED:
                logger.warning("generation %s is another gateway's now", batch.stream_id)
                self._let_go(batch.stream_id)
                self._lost(batch.stream_id)
            else:
                self._written(batch.stream_id, owned, last)
        self._make_room()

    def _batch(self, stream_id: UUID, owned: _Owned) -> Batch:
        """What Valkey lacks: after an outage also what viewers have seen already."""
        dropped, events = 0, owned.pending
        if owned.written < self._local.length(stream_id):
            dropped, missed = self._local.after(stream_id, owned.written)
            events = [*missed, *owned.pending]
        events = events[:MOST_IN_BATCH]
        first = events[0].sequence if events else owned.written + 1
        return Batch(
            stream_id=stream_id,
            fence=owned.source.fence,
            first=first,
            last=events[-1].sequence if events else owned.written,
            payload=encode(events),
            usage=encode_usage(owned.source.usage()),
            request=b"" if owned.known else owned.source.request,
            rebased=dropped >= first - 1 > 0,
            terminal=bool(events) and isinstance(events[-1], TERMINAL),
        )

    def _written(self, stream_id: UUID, owned: _Owned, last: int) -> None:
        """Valkey has everything up to `last`: now viewers may see it."""
        owned.written, owned.known = last, True
        count = 0
        while count < len(owned.pending) and owned.pending[count].sequence <= last:
            count += 1
        self._publish(stream_id, owned, count)
        if owned.pending or last < self._local.length(stream_id):
            self._mark(stream_id, owned)
        elif owned.settled is not None:
            owned.source = Source(owned.source.fence)  # the run behind it may go

    def _publish(self, stream_id: UUID, owned: _Owned, count: int) -> None:
        if count:
            self._local.add(stream_id, owned.pending[:count])
            del owned.pending[:count]
            self._waiting -= count
        if not owned.pending:
            owned.settle()

    def _let_go(self, stream_id: UUID) -> None:
        owned = self._owned.pop(stream_id, None)
        self._dirty.pop(stream_id, None)
        if owned is not None:
            self._waiting -= len(owned.pending)
            owned.pending.clear()
            owned.settle()
            self._local.fail(stream_id, StreamMoved())
            self._local.forget(stream_id)
