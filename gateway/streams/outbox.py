"""What this gateway writes, on its way to Valkey.

All streams are written together in one round trip; while that is under way the next one fills. Viewers see nothing
that Valkey has not taken, so whatever a viewer has seen can be read on any gateway, also when this one is killed.
`Exposure` makes the exception: where Valkey takes nothing for too long, streams go on from memory.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from uuid import UUID

from gateway.errors import StreamLogUnavailable
from gateway.latch import Latch
from gateway.streams.buffer import StreamBuffer
from gateway.streams.codec import encode, encode_usage
from gateway.streams.events import TERMINAL, Event
from gateway.streams.exposure import Exposure, Notes, Owned
from gateway.streams.log import StreamMoved, StreamOwner
from gateway.streams.valkey import FENCED, Batch, NodeUnavailable, Valkey, ValkeyUnavailable

logger = logging.getLogger(__name__)

MOST_IN_BATCH = 2000
"""Events of one stream that are written at once; there are as many only after Valkey was away."""

MOST_WAITING = 20_000
"""Events on their way to Valkey, over all streams, beyond which who generates waits until his own are there."""


class Outbox:
    """The streams that this gateway writes.

    `superseded` is told of those that another gateway has taken over. `owns` asks the database whether one has.
    """

    def __init__(
        self,
        valkey: Valkey,
        buffer: StreamBuffer,
        superseded: Callable[[UUID], None],
        notes: Notes,
        owns: Callable[[UUID, int], Awaitable[bool]],
    ) -> None:
        self._valkey = valkey
        self._buffer = buffer
        self._superseded = superseded
        self._owned: dict[UUID, Owned] = {}
        self._owns = owns
        self._dirty: dict[UUID, Owned] = {}
        self._fenced: dict[UUID, Owned] = {}
        self._any_fenced = Latch()
        self._waiting = 0
        self._leaving = False
        self._wake = Latch()
        self._room = Latch()
        self.writable = False
        self.exposure = Exposure(self._owned, self._show, notes)

    @property
    def waiting(self) -> int:
        """How many events are on their way to Valkey."""
        return self._waiting

    def open(self, stream_id: UUID, owner: StreamOwner, dropped: int) -> None:
        """Begin an empty stream; Valkey hears of it at once, but nobody waits for that."""
        self._buffer.begin(stream_id, dropped)
        anew = dropped > 0
        self._owned[stream_id] = owned = Owned(owner, shown=dropped, written=dropped, anew=anew, again=anew)
        self._mark(stream_id, owned)

    def take_over(self, stream_id: UUID, owner: StreamOwner) -> None:
        """Go on with a stream as it stands in memory and in Valkey."""
        length = self._buffer.length(stream_id)
        self._owned[stream_id] = Owned(owner, shown=length, written=length, known=True, again=True)

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events to the next batch; with a terminal one wait until viewers see it.

        Raises ValueError for what does not continue the stream.
        """
        owned = self._owned.get(stream_id)
        while self._waiting > MOST_WAITING and owned is not None and owned.pending and not self._leaving:
            await self._room.wait()  # not for others alone: Valkey may refuse them while it takes this one
            owned = self._owned.get(stream_id)
        if owned is None:
            return  # another gateway has it, and its word counts
        expected = owned.shown + len(owned.pending) + 1
        if owned.settled is not None or events[0].sequence != expected:
            raise ValueError(f"event {events[0].sequence} does not continue a stream of {expected - 1}")
        if isinstance(events[-1], TERMINAL):
            owned.settled = Latch()
        owned.pending += events
        self._waiting += len(events)
        self._mark(stream_id, owned)
        if not owned.exposed and not self.exposure.mirrored:
            self.exposure.look()
        if owned.settled is not None and not self._leaving:
            await owned.settled.wait()

    def raise_fence(self, stream_id: UUID, fence: int) -> None:
        """Write it with a newer right from now on."""
        owned = self._owned.get(stream_id)
        if owned is not None:
            owned.owner = replace(owned.owner, fence=fence)

    async def flush(self, stream_id: UUID) -> None:
        """Wait until Valkey has everything; where it stays away, until all is shown and the database knows."""
        while (owned := self._owned.get(stream_id)) is not None and owned.is_behind and not self._leaving:
            away = self.exposure.is_away or owned.failing_since is not None
            if owned.exposed and not owned.pending and away:
                return
            await self._room.wait()

    def leave(self) -> None:
        """Let nobody wait any longer for what is not written."""
        self._leaving = True
        for owned in self._owned.values():
            owned.settle()
        self._make_room()

    async def release(self, stream_id: UUID) -> None:
        """Wait until Valkey has everything, and let go of it."""
        await self.flush(stream_id)
        self._release(stream_id)

    async def rewrite(self, stream_id: UUID) -> None:
        """Write a stream that Valkey has lost."""
        owned = self._owned.get(stream_id)
        if owned is not None and owned.settled is None:
            self._lacks(stream_id, owned, 0)
            await self.flush(stream_id)

    def disconnect(self, error: ValkeyUnavailable) -> None:
        """Write nothing until Valkey takes a probe."""
        self.writable = False
        self.exposure.failed(str(error))
        self._make_room()

    async def reconnect(self) -> None:
        """Valkey has taken a probe: write what it missed or has forgotten. It is back when it has taken that too."""
        self.writable = True
        await self._compare(list(self._owned))
        if not self._dirty:
            self.exposure.came_back()
        self._wake.set()

    async def look_after(self) -> None:
        """Write again what Valkey has refused, or has lost of the running streams to which nothing is added."""
        for stream_id, owned in list(self._owned.items()):
            if (owned.failing_since is not None and stream_id not in self._fenced) or stream_id not in self._buffer:
                self._mark(stream_id, owned)
        await self._compare([each for each, owned in self._owned.items() if owned.quiet and owned.settled is None])
        for owned in self._owned.values():
            owned.quiet = True
        if self._fenced:
            self._any_fenced.set()

    async def write_forever(self) -> None:
        """Write whatever comes, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty and self.writable:
                dirty, self._dirty = self._dirty, {}
                try:
                    await self._write(dirty)
                except ValkeyUnavailable as error:
                    self._dirty = dirty | self._dirty
                    self.disconnect(error)

    async def settle_fenced_forever(self) -> None:
        """Let go of what another gateway has taken over; what none has is written whatever stands in Valkey."""
        while True:
            await self._any_fenced.wait()
            self._any_fenced.clear()
            for stream_id, owned in list(self._fenced.items()):
                if self._owned.get(stream_id) is owned:
                    await self._settle_fenced(stream_id, owned)

    async def _settle_fenced(self, stream_id: UUID, owned: Owned) -> None:
        try:
            if await self._owns(stream_id, owned.owner.fence):
                logger.warning("generation %s is written anew: nobody else may write it", stream_id)
                owned.anew = True
                self._lacks(stream_id, owned, 0)
            else:
                logger.warning("generation %s is another gateway's now", stream_id)
                self._release(stream_id)
                self._superseded(stream_id)
            self._fenced.pop(stream_id, None)
        except StreamLogUnavailable:
            self._fails(stream_id, owned, "The database does not tell who may write them.")

    async def _compare(self, stream_ids: Sequence[UUID]) -> None:
        lasts = await self._valkey.last_numbers(stream_ids) if stream_ids else []
        for stream_id, last in zip(stream_ids, lasts, strict=True):
            owned = self._owned.get(stream_id)
            if owned is None:
                continue
            if last is None:
                self._mark(stream_id, owned)
            elif last < owned.written or owned.is_behind or (last == 0 and owned.settled is None):
                self._lacks(stream_id, owned, min(last, owned.written))

    def _lacks(self, stream_id: UUID, owned: Owned, last: int) -> None:
        """Valkey has it up to here alone."""
        if last < owned.written or last == 0:
            owned.written, owned.known = max(last, self._buffer.dropped(stream_id)), False
        self._mark(stream_id, owned)

    def _mark(self, stream_id: UUID, owned: Owned) -> None:
        owned.quiet = False
        self._dirty[stream_id] = owned
        self._wake.set()

    async def _write(self, dirty: dict[UUID, Owned]) -> None:
        batches = self._batches(dirty)
        refused: list[tuple[UUID, Owned, ValkeyUnavailable]] = []
        for batch, reply in zip(batches, await self._valkey.append(batches) if batches else [], strict=True):
            owned = dirty[batch.stream_id]
            if self._owned.get(batch.stream_id) is not owned:
                continue
            if isinstance(reply, ValkeyUnavailable):
                refused.append((batch.stream_id, owned, reply))
            elif reply == FENCED:
                self._fenced[batch.stream_id] = owned
                self._any_fenced.set()
            else:
                self._written(batch, owned, reply)
        self._make_room()
        if any(not isinstance(error, NodeUnavailable) for _, _, error in refused):
            await self._valkey.probe()  # raises where all are refused, and not these alone
        for stream_id, owned, error in refused:
            self._fails(stream_id, owned, error)
        if batches and self.exposure.is_away and self.writable:
            self.exposure.came_back()

    def _fails(self, stream_id: UUID, owned: Owned, error: ValkeyUnavailable | str) -> None:
        if owned.failing_since is None:
            logger.error("generation %s cannot be written to the stream log: %s", stream_id, error)
        self.exposure.failed(str(error), owned)
        self._make_room()

    def _batches(self, dirty: dict[UUID, Owned]) -> list[Batch]:
        batches: list[Batch] = []
        for stream_id, owned in dirty.items():
            if stream_id not in self._buffer:
                self._drop(stream_id, owned)  # what is no longer in memory cannot be written again
                continue
            try:
                batches.append(self._batch(stream_id, owned))
            except Exception:  # what cannot be put into bytes must not keep the others from being written
                logger.exception("generation %s cannot be put into bytes", stream_id)
                self._fails(stream_id, owned, "They cannot be put into bytes.")
        return batches

    def _batch(self, stream_id: UUID, owned: Owned) -> Batch:
        """Give what Valkey lacks: after an outage also what viewers have seen already."""
        dropped, events = self._buffer.dropped(stream_id), owned.pending
        if owned.is_short:
            dropped, missed = self._buffer.after(stream_id, owned.written)
            events = [*missed, *owned.pending]
        events = events[:MOST_IN_BATCH]
        first = events[0].sequence if events else owned.written + 1
        return Batch(
            stream_id=stream_id,
            fence=owned.owner.fence,
            first=first,
            last=events[-1].sequence if events else owned.written,
            shown=owned.shown,
            payload=encode(events),
            usage=encode_usage(owned.owner.usage()),
            request=b"" if owned.known else owned.owner.request,
            terminal=bool(events) and isinstance(events[-1], TERMINAL),
            mode="anew" if owned.anew else "rebased" if dropped >= first - 1 > 0 else "next",
            again=owned.again,
        )

    def _written(self, batch: Batch, owned: Owned, last: int) -> None:
        """Valkey has everything up to `last`: now viewers may see it."""
        self.exposure.took(owned)
        owned.again = True
        if last == batch.last:
            owned.known, owned.anew = True, False
        elif last < batch.first - 1:
            owned.known = False  # it has lost what it had
        elif last > owned.shown + len(owned.pending):
            owned.known, owned.anew, last = (
                False,
                True,
                self._buffer.dropped(batch.stream_id),
            )  # somebody else wrote there
        owned.written = last
        self._publish(batch.stream_id, owned, last)
        if owned.is_behind:
            self._mark(batch.stream_id, owned)
        elif owned.settled is not None:
            owned.owner = StreamOwner(owned.owner.fence)  # the run behind it may go

    def _show(self, stream_id: UUID, owned: Owned, last: int) -> None:
        """Let viewers see what is pending, up to this number."""
        self._publish(stream_id, owned, last)
        self._make_room()

    def _publish(self, stream_id: UUID, owned: Owned, last: int) -> None:
        count = min(max(0, last - owned.shown), len(owned.pending))
        if count:
            self._buffer.add(stream_id, owned.pending[:count])
            owned.shown = owned.pending[count - 1].sequence
            del owned.pending[:count]
            self._waiting -= count
        if not owned.pending:
            owned.settle()

    def _make_room(self) -> None:
        """Let those who wait for something to be written look again."""
        self._room.set()
        self._room.clear()

    def _release(self, stream_id: UUID) -> None:
        owned = self._owned.get(stream_id)
        if owned is not None:
            self._drop(stream_id, owned)
            self._buffer.fail(stream_id, StreamMoved())
            self._buffer.forget(stream_id)

    def _drop(self, stream_id: UUID, owned: Owned) -> None:
        del self._owned[stream_id]
        self._dirty.pop(stream_id, None)
        self._fenced.pop(stream_id, None)
        self._waiting -= len(owned.pending)
        owned.pending.clear()
        owned.settle()
        self._make_room()
