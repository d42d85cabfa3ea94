"""Speaks to Valkey (or Redis 7 and newer): the one place that knows its keys, its scripts and its client library.

    ollagraph:{<id>}:events     stream   one entry for each batch of events; its ID is the batch's last sequence number
    ollagraph:{<id>}:meta       hash     fence, owner, first, last, bytes, usage, request, cancelled
    ollagraph:{<id>}:followers  set      the gateways that have viewers of it
    ollagraph:ended             zset     <id>:<bytes> by the time of the end, to keep within the memory allowed
    ollagraph:bytes             counter  what the ended ones take together
    ollagraph:replica:<id>      channel  to one gateway: events of streams it follows, and what others want of it
    ollagraph:replicas          channel  to all gateways

A batch is appended, and handed to the gateways that follow, by one script: so nothing is written by a gateway that
lost the stream to another, nothing stands twice, and nothing is missing between what was replayed and what follows.
"""

import logging
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import anyio
from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2.0
"""How long Valkey may take to answer; it answers in less than a millisecond."""

FENCED = -1
"""Instead of a sequence number: another gateway writes the stream now."""

_LEAST_RETENTION_SECONDS = 5
"""Viewers on other gateways must be able to read the end."""

_APPEND = """
local fence, have, bytes = unpack(redis.call('HMGET', KEYS[2], 'fence', 'last', 'bytes'))
local mine, first, last = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if fence and tonumber(fence) > mine then return -1 end
have, bytes = tonumber(have or '0'), tonumber(bytes or '0')
local fits = have == first - 1 or (have < last and ARGV[4] == '1')
if not fits or (fence and last < first) then return have end
if have < first - 1 or not fence then redis.call('HSET', KEYS[2], 'first', first) end
if last >= first then
  redis.call('XADD', KEYS[1], last .. '-0', 'e', ARGV[5])
  bytes = bytes + string.len(ARGV[5]) + 64
end
local most = tonumber(ARGV[9])
while bytes > most do
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 2)
  if #oldest < 2 then break end
  redis.call('XDEL', KEYS[1], oldest[1][1])
  bytes = bytes - string.len(oldest[1][2][2]) - 64
  redis.call('HSET', KEYS[2], 'first', tonumber(string.match(oldest[1][1], '^%d+')) + 1)
end
redis.call('HSET', KEYS[2], 'fence', mine, 'owner', ARGV[6], 'last', last, 'bytes', bytes, 'usage', ARGV[7])
if ARGV[10] == '1' then redis.call('HDEL', KEYS[2], 'request')
elseif ARGV[11] ~= '' then redis.call('HSET', KEYS[2], 'request', ARGV[11]) end
redis.call('PEXPIRE', KEYS[1], ARGV[8])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
if last < first then return last end
for _, follower in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  redis.call('PUBLISH', 'ollagraph:replica:' .. follower, 'e' .. ARGV[12] .. ARGV[5])
end
if ARGV[10] == '1' then
  local time = redis.call('TIME')
  redis.call('PEXPIRE', KEYS[3], ARGV[8])
  redis.call('ZADD', 'ollagraph:ended', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[13] .. ':' .. bytes)
  redis.call('INCRBY', 'ollagraph:bytes', bytes)
end
return last
"""

_CLAIM = """
local fence = redis.call('HGET', KEYS[2], 'fence')
if not fence then return {} end
local mine = redis.call('HGET', KEYS[2], 'owner') == ARGV[2] and 1 or 0
if tonumber(fence) >= tonumber(ARGV[1]) + mine then return false end
redis.call('HSET', KEYS[2], 'fence', ARGV[1], 'owner', ARGV[2])
return {redis.call('HGETALL', KEYS[2]), redis.call('XRANGE', KEYS[1], '-', '+')}
"""

_FOLLOW = """
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
local first = redis.call('HGET', KEYS[2], 'first')
return {first or '0', redis.call('XRANGE', KEYS[1], '(' .. ARGV[3] .. '-0', '+')}
"""

_UNFOLLOW = """
redis.call('SREM', KEYS[3], ARGV[1])
local owner = redis.call('HGET', KEYS[2], 'owner')
if owner then redis.call('PUBLISH', 'ollagraph:replica:' .. owner, 'u' .. ARGV[2]) end
"""

_CANCEL = """
local owner = redis.call('HGET', KEYS[2], 'owner')
if not owner then return 0 end
redis.call('HSET', KEYS[2], 'cancelled', '1')
return redis.call('PUBLISH', 'ollagraph:replica:' .. owner, 'c' .. ARGV[1])
"""

_TRIM = """
local time, most = redis.call('TIME'), tonumber(ARGV[2])
local horizon = time[1] * 1000 - tonumber(ARGV[1])
local bytes = tonumber(redis.call('GET', KEYS[2]) or '0')
local gone = {}
while #gone < 500 do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if #oldest == 0 then redis.call('SET', KEYS[2], 0) break end
  if tonumber(oldest[2]) >= horizon and bytes <= most then break end
  redis.call('ZREM', KEYS[1], oldest[1])
  bytes = redis.call('DECRBY', KEYS[2], string.match(oldest[1], '%d+$'))
  gone[#gone + 1] = string.sub(oldest[1], 1, 36)
end
return gone
"""


class ValkeyUnavailable(Exception):
    """Valkey does not answer, or not as it should. The message holds no address and no password."""


class Fenced(Exception):
    """Another gateway has a newer right to the stream."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one stream, as they are appended. `rebased`: what went before is no longer kept by anybody."""

    stream_id: UUID
    fence: int
    first: int
    last: int
    payload: bytes
    usage: bytes
    request: bytes
    rebased: bool
    terminal: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A stream as it stands in Valkey: the first sequence number kept, and each entry's payload."""

    first: int
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
        self._append = self._client.register_script(_APPEND)
        self._claim = self._client.register_script(_CLAIM)
        self._follow = self._client.register_script(_FOLLOW)
        self._unfollow = self._client.register_script(_UNFOLLOW)
        self._cancel = self._client.register_script(_CANCEL)
        self._trim = self._client.register_script(_TRIM)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ping(self) -> None:
        """Ask for a sign of life, and make sure that the scripts are there."""
        with _reporting():
            await self._client.ping()
            for script in (self._append, self._claim, self._follow, self._unfollow, self._cancel, self._trim):
                await self._client.script_load(script.script)

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        """Append to many streams in one round trip; for each the last sequence number it has now, or FENCED."""
        with _reporting():
            try:
                replies = await self._send(batches)
            except NoScriptError:  # Valkey was restarted
                await self.ping()
                replies = await self._send(batches)
            return replies

    async def lengths(self, stream_ids: Sequence[UUID]) -> list[int]:
        """The last sequence number of each; 0 where nothing is kept."""
        with _reporting():
            pipeline = self._client.pipeline(transaction=False)
            for stream_id in stream_ids:
                pipeline.hget(_keys(stream_id)[1], "last")
            return [int(last or 0) for last in await pipeline.execute()]

    async def claim(self, stream_id: UUID, fence: int) -> Kept | None:
        """Fence off whoever wrote it before. None where nothing is kept of it. Raises Fenced."""
        with _reporting():
            reply = await self._claim(_keys(stream_id), [fence, self._replica])
        if reply is None:
            raise Fenced
        if not reply:
            return None
        meta, entries = _as_mapping(reply[0]), reply[1]
        return Kept(
            int(meta.get(b"first", 1)),
            _payloads(entries),
            meta.get(b"usage", b""),
            meta.get(b"request", b""),
            b"cancelled" in meta,
        )

    async def follow(self, stream_id: UUID, after: int) -> Kept:
        """Have this gateway told of all that comes, and give what there is behind a sequence number.

        `first` is 0 where nothing is kept, or not yet.
        """
        with _reporting():
            first, entries = await self._follow(_keys(stream_id), [self._replica, self._expiry_ms, after])
        return Kept(int(first), _payloads(entries))

    async def read(self, stream_id: UUID) -> Kept:
        """All there is of a stream now; `first` is 0 where nothing is kept."""
        events, meta, _ = _keys(stream_id)
        with _reporting():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hget(meta, "first")
            pipeline.xrange(events)
            first, entries = await pipeline.execute()
        return Kept(int(first or 0), [fields[b"e"] for _, fields in entries])

    async def unfollow(self, stream_id: UUID) -> None:
        """This gateway has no viewers of it any more."""
        with _reporting():
            await self._unfollow(_keys(stream_id), [self._replica, stream_id.bytes])

    async def followers(self, stream_id: UUID) -> tuple[int, int]:
        """How many other gateways have viewers of a stream: those that listen, and those that have died with them."""
        with _reporting():
            members = await self._client.smembers(_keys(stream_id)[2])
            channels = [f"ollagraph:replica:{name.decode()}" for name in members if name.decode() != self._replica]
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
                await self._client.delete(*_keys(UUID(name.decode())))

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """What others say to this gateway, until Valkey goes; the first item is empty, and says that we listen."""
        subscription = self._client.pubsub()
        try:
            with _reporting():
                await subscription.subscribe(f"ollagraph:replica:{self._replica}", "ollagraph:replicas")
            yield b""
            while True:
                with _reporting():
                    message = await subscription.get_message(ignore_subscribe_messages=True, timeout=TIMEOUT_SECONDS)
                if message is not None:
                    yield cast("bytes", message["data"])
        finally:
            with anyio.CancelScope(shield=True):
                await subscription.aclose()

    async def _send(self, batches: Sequence[Batch]) -> list[int]:
        pipeline = self._client.pipeline(transaction=False)
        for batch in batches:
            pipeline.evalsha(self._append.sha, 3, *_keys(batch.stream_id), *self._arguments(batch))
        return await pipeline.execute()

    def _arguments(self, batch: Batch) -> tuple[Any, ...]:
        return (
            batch.fence,
            batch.first,
            batch.last,
            int(batch.rebased),
            batch.payload,
            self._replica,
            batch.usage,
            self._retention_ms if batch.terminal else self._expiry_ms,
            self._max_stream_bytes,
            int(batch.terminal),
            batch.request,
            batch.stream_id.bytes,
            str(batch.stream_id),
        )


def _keys(stream_id: UUID) -> list[str]:
    prefix = f"ollagraph:{{{stream_id}}}"
    return [f"{prefix}:events", f"{prefix}:meta", f"{prefix}:followers"]


def _payloads(entries: Sequence[Any]) -> list[bytes]:
    return [fields[1] for _, fields in entries]


def _as_mapping(flat: Any) -> Mapping[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


@contextmanager
def _reporting() -> Generator[None]:
    """Turn the client's errors into one."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise ValkeyUnavailable(f"Valkey does not answer ({type(error).__name__}).") from error
