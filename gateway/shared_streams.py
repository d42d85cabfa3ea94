"""The log of several gateways that act as one: what each writes goes to Valkey, and from there to who watches it.

A gateway keeps the streams that it writes in memory too, and its own viewers read them there. While Valkey is away
they go on from memory; when it is back, all that it missed is written.
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from gateway.errors import StreamExpired, StreamLogUnavailable
from gateway.event_codec import decode, decode_usage
from gateway.events import Event
from gateway.metering import NO_USAGE
from gateway.mirrors import PATIENCE_SECONDS, Mirrors, events_of
from gateway.outbox import Outbox
from gateway.streams import MemoryStreamLog, Saved, Source, StreamMoved
from gateway.valkey import Fenced, Valkey, ValkeyUnavailable

logger = logging.getLogger(__name__)

TEND_SECONDS = 0.5
"""How often Valkey is asked for a sign of life, and how soon after its return it is noticed."""

GRACE_SECONDS = 2.0
"""How long viewers wait for a Valkey that went away, as one that starts anew does, before they see what it lacks."""

ROUNDS_UNTIL_TIDY = 20


@dataclass(slots=True)
class Handlers:
    """What is to be done when another gateway says something, or has taken a stream over."""

    cancel: Callable[[UUID], None]
    unfollowed: Callable[[UUID], None]
    lost: Callable[[UUID], None]
    orphans: Callable[[], None]


class SharedStreamLog:
    """The log over Valkey. `run` works for it and is to be started before anything else is called."""

    def __init__(self, valkey: Valkey, local: MemoryStreamLog) -> None:
        self._valkey = valkey
        self._local = local
        self._outbox = Outbox(valkey, local, self._lost)
        self._mirrors = Mirrors(valkey, local)
        self._handlers: Handlers | None = None
        self._away_since = time.monotonic()

    def set_handlers(self, handlers: Handlers) -> None:
        """Tell who is to be called; nobody is before."""
        self._handlers = handlers

    @property
    def is_shared(self) -> bool:
        """By all gateways at the same Valkey."""
        return True

    @property
    def attached(self) -> bool:
        """Whether Valkey is there and takes what is written."""
        return self._outbox.attached

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write, listen and tend until cancelled; it has started when Valkey was asked once."""
        async with anyio.create_task_group() as tasks:
            await self._look()
            tasks.start_soon(self._outbox.write_forever, self._detach)
            tasks.start_soon(self._listen_forever)
            tasks.start_soon(self._mirrors.mend_forever)
            tasks.start_soon(self._tend_forever)
            if not self.attached:
                logger.error("Valkey does not answer: until it does, the stream log is in memory alone")
            else:
                with anyio.move_on_after(TEND_SECONDS):
                    await self._mirrors.listening.wait()
            task_status.started()

    async def open(self, stream_id: UUID, source: Source) -> None:
        """Begin an empty stream."""
        self._outbox.open(stream_id, source)

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events, which viewers see when Valkey has taken them, or at once where it is away."""
        await self._outbox.append(stream_id, events)

    async def read(self, stream_id: UUID) -> Sequence[Event]:
        """All events so far, also those that viewers must not see yet."""
        if stream_id in self._local and (stream_id not in self._mirrors or self._mirrors.is_loaded(stream_id)):
            return [*await self._local.read(stream_id), *self._outbox.pending(stream_id)]
        try:
            kept = await self._valkey.read(stream_id)
        except ValkeyUnavailable as error:
            raise StreamLogUnavailable from error
        if kept.first != 1:
            raise StreamExpired
        return events_of(kept)

    async def follow(
        self, stream_id: UUID, after: int = 0, *, ended: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Replay, then follow, here or over Valkey."""
        if stream_id in self._local and stream_id not in self._mirrors:
            try:
                async for batch in self._local.follow(stream_id, after):
                    after = batch[-1].sequence
                    yield batch
                return
            except StreamMoved:
                pass
        batches = self._mirrors.follow(stream_id, after, ended=ended)
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()

    async def claim(self, stream_id: UUID, source: Source) -> Saved | None:
        """Fence off the gateway that wrote it, and take up what it left."""
        try:
            kept = await self._valkey.claim(stream_id, source.fence)
        except Fenced as error:
            raise StreamMoved from error
        except ValkeyUnavailable as error:
            raise StreamLogUnavailable from error
        self._mirrors.drop(stream_id)
        events = [] if kept is None else events_of(kept)
        if stream_id not in self._local:
            self._local.begin(stream_id, max(0, kept.first - 1) if kept else 0)
        length = self._local.length(stream_id)
        self._local.add(stream_id, [event for event in events if event.sequence > length])
        self._outbox.take_up(stream_id, source, known=kept is not None)
        if kept is None:
            return None
        usage = decode_usage(kept.usage) if kept.usage else NO_USAGE
        return Saved(events, usage, kept.request, kept.cancelled)

    async def raise_fence(self, stream_id: UUID, fence: int) -> None:
        """With the next batch Valkey knows it too."""
        self._outbox.raise_fence(stream_id, fence)

    async def flush(self, stream_id: UUID) -> None:
        """Wait for Valkey."""
        await self._outbox.flush(stream_id)

    async def leave(self, stream_id: UUID) -> None:
        """Wait until Valkey has everything, and let go of it."""
        await self._outbox.leave(stream_id)

    async def followers(self, stream_id: UUID) -> tuple[int, int]:
        """As Valkey knows them; while it is away, those of other gateways see nothing and count for nothing."""
        try:
            return await self._valkey.followers(stream_id)
        except ValkeyUnavailable:
            return 0, 0

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

    def _lost(self, stream_id: UUID) -> None:
        if self._handlers is not None:
            self._handlers.lost(stream_id)

    def _detach(self, error: ValkeyUnavailable) -> None:
        """Nothing is written until Valkey answers; where it stays away, this gateway's streams go on from memory."""
        if self._outbox.connected:
            self._outbox.connected = False
            self._away_since = time.monotonic()
        if self.attached and time.monotonic() - self._away_since > GRACE_SECONDS:
            logger.error("the stream log goes on in memory alone: %s", error)
            self._outbox.detach()

    async def _tend_forever(self) -> None:
        rounds = 0
        while True:
            away = self.attached and not self._outbox.connected
            await anyio.sleep(TEND_SECONDS / 5 if away else TEND_SECONDS)
            await self._look()
            rounds += 1
            if self.attached and rounds % ROUNDS_UNTIL_TIDY == 0:
                await self._tidy()

    async def _look(self) -> None:
        try:
            await self._valkey.ping()
            if not self._outbox.connected:
                await self._outbox.reattach()
                logger.info("the stream log is connected")
        except ValkeyUnavailable as error:
            self._detach(error)
            if time.monotonic() - self._away_since > PATIENCE_SECONDS:
                self._mirrors.fail_all()

    async def _tidy(self) -> None:
        self._outbox.forget_forgotten()
        try:
            await self._valkey.trim()
            await self._mirrors.catch_up()  # Valkey promises nobody that a message arrives
        except ValkeyUnavailable as error:
            self._detach(error)

    async def _listen_forever(self) -> None:
        while True:
            try:
                async with aclosing(self._valkey.messages()) as messages:
                    async for message in messages:
                        if message:
                            self._hear_safely(message)
                        else:
                            self._mirrors.listening.set()
                            await self._mirrors.catch_up()
            except ValkeyUnavailable:
                self._mirrors.listening = anyio.Event()
            await anyio.sleep(TEND_SECONDS / 2)

    def _hear_safely(self, message: bytes) -> None:
        try:
            self._hear(message)
        except Exception:  # in the task group of the whole application it would end everything
            logger.exception("what another gateway said could not be taken")

    def _hear(self, message: bytes) -> None:
        """`o` alone, or a kind of word, the stream's id and what belongs to it."""
        if self._handlers is None:
            return
        if len(message) < 17:
            self._handlers.orphans()
            return
        kind, stream_id = message[:1], UUID(bytes=message[1:17])
        if kind == b"e":
            self._mirrors.hear(stream_id, decode(message[17:]))
        elif kind == b"c":
            self._handlers.cancel(stream_id)
        elif kind == b"u":
            self._handlers.unfollowed(stream_id)
