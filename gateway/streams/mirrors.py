"""Streams that other gateways write, for as long as somebody watches them here."""

import logging
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from uuid import UUID

import anyio

from gateway.errors import StreamExpired, StreamLogUnavailable
from gateway.streams.buffer import StreamBuffer
from gateway.streams.codec import decode
from gateway.streams.events import Event
from gateway.streams.log import StreamMoved, StreamWithoutEnd
from gateway.streams.valkey import NodeUnavailable, StoredStream, StreamDamaged, Valkey, ValkeyUnavailable, opened

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""How long viewers of other gateways' streams wait for a Valkey that is away."""

RETRY_SECONDS = 0.1

FIRST_EVENT_SECONDS = 3.0
"""How long a stream may stay unknown that another gateway has just begun, or has to write again."""

LAST_EVENT_SECONDS = 3.0
"""How long the end of a generation may take to come that the database knows to have ended."""


@dataclass(slots=True)
class _Mirror:
    """A stream of another gateway's, here for as long as it has viewers. `looked_at`: its length at the last look."""

    viewers: int = 0
    loaded: bool = False
    looked_at: int = 0
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class Mirrors:
    """Copies of other gateways' streams, kept up to date by what those say; each goes with its last viewer here."""

    def __init__(self, valkey: Valkey, buffer: StreamBuffer) -> None:
        self._valkey = valkey
        self._buffer = buffer
        self._mirrors: dict[UUID, _Mirror] = {}
        self._stale: dict[UUID, _Mirror] = {}
        self._changed = anyio.Event()
        self.listening = anyio.Event()

    def __contains__(self, stream_id: UUID) -> bool:
        return stream_id in self._mirrors

    def holds(self, stream_id: UUID) -> bool:
        """Tell whether there is a copy that is up to date."""
        mirror = self._mirrors.get(stream_id)
        return mirror is not None and mirror.loaded and self._buffer.length(stream_id) > 0

    async def follow(self, stream_id: UUID, after: int, *, finished: bool) -> AsyncGenerator[Sequence[Event], None]:
        """Replay, then follow, as a StreamLog does. Raises StreamMoved where the stream was begun anew."""
        mirror = self._mirrors.setdefault(stream_id, _Mirror())
        mirror.viewers += 1
        try:
            await self._load(stream_id, mirror, finished=finished)
            batches = self._buffer.follow(stream_id, after)
            try:
                while (batch := await self._next(stream_id, mirror, batches, finished=finished)) is not None:
                    yield batch
            finally:
                await batches.aclose()
        finally:
            mirror.viewers -= 1
            if not mirror.viewers:
                self._look_at(stream_id, mirror)

    def drop(self, stream_id: UUID) -> None:
        """Drop the copy: this gateway writes the stream from now on."""
        self._mirrors.pop(stream_id, None)

    def hears_nothing(self) -> None:
        """Note that what other gateways write is missed from now on, until `listening` is set again."""
        self.listening = anyio.Event()

    def fail_all(self) -> None:
        """Valkey was away for too long."""
        for stream_id in self._mirrors:
            self._buffer.fail(stream_id, StreamLogUnavailable())

    def fail_away(self) -> None:
        """Fail those of which one server of a cluster alone knows, and has been away for too long."""
        for stream_id in self._mirrors:
            if self._valkey.away_for(stream_id) > PATIENCE_SECONDS:
                self._buffer.fail(stream_id, StreamLogUnavailable())

    def receive(self, stream_id: UUID, data: bytes) -> None:
        """Another gateway has written this."""
        mirror = self._mirrors.get(stream_id)
        if mirror is None or not mirror.loaded or self._buffer.has_finished(stream_id):
            return
        length = self._buffer.length(stream_id)
        try:
            events = decode(opened(stream_id, data))
            if not events:
                raise StreamDamaged
            self._buffer.add(stream_id, [event for event in events if event.sequence > length])
        except (ValueError, KeyError):  # something was missed, or this was never said: it is read anew
            self._look_at(stream_id, mirror)

    def look_again(self, stream_id: UUID) -> None:
        """Read it again: its gateway has written it anew, and does not know who watches it."""
        if mirror := self._mirrors.get(stream_id):
            self._look_at(stream_id, mirror)

    def silent(self) -> set[UUID]:
        """Give those that have not grown since this was asked last, and have not ended."""
        silent: set[UUID] = set()
        for stream_id, mirror in self._mirrors.items():
            length = self._buffer.length(stream_id)
            if length == mirror.looked_at and mirror.viewers and not self._buffer.has_finished(stream_id):
                silent.add(stream_id)
            mirror.looked_at = length
        return silent

    def give_up(self, stream_ids: Iterable[UUID]) -> None:
        """Give these have ended, and nobody has said so here."""
        for stream_id in stream_ids:
            if stream_id in self._mirrors and not self._buffer.has_finished(stream_id):
                self._buffer.fail(stream_id, StreamWithoutEnd())

    async def catch_up(self) -> None:
        """Read what was missed while nobody listened. Raises ValkeyUnavailable."""
        for stream_id, mirror in list(self._mirrors.items()):
            async with mirror.lock:
                if mirror.viewers and self._mirrors.get(stream_id) is mirror:
                    try:
                        await self._read_into(stream_id, mirror)
                    except NodeUnavailable:
                        self._look_at(stream_id, mirror)  # to be tried again; the others do not wait for it
                    except (StreamExpired, StreamMoved):
                        pass  # its viewers know

    async def repair_forever(self) -> None:
        """Let go of those without viewers, and read anew those that missed something, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            await self._repair()
            if self._stale:
                await anyio.sleep(RETRY_SECONDS)

    async def _next(
        self, stream_id: UUID, mirror: _Mirror, batches: AsyncGenerator[Sequence[Event], None], *, finished: bool
    ) -> Sequence[Event] | None:
        """Give the next batch, None after the last. Of what has ended the rest must come soon."""
        if not finished:
            return await anext(batches, None)
        with anyio.move_on_after(LAST_EVENT_SECONDS):
            return await anext(batches, None)
        length = self._buffer.length(stream_id)
        async with mirror.lock:
            await self._read_patiently(stream_id, mirror)
        raise StreamMoved if self._buffer.length(stream_id) > length else StreamWithoutEnd

    async def _load(self, stream_id: UUID, mirror: _Mirror, *, finished: bool) -> None:
        """Have a mirror that is up to date. Raises StreamExpired, StreamLogUnavailable and StreamMoved."""
        async with mirror.lock:
            if mirror.loaded and stream_id in self._buffer:
                return
            with anyio.move_on_after(PATIENCE_SECONDS):
                await self.listening.wait()
            known = await self._read_patiently(stream_id, mirror)
        if not known and not await self._first_event(stream_id, finished=finished):
            mirror.loaded = False
            raise StreamExpired if finished else StreamLogUnavailable

    async def _read_patiently(self, stream_id: UUID, mirror: _Mirror) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._read_into(stream_id, mirror)
            except ValkeyUnavailable as error:
                if time.monotonic() > deadline:
                    raise StreamLogUnavailable from error
            await anyio.sleep(RETRY_SECONDS)

    async def _read_into(self, stream_id: UUID, mirror: _Mirror) -> bool:
        """Bring a mirror up to date. False where Valkey knows nothing of the stream.

        Raises StreamExpired for what cannot be read, StreamMoved where this gateway writes it now, ValkeyUnavailable.
        """
        mirror.loaded = True  # what is said from here on fits behind what is read, or is in it, or shows as a gap
        if stream_id not in self._buffer:
            self._buffer.begin(stream_id)
        try:
            kept = await self._follow(stream_id, mirror)
            if kept is not None and not self._fits(stream_id, kept):
                self._buffer.begin(stream_id, kept.first - 1)  # its viewers look again, each from where it is
                kept = await self._follow(stream_id, mirror)
            if kept is not None:
                self._buffer.add(stream_id, events_of(kept, self._buffer.length(stream_id)))
        except ValkeyUnavailable:
            mirror.loaded = False
            raise
        except (ValueError, KeyError) as error:
            logger.warning("generation %s cannot be read from the stream log", stream_id)
            mirror.loaded = False
            self._buffer.fail(stream_id, StreamExpired())
            self._buffer.forget(stream_id)
            raise StreamExpired from error
        self._buffer.fail(stream_id, None)
        return kept is not None

    async def _follow(self, stream_id: UUID, mirror: _Mirror) -> StoredStream | None:
        kept = await self._valkey.follow(stream_id, self._buffer.length(stream_id))
        if self._mirrors.get(stream_id) is not mirror:
            raise StreamMoved
        return kept

    def _fits(self, stream_id: UUID, kept: StoredStream) -> bool:
        """Tell whether what is kept continues the copy: nothing between was dropped there, and nothing here is void."""
        return kept.first <= self._buffer.length(stream_id) + 1 and kept.void <= self._buffer.dropped(stream_id)

    async def _first_event(self, stream_id: UUID, *, finished: bool) -> bool:
        if finished:
            return False
        with anyio.move_on_after(FIRST_EVENT_SECONDS), suppress(StreamMoved):
            async with aclosing(self._buffer.follow(stream_id)) as batches:
                await anext(batches)
        return self._buffer.length(stream_id) > 0

    def _look_at(self, stream_id: UUID, mirror: _Mirror) -> None:
        self._stale[stream_id] = mirror
        self._changed.set()

    async def _repair(self) -> None:
        """Mirrors without viewers go; those that have missed something are read anew."""
        stale, self._stale = self._stale, {}
        for stream_id, mirror in stale.items():
            async with mirror.lock:
                try:
                    await self._repair_one(stream_id, mirror)
                except ValkeyUnavailable:
                    self._look_at(stream_id, mirror)  # to be tried again
                except (StreamExpired, StreamMoved):
                    pass  # its viewers know

    async def _repair_one(self, stream_id: UUID, mirror: _Mirror) -> None:
        if self._mirrors.get(stream_id) is not mirror:
            return
        if mirror.viewers:
            await self._read_into(stream_id, mirror)
            return
        if not self._buffer.has_finished(stream_id):
            mirror.loaded = False  # who comes meanwhile has to ask again
            await self._valkey.unfollow(stream_id)
        if not mirror.viewers and self._mirrors.get(stream_id) is mirror:
            del self._mirrors[stream_id]
            if not self._buffer.has_finished(stream_id):
                self._buffer.forget(stream_id)


def events_of(kept: StoredStream, after: int = 0) -> list[Event]:
    """Give the events that Valkey keeps behind a number. Raises ValueError where they are not all there, in order."""
    events = [event for payload in kept.payloads for event in decode(payload) if event.sequence > after]
    if [event.sequence for event in events] != list(range(max(kept.first, after + 1), kept.last + 1)):
        raise StreamDamaged
    return events
