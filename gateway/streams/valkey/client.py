"""Speaks to Valkey (or Redis 7 and newer): what gateways keep there, and say to each other through it.

    ollagraph:{<id>}:events     stream   one entry for each batch of events; its ID is the batch's last sequence number
    ollagraph:{<id>}:meta       hash     fence, owner, first, last, entries, bytes, usage, request, cancelled, ended,
                                         void, and a field w:<gateway> for each gateway that has viewers of it
    ollagraph:ended             zset     <id>:<bytes> by the time of the end, to keep within the memory allowed
    ollagraph:bytes             counter  what the ended ones take together
    ollagraph:replica:<id>      channel  to one gateway: events of streams it follows, and what others want of it
    ollagraph:replicas          channel  to all gateways

In a cluster the first four are `ollagraph:{<bucket>}:<id>:events` and so on, once for each bucket (`keys.py`).

A batch is appended, and handed to the gateways that follow, by one script: so nothing is written by a gateway that
lost the stream to another, nothing stands twice, and nothing is missing between what was replayed and what follows.
The scripts say what of the two keys fits together (`scripts.py`), and a checksum says whether what stands in
them was written for this stream.
"""

import re
import zlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from uuid import UUID

from gateway.streams.valkey import scripts
from gateway.streams.valkey.failures import (
    Fenced,
    NodeUnavailable,
    StreamDamaged,
    ValkeyUnavailable,
    reporting,
    unavailable,
)
from gateway.streams.valkey.node import Call, Script
from gateway.streams.valkey.urls import servers_at

FENCED = -1
"""Instead of a sequence number: another gateway writes the stream now."""

_EVERYBODY = "ollagraph:replicas"
"""The channel of all gateways."""

_LEAST_RETENTION_SECONDS = 5
"""Viewers on other gateways must be able to read the end."""

_BOOKS_AT_ONCE = 64
"""How many books are looked through together, so that nobody waits long for it."""

_TRIM_MS = 8000
"""For how long a gateway that looks through the books of a cluster does it for all."""

_MOST_CUTS = 10
"""How often what is allowed is approached by age before the rest is left for the next time."""

_APPEND = Script(scripts.APPEND)
_CLAIM = Script(scripts.CLAIM)
_FOLLOW = Script(scripts.FOLLOW)
_UNFOLLOW = Script(scripts.UNFOLLOW)
_FOLLOWERS = Script(scripts.FOLLOWERS)
_LAST = Script(scripts.LAST)
_CANCEL = Script(scripts.CANCEL)
_TRIM = Script(scripts.TRIM)
_LEASE = Script(scripts.LEASE)
_PROBE = Script(scripts.PROBE)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one stream, as they are appended.

    `shown` is the number of the last event that viewers have seen. `mode` is `next`, or `rebased` where what went
    before is no longer kept by anybody, or `anew` where what Valkey keeps shall be shown to nobody. `again`: Valkey
    had the stream before, so gateways may watch it.
    """

    stream_id: UUID
    fence: int
    first: int
    last: int
    shown: int
    payload: bytes
    usage: bytes
    request: bytes
    terminal: bool
    mode: str = "next"
    again: bool = False


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stream as it stands in Valkey: the first and the last sequence number kept, and each entry's payload.

    What was written up to `void` is not to be shown: it was found to be less than viewers had seen.
    """

    first: int
    last: int
    void: int
    payloads: Sequence[bytes]
    usage: bytes = b""
    request: bytes = b""
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class _Left:
    """What ended streams take in all books, and when the oldest and the newest of them ended, in ms."""

    bytes: int
    oldest: int
    newest: int


class Valkey:
    """One Valkey server, or a cluster.

    `url` as in `redis://:password@host:6379/0`, or as in `redis+cluster://:password@host:6379,host:6379`.
    `max_stream_bytes` bounds each stream, `max_bytes` all that have ended, `retention` is how many seconds those are
    kept. Every call raises ValkeyUnavailable.
    """

    def __init__(self, url: str, replica_id: UUID, *, retention: float, max_stream_bytes: int, max_bytes: int) -> None:
        self.replica_id = replica_id
        self._replica = str(replica_id)
        self._channel = f"ollagraph:replica:{replica_id}"
        # a running stream that nobody can take up any more must go one day
        self._expiry_ms = round(max(retention, 3600) * 1000) + 86_400_000
        self._retention_ms = round(max(retention, _LEAST_RETENTION_SECONDS) * 1000)
        self._max_stream_bytes = max_stream_bytes
        self._max_bytes = max_bytes
        self._servers, self._keys = servers_at(url)
        self._probes = [Call(_PROBE, keys, [""]) for keys in self._keys.probes(self._replica)]
        self._turns = cycle(self._probes)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    async def probe(self) -> bool:
        """Write as streams are written: one that answers and takes nothing is of no use to them.

        True where a server has come or gone since, so that what stands there should be looked at.
        """
        speaking = Call(_PROBE, next(self._turns).keys, [self._channel])  # a cluster passes on what one server says
        with reporting():
            return await self._servers.probe(speaking, self._probes)

    async def append(self, batches: Sequence[Batch]) -> list[int | ValkeyUnavailable]:
        """Append to many streams in one round trip; for each the last sequence number it has now, or FENCED.

        Where Valkey refuses one of them, its error stands in the place of the number.
        """
        with reporting():
            replies = await self._servers.send([self._appending(batch) for batch in batches])
        return [unavailable(reply) if isinstance(reply, Exception) else reply for reply in replies]

    async def last_numbers(self, stream_ids: Sequence[UUID]) -> list[int | None]:
        """Give the last number of each; 0 where nothing is kept that can be used, None where Valkey fails on it."""
        with reporting():
            replies = await self._servers.send([Call(_LAST, self._keys.stream(stream_id)) for stream_id in stream_ids])
        return [None if isinstance(reply, Exception) else reply for reply in replies]

    async def claim(self, stream_id: UUID, fence: int, *, void: bool = False) -> StoredStream | None:
        """Fence off whoever wrote it before. None where nothing is kept of it. Raises Fenced and StreamDamaged.

        `void` is set by who knows that what is kept is not the whole: then nothing of it is kept on, unless its end
        is there.
        """
        reply = await self._run(_CLAIM, stream_id, [fence, self._replica, int(void), stream_id.bytes])
        if reply is None:
            raise Fenced
        return _stored(stream_id, reply)

    async def follow(self, stream_id: UUID, after: int) -> StoredStream | None:
        """Have this gateway told of all that comes, and give what there is behind a sequence number.

        None where nothing is kept, or not yet. Raises StreamDamaged.
        """
        return _stored(stream_id, await self._run(_FOLLOW, stream_id, [self._replica, self._expiry_ms, after]))

    async def read(self, stream_id: UUID) -> StoredStream | None:
        """Give all there is of a stream now; None where nothing is kept. Raises StreamDamaged."""
        return _stored(stream_id, await self._run(_FOLLOW, stream_id, ["", 0, 0]))

    async def unfollow(self, stream_id: UUID) -> None:
        """Tell that this gateway has no viewers of it any more."""
        await self._run(_UNFOLLOW, stream_id, [self._replica, stream_id.bytes])

    async def followers(self, stream_id: UUID) -> tuple[int, int] | None:
        """Count the other gateways with viewers of a stream: those that listen, and those that have died with them.

        None where Valkey has lost the stream, and their names with it.
        """
        names = await self._run(_FOLLOWERS, stream_id)
        if names is None:
            return None
        channels = [f"ollagraph:replica:{_text(name)}" for name in names if _text(name) != self._replica]
        if not channels:
            return 0, 0
        with reporting():
            listening = await self._servers.listening(channels)
        return sum(listening), len(listening) - sum(listening)

    async def cancel(self, stream_id: UUID) -> bool:
        """Tell the gateway that writes it to cancel. False when none listens."""
        count, owner = await self._run(_CANCEL, stream_id, [stream_id.bytes])
        if count:
            return True
        with reporting():  # one server of a cluster counts only those who listen at it
            return any(await self._servers.listening([f"ollagraph:replica:{_text(owner)}" if owner else _EVERYBODY]))

    async def call(self, word: bytes) -> None:
        """Say something to all gateways."""
        with reporting():
            await self._servers.publish(_EVERYBODY, word)

    async def trim(self) -> None:
        """Forget ended streams whose time is over, and the oldest of those that take too much."""
        if len(self._keys.books) == 1:
            await self._trim(self._max_bytes, 0)
        elif await self._may_trim():
            left = await self._trim(-1, 0)
            for _ in range(_MOST_CUTS):
                if left.bytes <= self._max_bytes:
                    return
                # as if as much had ended at all times, and half as far: so that it is seldom too much
                share = 0.5 - 0.5 * self._max_bytes / left.bytes if self._max_bytes else 1
                left = await self._trim(-1, left.oldest + round((left.newest - left.oldest) * share))

    def messages(self) -> AsyncGenerator[bytes | None, None]:
        """Give what others say to this gateway, until Valkey goes; the first item is None, and says that we listen."""
        return self._servers.messages([self._channel, _EVERYBODY])

    def away_for(self, stream_id: UUID) -> float:
        """For how many seconds the one server of a cluster that has this stream has taken nothing; 0 while it does."""
        return self._servers.away_for(self._keys.stream(stream_id)[0])

    async def _run(self, script: Script, stream_id: UUID, arguments: Sequence[Any] = ()) -> Any:
        """Run a script on one stream."""
        with reporting():
            (reply,) = await self._servers.send([Call(script, self._keys.stream(stream_id), arguments)])
            if isinstance(reply, Exception):
                raise reply
        return reply

    async def _may_trim(self) -> bool:
        """Have the books of a cluster to ourselves for a while: there are many, and one gateway is enough for them."""
        with reporting():
            (reply,) = await self._servers.send([Call(_LEASE, ["ollagraph:trim"], [self._replica, _TRIM_MS])])
        return reply is not None and not isinstance(reply, Exception)

    async def _trim(self, most: int, until: int) -> _Left:
        """Forget what ended until then, or too long ago, and the oldest in a book that takes more than `most`."""
        found: list[_Left] = []
        for start in range(0, len(self._keys.books), _BOOKS_AT_ONCE):
            books = self._keys.books[start : start + _BOOKS_AT_ONCE]
            calls = [Call(_TRIM, book.names, [self._retention_ms, most, until]) for book in books]
            gone: list[Call] = []
            with reporting():
                for reply in await self._servers.send(calls):
                    if isinstance(reply, NodeUnavailable):
                        continue
                    if isinstance(reply, Exception):
                        raise reply
                    count, oldest, newest, names = reply
                    if int(count):
                        found.append(_Left(int(count), int(oldest), int(newest)))
                    known = [name.decode() for name in names if re.fullmatch(rb"[0-9a-f-]{36}", name)]
                    gone += [Call(None, self._keys.stream(UUID(name))) for name in known]
                await self._servers.send(gone)
        if not found:
            return _Left(0, 0, 0)
        return _Left(
            sum(book.bytes for book in found), min(book.oldest for book in found), max(book.newest for book in found)
        )

    def _appending(self, batch: Batch) -> Call:
        keys = self._keys.stream(batch.stream_id)
        if batch.terminal:
            keys += self._keys.book(batch.stream_id).names
        return Call(_APPEND, keys, self._arguments(batch))

    def _arguments(self, batch: Batch) -> tuple[Any, ...]:
        expiry = self._retention_ms if batch.terminal else self._expiry_ms
        return (
            f"{batch.fence} {batch.first} {batch.last} {batch.shown} {expiry} {self._max_stream_bytes} "
            f"{batch.terminal:d} {batch.again:d} {batch.mode}",
            _sealed(batch.stream_id, batch.payload),
            _sealed(batch.stream_id, batch.usage),
            self._replica,
            batch.stream_id.bytes,
            _sealed(batch.stream_id, batch.request) if batch.request else b"",
            *((str(batch.stream_id),) if batch.terminal else ()),
        )


def opened(stream_id: UUID, data: bytes) -> bytes:
    """Give what was written for this stream. Raises StreamDamaged for everything else."""
    payload = data[4:]
    if len(data) < 4 or _checksum(stream_id, payload) != data[:4]:
        raise StreamDamaged
    return payload


def _sealed(stream_id: UUID, payload: bytes) -> bytes:
    return _checksum(stream_id, payload) + payload


def _checksum(stream_id: UUID, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(stream_id.bytes)).to_bytes(4)


def _stored(stream_id: UUID, reply: Any) -> StoredStream | None:
    if not reply:
        return None
    first, last, void, entries, *more = reply
    payloads = [opened(stream_id, fields[1]) for _, fields in entries]
    usage, request, cancelled = more or (None, None, None)
    return StoredStream(
        first, last, void, payloads, _or_nothing(stream_id, usage), _or_nothing(stream_id, request), bool(cancelled)
    )


def _or_nothing(stream_id: UUID, data: bytes | None) -> bytes:
    try:
        return opened(stream_id, data or b"")
    except StreamDamaged:
        return b""


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
