"""What callers hold open at all gateways together, as Valkey counts it.

ollagraph:{open}:alive   hash   for each gateway until when it counts, in ms of the server's clock
ollagraph:{open}:of:<name>  hash  for each gateway how much of it is open there; a field may be of a dead gateway

In a cluster all are in one hash slot: they are written when a socket or a stream opens or closes, and hold little.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from gateway.streams.valkey.failures import ValkeyUnavailable, reporting
from gateway.streams.valkey.node import Call, Script
from gateway.streams.valkey.urls import servers_at

ALIVE_MS = 5_000
"""How long what a killed gateway held open still counts."""

KEPT_MS = 86_400_000
"""How long a count is kept that nobody changes."""

_ALIVE = "ollagraph:{open}:alive"

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_SAY = Script(
    _NOW
    + """
local until_now = tonumber(redis.call('HGET', KEYS[1], ARGV[1])) or 0
redis.call('HSET', KEYS[1], ARGV[1], now + ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if until_now > now then return 1 end
return 0
"""
)
"""KEYS: alive. ARGV: the gateway, for how long it counts, ms to keep all. Returns whether it counted until now."""

_HOLD = Script("""
if ARGV[2] == '0' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
""")
"""KEYS: a count. ARGV: the gateway, what it holds, ms to keep the count."""

_TAKE = Script(
    _NOW
    + """
local open = tonumber(ARGV[2])
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if fields[i] ~= ARGV[1] then
    if (tonumber(redis.call('HGET', KEYS[2], fields[i])) or 0) > now then
      open = open + (tonumber(fields[i + 1]) or 0)
    else
      redis.call('HDEL', KEYS[1], fields[i])
      redis.call('HDEL', KEYS[2], fields[i])
    end
  end
end
if open > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
)
"""KEYS: a count, alive. ARGV: the gateway, what it would hold then, the limit, ms to keep the count. Returns whether
it may."""

_LEAVE = Script("return redis.call('HDEL', KEYS[1], ARGV[1])")

_PROBE = Script("return redis.call('HDEL', KEYS[1], '')")
"""KEYS: alive. Writes, and changes nothing."""


class OpenCounts:
    """The counts of this gateway among those of the others. Every call raises ValkeyUnavailable."""

    def __init__(self, url: str, replica_id: UUID) -> None:
        self._replica = str(replica_id)
        self._servers, _ = servers_at(url)
        self._is_away = False

    async def exchange(
        self, changed: Mapping[str, int], taken: Sequence[tuple[str, int, int]]
    ) -> tuple[bool, list[bool]]:
        """Write what this gateway holds of each name, then ask for more, in one round trip.

        `taken` are names, how much would be held then, and the most that all together may. Gives whether Valkey still
        knew this gateway, and for each of `taken` whether it may.
        """
        calls = [
            Call(_SAY, [_ALIVE], [self._replica, ALIVE_MS, KEPT_MS]),
            *(Call(_HOLD, [_key(name)], [self._replica, count, KEPT_MS]) for name, count in changed.items()),
            *(
                Call(_TAKE, [_key(name), _ALIVE], [self._replica, count, limit, KEPT_MS])
                for name, count, limit in taken
            ),
        ]
        with reporting():
            replies = await self._send(calls)
        return replies[0] == 1, [reply == 1 for reply in replies[len(replies) - len(taken) :]]

    async def _send(self, calls: Sequence[Call]) -> list[Any]:
        """Run all, or raise. A server of a cluster that was away has to take a probe before it is asked again."""
        was_away, self._is_away = self._is_away, True
        if was_away:
            await self._servers.probe(Call(_PROBE, [_ALIVE]), ())
        replies = await self._servers.send(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        self._is_away = False
        return replies

    async def leave(self) -> None:
        """Hold nothing any more, and close the connection."""
        try:
            with reporting():
                await self._servers.send([Call(_LEAVE, [_ALIVE], [self._replica])])
        except ValkeyUnavailable:
            pass  # it ends by itself
        finally:
            await self._servers.aclose()


def _key(name: str) -> str:
    return f"ollagraph:{{open}}:of:{name}"
