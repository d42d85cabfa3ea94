"""Decides how many requests an address may send in a while, before anything else is done for them."""

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import ceil

import anyio
from limits import RateLimitItem, parse_many
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from auth.client import Client, origin
from gateway.codes import ErrorCode, TransportErrorCode
from gateway.errors import LONGEST_RETRY_MS, GatewayError
from gateway.request_limits.memory import CountsInMemory
from gateway.request_limits.shared import SharedCounts
from gateway.streams import RequestCounts

RequestRule = RateLimitItem
"""So many requests in a window, in the words of the `limits` library."""

MOST_RULES = 5
"""Rules of one bucket: each is counted by itself."""

LONGEST_WINDOW = 86_400
"""Seconds. What is counted is kept in memory as long."""


class RequestBucket(StrEnum):
    """What is counted by itself, under the name that refusals tell."""

    ANONYMOUS = "anonymous"
    """Requests without credentials that hold."""
    SIGN_IN = "sign-in"
    """What begins or renews a session, or asks for it, whoever sends it."""


class TooManyRequests(GatewayError):
    """An address has sent as many requests as it may. `limit` names what it has too many of.

    `amount` is what it may send in `window` seconds, all of it used up for `seconds`.
    """

    code = ErrorCode.RATE_LIMITED
    transport_code = TransportErrorCode.RATE_LIMITED
    retryable = True

    def __init__(self, limit: RequestBucket, rule: RequestRule, seconds: float) -> None:
        self.limit = limit
        self.amount = rule.amount
        self.window = rule.get_expiry()
        self.retry_after_ms = max(1, min(ceil(seconds * 1000), LONGEST_RETRY_MS))
        self.seconds = max(1, ceil(seconds))
        super().__init__(
            f"Too many requests from this address: the limit {limit.value!r} allows {rule.amount:,} in "
            f"{self.window:,} s. Try again in {self.seconds:,} s."
        )


def parse_request_rules(text: str) -> list[RequestRule]:
    """Parse `60/minute`, or several as `5/second; 60/minute`. Raises ValueError with a sentence."""
    try:
        rules = parse_many(text)
    except ValueError:
        raise ValueError("must be as 60/minute, 10 per 2 seconds, or 5/second; 60/minute") from None
    if len(rules) > MOST_RULES:
        raise ValueError(f"may have at most {MOST_RULES} parts")
    for rule in rules:
        if rule.amount < 1 or not 1 <= rule.get_expiry() <= LONGEST_WINDOW:
            raise ValueError("must allow at least 1 request in a window of 1 second to 1 day")
    return rules


class RequestLimits:
    """Counts requests by address, of IPv6 by its first 64 bits; `rules` are those of each bucket, none for no limit.

    A window begins with the first request in it; those that are refused count, too. With `shared`, all gateways with
    that Valkey count together, while it is there. Nothing is counted without rules.
    """

    def __init__(
        self,
        rules: Mapping[RequestBucket, Sequence[RequestRule]],
        shared: RequestCounts | None = None,
        memory: CountsInMemory | None = None,
    ) -> None:
        self._rules = rules
        memory = CountsInMemory() if memory is None else memory
        self._shared = None if shared is None else SharedCounts(memory, shared)
        self._limiter = FixedWindowRateLimiter(_storage(self._shared, memory))

    async def count(self, bucket: RequestBucket, client: Client, amount: int = 1) -> None:
        """Count requests of a client. Raises TooManyRequests."""
        for rule in self._rules.get(bucket, ()):
            address = origin(client.host)
            if not await self._limiter.hit(rule, bucket, address, cost=amount):
                window = await self._limiter.get_window_stats(rule, bucket, address)
                raise TooManyRequests(bucket, rule, window.reset_time - time.time())

    async def are_shared(self) -> bool:
        """Tell whether other gateways count with this one now."""
        return self._shared is not None and await self._shared.check()

    async def run(self) -> None:
        """Count together with the other gateways, until cancelled."""
        await (anyio.sleep_forever() if self._shared is None else self._shared.run())

    async def aclose(self) -> None:
        """Close what was opened."""
        if self._shared is not None:
            await self._shared.aclose()


def _storage(shared: SharedCounts | None, memory: CountsInMemory) -> Storage:
    return memory if shared is None else shared
