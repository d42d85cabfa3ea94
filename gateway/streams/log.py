"""The log of every stream: appended to by the one who generates, read by any number of viewers.

A log keeps each generation's events in order. A viewer replays what stands after its cursor and then follows;
it may come late, come twice or come again. What ended is kept for a while, then forgotten.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from gateway.streams.events import NO_USAGE, TERMINAL, End, Event, Queued, QueueReason, Started, TokenUsage


class StreamMoved(Exception):
    """Another gateway writes the stream now, or it was begun anew."""


class StreamWithoutEnd(Exception):
    """The generation has ended, but the log does not say so, and nothing more comes."""


@dataclass(frozen=True, slots=True)
class StreamOwner:
    """Who writes a stream. Of two writers only the one with the higher fence gets through.

    `usage` tells what the generation has used so far, and `request` what it was asked: with both, another gateway
    can end or continue what this one leaves behind.
    """

    fence: int
    usage: Callable[[], TokenUsage] = lambda: NO_USAGE
    request: bytes = b""


@dataclass(frozen=True, slots=True)
class SavedStream:
    """What the log holds of a generation that another gateway began. `dropped` events at its beginning are gone."""

    events: Sequence[Event]
    usage: TokenUsage
    request: bytes = b""
    cancelled: bool = False
    dropped: int = 0

    @property
    def has_started(self) -> bool:
        """Whether a backend was asked already."""
        return any(isinstance(event, Started) for event in self.events)

    @property
    def waits_for_limit(self) -> bool:
        """Whether a limit had no room for it, and it has not started since: nothing may be reserved for it."""
        waited = any(isinstance(event, Queued) and event.reason is QueueReason.LIMIT for event in self.events)
        return waited and not self.has_started

    @property
    def last_sequence(self) -> int:
        """The number of its last event, 0 where there was none."""
        return self.events[-1].sequence if self.events else self.dropped

    @property
    def is_whole(self) -> bool:
        """Whether nothing of its beginning was dropped."""
        return not self.dropped

    @property
    def end(self) -> End | None:
        """How it ended, if it did."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, TERMINAL) else None


class StreamLog(Protocol):
    """Where events are kept. Every implementation passes one contract suite (tests/test_stream_log.py)."""

    async def open(self, stream_id: UUID, owner: StreamOwner, dropped: int = 0) -> None:
        """Begin an empty stream. From here on `follow` waits instead of raising.

        Where `dropped` events are gone for good, whatever is kept of them is shown to nobody any more.
        """
        ...

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """Add events that continue the sequence. A cancellation does not cut it short.

        Viewers see them soon; with a terminal event it returns when they do. Raises ValueError for a gap, and for
        anything after a terminal event.
        """
        ...

    async def read(self, stream_id: UUID) -> Sequence[Event]:
        """Give all events so far that viewers may see; behind a `flush` that is all. Raises what `follow` raises."""
        ...

    def follow(
        self, stream_id: UUID, after: int = 0, *, finished: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Give all events after the sequence number `after`, as they come, until the terminal one.

        `finished` is told by who knows that the generation has: then what is not there does not come any more, and
        StreamWithoutEnd is raised where that is the terminal event.

        Each item is everything that has come since the last one was taken, so a slow viewer gets larger items,
        never older ones. It never ends without the terminal event: a cursor at or behind the end gets that alone,
        also who has seen it. For who has not, it may bear a number that he has seen: where the log lost what was
        said last and its gateway died with it, another one wrote the end in its place.

        Raises StreamExpired where the stream, or what follows the cursor in it, is unknown or forgotten, and
        StreamLogUnavailable where that cannot be found out.
        """
        ...


class StreamOwnership(Protocol):
    """Which gateway writes a stream, where several share a log. One object is this and the StreamLog."""

    @property
    def is_shared(self) -> bool:
        """Whether other gateways read and write the log too."""
        ...

    async def claim(self, stream_id: UUID, owner: StreamOwner, *, detached: bool = False) -> SavedStream | None:
        """Become the writer of a stream that another gateway wrote; None where nothing is kept of it.

        `detached` is told by who knows that viewers may have seen more of it than the log: then nothing of it is
        kept on, unless its end is there. Raises StreamLogUnavailable, and StreamMoved where yet another one has it.
        """
        ...

    async def raise_fence(self, stream_id: UUID, fence: int) -> None:
        """Write from now on with a newer right to the stream."""
        ...

    async def flush(self, stream_id: UUID) -> None:
        """Return when what was appended is as safe as this log can make it now."""
        ...

    async def release(self, stream_id: UUID) -> None:
        """Write it no more; return when what was appended can be claimed."""
        ...

    def leave(self) -> None:
        """Let nobody wait any longer for a store that takes nothing: this gateway ends, and others go on."""
        ...

    async def followers(self, stream_id: UUID) -> tuple[int, int]:
        """Count how many other gateways have viewers of it: those alive, and those that died with them."""
        ...

    async def cancel_elsewhere(self, stream_id: UUID) -> bool:
        """Ask the gateway that writes a stream to cancel it. False when none listens; raises StreamLogUnavailable."""
        ...
