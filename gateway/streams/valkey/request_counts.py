"""What was asked by each address at all gateways together, as Valkey counts it.

ollagraph:requests:<key>   number   of a window that begins with what is counted first, and ends when the key expires
"""

from collections.abc import Sequence
from typing import Any

from gateway.streams.valkey.failures import NodeUnavailable, reporting
from gateway.streams.valkey.node import Call, Script
from gateway.streams.valkey.urls import servers_at

_ADD = Script("""
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  left = tonumber(ARGV[2])
end
return {count, left}
""")
"""KEYS: a count. ARGV: how many more, ms of a window. Returns the count, and for how many ms it counts."""


class RequestCounts:
    """Counts of requests. Every call raises ValkeyUnavailable where no server answers."""

    def __init__(self, url: str) -> None:
        self._servers, keys = servers_at(url)
        self._probes = [_adding(key, 1, 1) for key in keys.request_probes()]

    async def add(self, asked: Sequence[tuple[str, int, int]]) -> list[tuple[int, float] | None]:
        """Count `asked`, which are keys, seconds of their windows and amounts, in one round trip.

        Gives for each what is counted then, and the seconds until its window ends; None where its server of a cluster
        does not answer, which is not asked again before it has taken a `probe`.
        """
        calls = [_adding(f"ollagraph:requests:{key}", seconds, amount) for key, seconds, amount in asked]
        with reporting():
            return [_counted(reply) for reply in await self._servers.send(calls)]

    async def probe(self) -> bool:
        """Find out which servers take counts, and where they are. False where some do not."""
        with reporting():
            await self._servers.probe(self._probes[0], self._probes)
        return self._servers.is_whole

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()


def _adding(key: str, seconds: int, amount: int) -> Call:
    return Call(_ADD, [key], [amount, seconds * 1000])


def _counted(reply: Any) -> tuple[int, float] | None:
    if isinstance(reply, NodeUnavailable):
        return None
    if isinstance(reply, Exception):
        raise reply
    count, left = reply
    return int(count), left / 1000
