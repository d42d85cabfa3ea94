"""How large what a caller sends may be, one by one and all together."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from graphql import GraphQLError

from gateway.errors import Overloaded, TransportErrorCode
from schema.context import Context

SLOWEST_BODY = 65_536
"""Bytes a second: so slowly may a large body come, and no slower, after its first seconds."""

UNCOUNTED = 65_536
"""Bytes that each request or connection may hold uncounted: what is small comes in, whatever others send."""


class BytesInFlight:
    """Counts the bytes that are held while requests come in, those of all callers together, up to `most`.

    A caller may hold as much as is left for others, as buffers of switches are shared (Choudhury and Hahne, "Dynamic
    queue length thresholds", 1998), and up to `share` at all events: one alone has half, and somebody new finds room
    however much some others send. Who is nobody known counts as one caller, None.
    """

    def __init__(self, most: int, share: int) -> None:
        self._most = most
        self._share = share
        self._held_by: Counter[UUID | None] = Counter()
        self.held = 0

    def take(self, caller: UUID | None, size: int) -> None:
        """Hold so many more; fewer, when negative. Raises Overloaded where that would be too many."""
        held, own = self.held + size, self._held_by[caller] + size
        if size > 0 and held > self._most:
            raise Overloaded(
                f"More than {self._most:,} bytes of requests are being read at once (OLLAGRAPH_MAX_BYTES_IN_FLIGHT). "
                "Send the request again in a moment."
            )
        if size > 0 and own > max(self._most - held, self._share):
            raise Overloaded(
                f"Requests of yours with {own - size:,} bytes are being read at once; the rest is for others "
                "(OLLAGRAPH_MAX_BYTES_IN_FLIGHT). Send the request again when some of them have ended."
            )
        self.held = held
        self._held_by[caller] = own
        if not own:
            del self._held_by[caller]

    @contextmanager
    def holding(self, caller: UUID | None) -> Generator["Held"]:
        """Within the block bytes may be held; after it they are not."""
        held = Held(self, caller)
        try:
            yield held
        finally:
            held.keep(0)


class Held:
    """The bytes that one request or connection holds."""

    def __init__(self, all_held: BytesInFlight, caller: UUID | None = None) -> None:
        self._all = all_held
        self._caller = caller
        self._size = 0

    def belong_to(self, caller: UUID | None) -> None:
        """Count as this caller's what is held from the next change on."""
        size, self._size = self._size, 0
        self._all.take(self._caller, -size)
        self._caller = caller

    def keep(self, size: int) -> None:
        """Hold this many from now on. Raises Overloaded, and then holds what it did."""
        counted = size if size > UNCOUNTED else 0
        self._all.take(self._caller, counted - self._size)
        self._size = counted


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The bytes that a body, a query string or a message may have: of callers who are known, and of all others.

    `timeout` is how long it may take to come, and a second more for each `SLOWEST_BODY` bytes.
    """

    known: int
    anonymous: int
    in_flight: BytesInFlight
    timeout: float

    def of(self, context: Context) -> int:
        """Give the limit for a caller."""
        return self.anonymous if context.principal is None else self.known


def too_large(what: str, context: Context, limits: BodyLimits) -> GraphQLError:
    """Give the refusal of something too large. Who gave credentials that do not hold is told of those instead."""
    if context.refused is not None:
        return GraphQLError(str(context.refused), original_error=context.refused)
    most = limits.of(context)
    if context.principal is None:
        message = (
            f"Without credentials {what} may have at most {most:,} bytes (OLLAGRAPH_MAX_ANONYMOUS_BODY_SIZE). "
            "Sign in, or send an API key, to send more."
        )
    else:
        message = f"{what[0].upper()}{what[1:]} may have at most {most:,} bytes (OLLAGRAPH_MAX_BODY_SIZE)."
    return GraphQLError(message, extensions={"code": TransportErrorCode.LIMIT_EXCEEDED, "limit": most})
