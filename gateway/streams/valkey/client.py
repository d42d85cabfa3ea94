"""Speaks to Valkey (or Redis 7 and newer): the one place that knows its keys and its client library.

    ollagraph:{<id>}:events     stream   one entry for each batch of events; its ID is the batch's last sequence number
    ollagraph:{<id>}:meta       hash     fence, owner, first, last, entries, bytes, usage, request, cancelled, ended,
                                         void, and a field w:<gateway> for each gateway that has viewers of it
    ollagraph:ended             zset     <id>:<bytes> by the time of the end, to keep within the memory allowed
    ollagraph:bytes             counter  what the ended ones take together
    ollagraph:replica:<id>      channel  to one gateway: events of streams it follows, and what others want of it
    ollagraph:replicas          channel  to all gateways

A batch is appended, and handed to the gateways that follow, by one script: so nothing is written by a gateway that
lost the stream to another, nothing stands twice, and nothing is missing between what was replayed and what follows.
The scripts say what of the two keys fits together (`scripts.py`), and a checksum says whether what stands in
them was written for this stream.
"""

import re
import zlib
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import anyio
from redis import asyncio as redis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from gateway.streams.valkey import scripts

TIMEOUT_SECONDS = 2.0
"""How long Valkey may take to answer; it answers in less than a millisecond."""

FENCED = -1
"""Instead of a sequence number: another gateway writes the stream now."""

_LEAST_RETENTION_SECONDS = 5
"""Viewers on other gateways must be able to read the end."""

_REASONS: dict[type[Exception], str] = {
    exceptions.OutOfMemoryError: "its memory is full",
    exceptions.ReadOnlyError: "it is a read-only replica",
    exceptions.BusyLoadingError: "it is loading its data",
    exceptions.NoPermissionError: "its user has not all rights on ollagraph:*",
    exceptions.AuthenticationError: "it refuses the password",
    exceptions.MasterDownError: "it is a replica without its master",
    exceptions.ClusterDownError: "it is a cluster",
    exceptions.MovedError: "it is a cluster",
    exceptions.AskError: "it is a cluster",
}

_WORDS = {
    "ACL failure": "its user has not all rights on ollagraph:*",
    "NOREPLICAS": "it has too few replicas",
    "MISCONF": "it cannot save its data to disk",
    "BUSY": "it is busy with a script",
    "WRONGTYPE": "a key holds something else",
}


class ValkeyUnavailable(Exception):
    """Valkey does not answer, or not as it should. The message holds no address and no password."""


class Fenced(Exception):
    """Another gateway has a newer right to the stream."""


class StreamDamaged(ValueError):
    """What stands in Valkey was not written for this stream."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one stream, as they are appended.

    `shown` is the number of the last event that viewers have seen. `mode` is empty, or `rebased` where what went
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
    mode: str = ""
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


class Valkey:
    """One Valkey server.

    `url` as in `redis://:password@host:6379/0`. `max_stream_bytes` bounds each stream, `max_bytes` all that have
    ended, `retention` is how many seconds those are kept. Every call raises ValkeyUnavailable.
    """

    def __init__(self, url: str, replica_id: UUID, *, retention: float, max_stream_bytes: int, max_bytes: int) -> None:
        self._replica = str(replica_id)
        # a running stream that nobody can take up any more must go one day
        self._expiry_ms = round(max(retention, 3600) * 1000) + 86_400_000
        self._retention_ms = round(max(retention, _LEAST_RETENTION_SECONDS) * 1000)
        self._max_stream_bytes = max_stream_bytes
        self._max_bytes = max_bytes
        client = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - half typed
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._client: Any = client  # whose types are half unknown
        self._append = self._client.register_script(scripts.APPEND)
        self._claim = self._client.register_script(scripts.CLAIM)
        self._follow = self._client.register_script(scripts.FOLLOW)
        self._unfollow = self._client.register_script(scripts.UNFOLLOW)
        self._followers = self._client.register_script(scripts.FOLLOWERS)
        self._last = self._client.register_script(scripts.LAST)
        self._cancel = self._client.register_script(scripts.CANCEL)
        self._trim = self._client.register_script(scripts.TRIM)
        self._probe = self._client.register_script(scripts.PROBE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def probe(self) -> None:
        """Write as streams are written: one that answers and takes nothing is of no use to them."""
        with _reporting():
            await self._probe(_keys(UUID(self._replica)), [f"ollagraph:replica:{self._replica}"])

    async def append(self, batches: Sequence[Batch]) -> list[int | ValkeyUnavailable]:
        """Append to many streams in one round trip; for each the last sequence number it has now, or FENCED.

        Where Valkey refuses one of them, its error stands in the place of the number.
        """
        calls = [(_keys(batch.stream_id), self._arguments(batch)) for batch in batches]
        return [
            _unavailable(reply) if isinstance(reply, Exception) else reply
            for reply in await self._run_all(self._append, calls)
        ]

    async def last_numbers(self, stream_ids: Sequence[UUID]) -> list[int | None]:
        """Give the last number of each; 0 where nothing is kept that can be used, None where Valkey fails on it."""
        replies = await self._run_all(self._last, [(_keys(stream_id), ()) for stream_id in stream_ids])
        return [None if isinstance(reply, Exception) else reply for reply in replies]

    async def claim(self, stream_id: UUID, fence: int, *, void: bool = False) -> StoredStream | None:
        """Fence off whoever wrote it before. None where nothing is kept of it. Raises Fenced and StreamDamaged.

        `void` is set by who knows that what is kept is not the whole: then nothing of it is kept on, unless its end
        is there.
        """
        with _reporting():
            reply = await self._claim(_keys(stream_id), [fence, self._replica, int(void), stream_id.bytes])
        if reply is None:
            raise Fenced
        return _stored(stream_id, reply)

    async def follow(self, stream_id: UUID, after: int) -> StoredStream | None:
        """Have this gateway told of all that comes, and give what there is behind a sequence number.

        None where nothing is kept, or not yet. Raises StreamDamaged.
        """
        with _reporting():
            reply = await self._follow(_keys(stream_id), [self._replica, self._expiry_ms, after])
        return _stored(stream_id, reply)

    async def read(self, stream_id: UUID) -> StoredStream | None:
        """Give all there is of a stream now; None where nothing is kept. Raises StreamDamaged."""
        with _reporting():
            reply = await self._follow(_keys(stream_id), ["", 0, 0])
        return _stored(stream_id, reply)

    async def unfollow(self, stream_id: UUID) -> None:
        """Tell that this gateway has no viewers of it any more."""
        with _reporting():
            await self._unfollow(_keys(stream_id), [self._replica, stream_id.bytes])

    async def followers(self, stream_id: UUID) -> tuple[int, int] | None:
        """Count the other gateways with viewers of a stream: those that listen, and those that have died with them.

        None where Valkey has lost the stream, and their names with it.
        """
        with _reporting():
            names = await self._followers(_keys(stream_id))
            if names is None:
                return None
            channels = [f"ollagraph:replica:{_text(name)}" for name in names if _text(name) != self._replica]
            if not channels:
                return 0, 0
            listening = [bool(count) for _, count in await self._client.pubsub_numsub(*channels)]
        return sum(listening), len(listening) - sum(listening)

    async def cancel(self, stream_id: UUID) -> bool:
        """Tell the gateway that writes it to cancel. False when none listens."""
        with _reporting():
            return bool(await self._cancel(_keys(stream_id), [stream_id.bytes]))

    async def call(self, word: bytes) -> None:
        """Say something to all gateways."""
        with _reporting():
            await self._client.publish("ollagraph:replicas", word)

    async def trim(self) -> None:
        """Forget ended streams whose time is over, and the oldest of those that take too much."""
        with _reporting():
            gone = await self._trim(["ollagraph:ended", "ollagraph:bytes"], [self._retention_ms, self._max_bytes])
            for name in gone:
                if re.fullmatch(rb"[0-9a-f-]{36}", name):
                    await self._client.delete(*_keys(UUID(name.decode())))

    async def messages(self) -> AsyncGenerator[bytes | None, None]:
        """Give what others say to this gateway, until Valkey goes; the first item is None, and says that we listen."""
        subscription = self._client.pubsub()
        try:
            with _reporting():
                await subscription.subscribe(f"ollagraph:replica:{self._replica}", "ollagraph:replicas")
            yield None
            while True:
                with _reporting():
                    message = await subscription.get_message(ignore_subscribe_messages=True, timeout=TIMEOUT_SECONDS)
                if message is not None:
                    yield cast("bytes", message["data"])
        finally:
            with anyio.move_on_after(TIMEOUT_SECONDS, shield=True):
                await subscription.aclose()

    async def _run_all(self, script: Any, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run a script many times in one round trip; gives the replies, and errors among them."""
        with _reporting():
            replies = await self._send(script, calls)
            if any(isinstance(reply, NoScriptError) for reply in replies):  # Valkey was restarted
                await self._client.script_load(script.script)
                replies = await self._send(script, calls)  # what was appended already is not appended again
        return replies

    async def _send(self, script: Any, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
        return await pipeline.execute(raise_on_error=False)

    def _arguments(self, batch: Batch) -> tuple[Any, ...]:
        return (
            batch.fence,
            batch.first,
            batch.last,
            batch.mode,
            _sealed(batch.stream_id, batch.payload),
            self._replica,
            _sealed(batch.stream_id, batch.usage),
            self._retention_ms if batch.terminal else self._expiry_ms,
            self._max_stream_bytes,
            int(batch.terminal),
            _sealed(batch.stream_id, batch.request) if batch.request else b"",
            batch.stream_id.bytes,
            str(batch.stream_id),
            int(batch.again),
            batch.shown,
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


def _keys(stream_id: UUID) -> list[str]:
    prefix = f"ollagraph:{{{stream_id}}}"
    return [f"{prefix}:events", f"{prefix}:meta"]


@contextmanager
def _reporting() -> Generator[None]:
    """Turn the client's errors into one."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> ValkeyUnavailable:
    """Say what is wrong without the server's own words, which may hold an address."""
    reason = next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), None)
    reason = reason or next((reason for word, reason in _WORDS.items() if str(error).startswith(word)), None)
    if reason is not None:
        return ValkeyUnavailable(f"Valkey takes no writes: {reason}.")
    if isinstance(error, exceptions.ResponseError):
        return ValkeyUnavailable(f"Valkey refuses what is written ({type(error).__name__}).")
    return ValkeyUnavailable(f"Valkey does not answer ({type(error).__name__}).")
