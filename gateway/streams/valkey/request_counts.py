"""What was asked by each address at all gateways together, as Valkey counts it.

ollagraph:requests:<key>   number   of a window that begins with what is counted first, and ends when the key expires
"""

from collections.abc import Sequence

from gateway.streams.valkey.failures import reporting
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

_THERE = ("there", 1, 1)
"""What is counted to see whether Valkey takes it."""


class RequestCounts:
    """Counts of requests. Every call raises ValkeyUnavailable."""

    def __init__(self, url: str) -> None:
        self._servers, _ = servers_at(url)

    async def add(self, asked: Sequence[tuple[str, int, int]]) -> list[tuple[int, float]]:
        """Count `asked`, which are keys, seconds of their windows and amounts, in one round trip.

        Gives for each what is counted then, and the seconds until its window ends. With nothing to count, it shows
        that Valkey takes counts.
        """
        calls = [_adding(key, seconds, amount) for key, seconds, amount in asked or [_THERE]]
        with reporting():
            replies = await self._servers.send(calls)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return [(int(count), left / 1000) for count, left in replies[: len(asked)]]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()


def _adding(key: str, seconds: int, amount: int) -> Call:
    return Call(_ADD, [f"ollagraph:requests:{key}"], [amount, seconds * 1000])
