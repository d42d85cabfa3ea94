"""Streams that other gateways write, for as long as somebody watches them here."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import UUID

import anyio

from gateway.errors import StreamExpired, StreamLogUnavailable
from gateway.event_codec import decode
from gateway.events import Event
from gateway.streams import MemoryStreamLog
from gateway.valkey import Kept, Valkey, ValkeyUnavailable

PATIENCE_SECONDS = 5.0
"""How long viewers of other gateways' streams wait for a Valkey that is away."""

RETRY_SECONDS = 0.1

FIRST_WORD_SECONDS = 2.0
"""How long a stream may stay unknown that another gateway has just begun."""


@dataclass(slots=True)
class _Mirror:
    """A stream of another gateway's, here for as long as it has viewers."""

    viewers: int = 0
    loaded: bool = False
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class Mirrors:
    """Copies of other gateways' streams, kept up to date by what those say; each goes with its last viewer here."""

    def __init__(self, valkey: Valkey, local: MemoryStreamLog) -> None:
        self._valkey = valkey
        self._local = local
        self._mirrors: dict[UUID, _Mirror] = {}
        self._abandoned: dict[UUID, _Mirror] = {}
        self._changed = anyio.Event()
        self.listening = anyio.Event()

    def __contains__(self, stream_id: UUID) -> bool:
        return stream_id in self._mirrors

    def is_loaded(self, stream_id: UUID) -> bool:
        """Whether the copy is up to date."""
        mirror = self._mirrors.get(stream_id)
        return mirror is not None and mirror.loaded

    async def follow(self, stream_id: UUID, after: int, *, ended: bool) -> AsyncGenerator[Sequence[Event], None]:
        """Replay, then follow, as a StreamLog does."""
        mirror = self._mirrors.setdefault(stream_id, _Mirror())
        mirror.viewers += 1
        try:
            await self._load(stream_id, mirror, ended=ended)
            async for batch in self._local.follow(stream_id, after):
                yield batch
        finally:
            mirror.viewers -= 1
            if not mirror.viewers:
                self._abandon(stream_id, mirror)

    def drop(self, stream_id: UUID) -> None:
        """This gateway writes it from now on."""
        self._mirrors.pop(stream_id, None)

    def fail_all(self) -> None:
        """Valkey was away for too long."""
        for stream_id in self._mirrors:
            self._local.fail(stream_id, StreamLogUnavailable())

    def hear(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Another gateway has written these."""
        mirror = self._mirrors.get(stream_id)
        length = self._local.length(stream_id)
        if not events or mirror is None or not mirror.loaded or events[-1].sequence <= length:
            return
        if events[0].sequence > length + 1:
            mirror.loaded = False
            self._abandon(stream_id, mirror)  # something was missed: it is read anew
            return
        self._local.add(stream_id, [event for event in events if event.sequence > length])

    async def catch_up(self) -> None:
        """Read what was missed while nobody listened."""
        for stream_id, mirror in list(self._mirrors.items()):
            async with mirror.lock:
                if mirror.viewers:
                    await self._read_into(stream_id, mirror)

    async def mend_forever(self) -> None:
        """Let go of those without viewers, and read anew those that missed something, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            await self._mend()
            if self._abandoned:
                await anyio.sleep(RETRY_SECONDS)

    async def _load(self, stream_id: UUID, mirror: _Mirror, *, ended: bool) -> None:
        """Have a mirror that is up to date. Raises StreamExpired and StreamLogUnavailable."""
        async with mirror.lock:
            if mirror.loaded:
                return
            with anyio.move_on_after(PATIENCE_SECONDS):
                await self.listening.wait()
            known = await self._read_patiently(stream_id, mirror)
        if not known and not await self._first_word(stream_id, ended=ended):
            self._local.forget(stream_id)
            mirror.loaded = False
            raise StreamExpired if ended else StreamLogUnavailable

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
        """Bring a mirror up to date. False where Valkey knows nothing of the stream."""
        mirror.loaded = True  # what is said from here on fits behind what is read, or is in it, or shows as a gap
        if stream_id not in self._local:
            self._local.begin(stream_id)
        length = self._local.length(stream_id)
        try:
            kept = await self._valkey.follow(stream_id, length)
        except ValkeyUnavailable:
            mirror.loaded = False
            raise
        if stream_id in self._local and kept.first > self._local.length(stream_id) + 1:
            self._local.fail(stream_id, StreamExpired())  # what stands between was dropped there
            self._local.forget(stream_id)
        if stream_id not in self._local:
            self._local.begin(stream_id, max(0, kept.first - 1))
        length = self._local.length(stream_id)
        self._local.add(stream_id, [event for event in events_of(kept) if event.sequence > length])
        self._local.fail(stream_id, None)
        return kept.first > 0

    async def _first_word(self, stream_id: UUID, *, ended: bool) -> bool:
        if ended:
            return False
        with anyio.move_on_after(FIRST_WORD_SECONDS):
            async with aclosing(self._local.follow(stream_id)) as batches:
                await anext(batches)
        return self._local.length(stream_id) > 0

    def _abandon(self, stream_id: UUID, mirror: _Mirror) -> None:
        self._abandoned[stream_id] = mirror
        self._changed.set()

    async def _mend(self) -> None:
        """Mirrors without viewers go; those that have missed something are read anew."""
        abandoned, self._abandoned = self._abandoned, {}
        for stream_id, mirror in abandoned.items():
            async with mirror.lock:
                try:
                    if mirror.viewers:
                        await self._read_into(stream_id, mirror)
                    elif self._mirrors.get(stream_id) is mirror:
                        del self._mirrors[stream_id]
                        if not self._local.has_ended(stream_id):
                            self._local.forget(stream_id)
                            await self._valkey.unfollow(stream_id)
                except ValkeyUnavailable:
                    self._abandon(stream_id, mirror)  # to be tried again


def events_of(kept: Kept) -> list[Event]:
    """The events of what Valkey keeps."""
    return [event for payload in kept.payloads for event in decode(payload)]
