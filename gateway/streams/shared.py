"""The log of several gateways that act as one: what each writes goes to Valkey, and from there to who watches it.

A gateway keeps the streams that it writes in memory too, and its own viewers read them there. While Valkey is away
they go on from memory; when it is back, all that it missed is written.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from uuid import UUID

import anyio
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

from gateway.errors import StreamExpired, StreamLogUnavailable
from gateway.streams.buffer import StreamBuffer
from gateway.streams.codec import decode_usage
from gateway.streams.events import NO_USAGE, Event, TokenUsage
from gateway.streams.exposure import Notes
from gateway.streams.log import SavedStream, StreamMoved, StreamOwner
from gateway.streams.mirrors import PATIENCE_SECONDS, Mirrors, events_of
from gateway.streams.outbox import Outbox
from gateway.streams.valkey import Fenced, Valkey, ValkeyUnavailable
from gateway.tasks import spawn_service

logger = logging.getLogger(__name__)

MAINTENANCE_SECONDS = 0.5
"""How often Valkey is asked to take something, and how soon after its return it is noticed."""

AWAY_SECONDS = 0.1
"""The same while viewers wait for it."""

ROUNDS_UNTIL_COMPARED = 2

ROUNDS_UNTIL_PURGED = 20

FOLLOWERS_SECONDS = 1.0
"""How long gateways with viewers may take to say so again after Valkey has lost their names."""


@dataclass(slots=True)
class Handlers:
    """What is to be done when another gateway says something, or has taken a stream over.

    `notes` tell the database of streams that go on in memory alone (see Exposure), and ask it of ends on record; `owns`
    asks it whether a fence is still the latest. `usage` is told what others have used.
    """

    cancel: Callable[[UUID], None]
    unfollowed: Callable[[UUID], None]
    superseded: Callable[[UUID], None]
    orphans: Callable[[], None]
    notes: Notes
    owns: Callable[[UUID, int], Awaitable[bool]]
    usage: Callable[[bytes], None]


class SharedStreamLog:
    """The log over Valkey. `run` works for it and is to be started before anything else is called."""

    def __init__(self, valkey: Valkey, buffer: StreamBuffer) -> None:
        self._valkey = valkey
        self._buffer = buffer
        notes = Notes(self._note, self._note_usage, self._ended)
        self._outbox = Outbox(valkey, buffer, self._superseded, notes, self._owns)
        self._mirrors = Mirrors(valkey, buffer)
        self._handlers: Handlers | None = None

    def set_handlers(self, handlers: Handlers) -> None:
        """Tell who is to be called; nobody is before."""
        self._handlers = handlers

    @property
    def is_shared(self) -> bool:
        """By all gateways at the same Valkey."""
        return True

    @property
    def mirrored(self) -> bool:
        """Whether Valkey is there and takes what is written."""
        return self._outbox.exposure.mirrored

    @property
    def waiting(self) -> int:
        """How many events are on their way to Valkey."""
        return self._outbox.waiting

    @property
    def trouble(self) -> str | None:
        """Why other gateways may not see all that is said here, without addresses; None where they do."""
        return self._outbox.exposure.trouble

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write, listen and maintain the log until cancelled; it has started when Valkey was asked once."""
        async with anyio.create_task_group() as tasks:
            await self._look()
            spawn_service(tasks, "writing the stream log", self._outbox.write_forever)
            spawn_service(tasks, "watching the stream log", self._outbox.exposure.watch_forever)
            spawn_service(tasks, "handing over streams", self._outbox.settle_fenced_forever)
            spawn_service(tasks, "listening to other gateways", self._listen)
            spawn_service(tasks, "reading other gateways' streams", self._mirrors.repair_forever)
            spawn_service(tasks, "maintaining the stream log", self._maintain_forever)
            if self.mirrored:
                with anyio.move_on_after(MAINTENANCE_SECONDS):
                    await self._mirrors.listening.wait()
            task_status.started()

    async def open(self, stream_id: UUID, owner: StreamOwner, dropped: int = 0) -> None:
        """Begin an empty stream."""
        self._mirrors.drop(stream_id)
        self._outbox.open(stream_id, owner, dropped)

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events, which viewers see when Valkey has taken them, or what the database needs to know in its place."""
        await self._outbox.append(stream_id, events)

    async def read(self, stream_id: UUID) -> Sequence[Event]:
        """Give all events so far that viewers may see."""
        if stream_id in self._buffer and (stream_id not in self._mirrors or self._mirrors.holds(stream_id)):
            return self._buffer.events(stream_id)
        try:
            kept = await self._valkey.read(stream_id)
            events = [] if kept is None else events_of(kept)
        except ValkeyUnavailable as error:
            raise StreamLogUnavailable from error
        except ValueError as error:
            raise StreamExpired from error
        if kept is None or kept.first != 1:
            raise StreamExpired
        return events

    async def follow(
        self, stream_id: UUID, after: int = 0, *, finished: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Replay, then follow, here or over Valkey; where it goes over to another gateway, go on there."""
        while True:
            own = stream_id in self._buffer and stream_id not in self._mirrors
            mirrors = self._mirrors
            batches = (
                self._buffer.follow(stream_id, after) if own else mirrors.follow(stream_id, after, finished=finished)
            )
            try:
                async for batch in batches:
                    after = batch[-1].sequence
                    yield batch
                return
            except StreamMoved:
                await checkpoint()
            finally:
                await batches.aclose()

    async def claim(self, stream_id: UUID, owner: StreamOwner, *, detached: bool = False) -> SavedStream | None:
        """Fence off the gateway that wrote it, and take up what it left."""
        try:
            kept = await self._valkey.claim(stream_id, owner.fence, void=detached)
            events = [] if kept is None else events_of(kept)
        except Fenced as error:
            if not await self._owns(stream_id, owner.fence):
                raise StreamMoved from error
            kept, events = None, []  # nobody has a newer right: the one that stands there was never given
        except ValkeyUnavailable as error:
            raise StreamLogUnavailable from error
        except ValueError:
            logger.warning("what is kept of generation %s cannot be read", stream_id)
            return None
        if kept is None:
            return None
        self._mirrors.drop(stream_id)
        length = self._buffer.length(stream_id)
        copied = stream_id in self._buffer and kept.void <= self._buffer.dropped(stream_id)
        if not copied or not kept.first - 1 <= length <= kept.last:
            self._buffer.begin(stream_id, kept.first - 1)
            length = kept.first - 1
        self._buffer.add(stream_id, [event for event in events if event.sequence > length])
        self._outbox.take_over(stream_id, owner)
        return SavedStream(events, _usage(kept.usage), kept.request, kept.cancelled, kept.first - 1)

    async def raise_fence(self, stream_id: UUID, fence: int) -> None:
        """With the next batch Valkey knows it too."""
        self._outbox.raise_fence(stream_id, fence)

    async def flush(self, stream_id: UUID) -> None:
        """Wait for Valkey."""
        await self._outbox.flush(stream_id)

    async def release(self, stream_id: UUID) -> None:
        """Wait until Valkey has everything, and let go of it."""
        await self._outbox.release(stream_id)

    def leave(self) -> None:
        """Wait for no store any longer: this gateway ends. What is not written by then, viewers have not seen."""
        self._outbox.leave()

    async def followers(self, stream_id: UUID) -> tuple[int, int]:
        """As Valkey knows them; while it is away, those of other gateways see nothing and count for nothing."""
        try:
            known = await self._valkey.followers(stream_id)
            if known is None:
                await self._outbox.rewrite(stream_id)
                await anyio.sleep(FOLLOWERS_SECONDS)
                known = await self._valkey.followers(stream_id)
        except ValkeyUnavailable:
            known = None
        return known or (0, 0)

    async def cancel_elsewhere(self, stream_id: UUID) -> bool:
        """Ask its writer."""
        try:
            return await self._valkey.cancel(stream_id)
        except ValkeyUnavailable as error:
            raise StreamLogUnavailable from error

    async def call_for_orphans(self) -> None:
        """Tell the others that there are generations to take over; they find out by themselves too, but later."""
        try:
            await self._valkey.call(b"o")
        except ValkeyUnavailable:
            logger.info("the other gateways were not called: Valkey is away")

    async def tell_usage(self, message: bytes) -> None:
        """Tell the others what was used here; they are not told while Valkey is away."""
        with suppress(ValkeyUnavailable):
            await self._valkey.call(b"l" + self._valkey.replica_id.bytes + message)

    def _superseded(self, stream_id: UUID) -> None:
        if self._handlers is not None:
            self._handlers.superseded(stream_id)

    async def _note(self, streams: Sequence[tuple[UUID, int]], detached: bool) -> None:
        if self._handlers is not None:
            await self._handlers.notes.detached(streams, detached)

    async def _note_usage(self, streams: Mapping[UUID, StreamOwner]) -> None:
        if self._handlers is not None:
            await self._handlers.notes.usage(streams)

    async def _ended(self, stream_ids: Sequence[UUID]) -> set[UUID]:
        return set() if self._handlers is None else await self._handlers.notes.ended(stream_ids)

    async def _owns(self, stream_id: UUID, fence: int) -> bool:
        try:
            return self._handlers is not None and await self._handlers.owns(stream_id, fence)
        except Exception as error:
            raise StreamLogUnavailable from error

    async def _maintain_forever(self) -> None:
        rounds = 0
        while True:
            waited_for = self.mirrored and self._outbox.exposure.is_away
            await anyio.sleep(AWAY_SECONDS if waited_for else MAINTENANCE_SECONDS)
            await self._look()
            rounds += 1
            if not self._outbox.writable:
                continue
            with suppress(ValkeyUnavailable):  # the next look shows whether it is there
                if rounds % ROUNDS_UNTIL_COMPARED == 0:
                    await self._outbox.look_after()
                if rounds % ROUNDS_UNTIL_PURGED == 0:
                    await self._catch_up()
                    await self._valkey.trim()

    async def _catch_up(self) -> None:
        """Valkey promises nobody that a message arrives, and a gateway that was killed sends none."""
        silent = self._mirrors.silent()
        await self._mirrors.catch_up()
        still = [stream_id for stream_id in self._mirrors.silent() if stream_id in silent]
        if still:
            self._mirrors.give_up(await self._ended(still))

    async def _look(self) -> None:
        try:
            changed = await self._valkey.probe()
            if changed or not self._outbox.writable:
                await self._outbox.reconnect()
            self._mirrors.fail_away()
        except ValkeyUnavailable as error:
            self._outbox.disconnect(error)
            if self._outbox.exposure.away_for() > PATIENCE_SECONDS:
                self._mirrors.fail_all()

    async def _listen(self) -> None:
        """Listen until Valkey goes."""
        try:
            async with aclosing(self._valkey.messages()) as messages:
                async for message in messages:
                    if message is not None:
                        self._receive(message)
                    else:
                        self._mirrors.listening.set()
                        await self._mirrors.catch_up()
        except ValkeyUnavailable:
            pass
        finally:
            self._mirrors.hears_nothing()
        await anyio.sleep(MAINTENANCE_SECONDS / 2)

    def _receive(self, message: bytes) -> None:
        """`o` alone, or a kind of word, an id (of a stream, for `l` of the sender) and what belongs to it.

        What is none of these is for nobody.
        """
        if self._handlers is None:
            return
        if message == b"o":
            self._handlers.orphans()
        if len(message) < 17:
            return
        kind, stream_id = message[:1], UUID(bytes=message[1:17])
        if kind == b"e":
            self._mirrors.receive(stream_id, message[17:])
        elif kind == b"w":
            self._mirrors.look_again(stream_id)
        elif kind == b"c":
            self._handlers.cancel(stream_id)
        elif kind == b"u":
            self._handlers.unfollowed(stream_id)
        elif kind == b"l" and stream_id != self._valkey.replica_id:
            self._handlers.usage(message[17:])


def _usage(data: bytes) -> TokenUsage:
    try:
        return decode_usage(data)
    except ValueError:
        return NO_USAGE
