"""What viewers see of a stream that Valkey does not take: nothing at first, and after the grace time all of it.

Before that the database is told that viewers may see more of it than Valkey has. Were this gateway killed then, the
others would know that what they find is not the whole, and tell an error instead of a shorter text. For as long as it
lasts, the database is also told what was used before viewers see it: from Valkey nobody could learn what to bill. The
end is seen when it is on record. So where the database takes nothing either, viewers wait until one of the two does:
what neither knows of could be said otherwise, or be denied, by whoever takes over.

    what Valkey has    1 ───────────────▶ written
    what viewers see   1 ───────────────▶ shown           further only once exposed, and the database knows
    what was said      1 ───────────────────── pending
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import anyio

from db.failures import outage
from gateway.latch import Latch
from gateway.streams.events import Event
from gateway.streams.log import StreamOwner

logger = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
"""How long viewers wait for a Valkey that went away, as one that starts anew does, before they see what it lacks."""

NOTE_SECONDS = 5.0
"""How long the database may take to answer; after that it counts as away, and is asked again."""

LOOK_SECONDS = 0.1
"""How often it is looked whether the grace time is over, and at most that what has come is shown of what is exposed."""

PAUSES_PER_NOTE = 4
"""How much longer than the note of what many streams have used the time until the next one is."""


@dataclass(frozen=True, slots=True)
class Notes:
    """Tells the database of streams: `detached`, of each with its fence, whether viewers may see more than Valkey has.

    `usage` tells what they have used; `ended` asks which of them have their end on record.
    """

    detached: Callable[[Sequence[tuple[UUID, int]], bool], Awaitable[None]]
    usage: Callable[[Mapping[UUID, StreamOwner]], Awaitable[None]]
    ended: Callable[[Sequence[UUID]], Awaitable[set[UUID]]]


@dataclass(slots=True)
class Owned:
    """A stream that this gateway writes: the numbers of the last event that viewers may see, and that Valkey has.

    `known`: Valkey has the request. `again`: it had the stream before. `anew`: what it has is void. `failing_since`
    is when it began to refuse this stream while it took others. `noted` is whether the database knows that it was
    exposed, `quiet` whether nothing was added lately.
    """

    owner: StreamOwner
    shown: int = 0
    written: int = 0
    pending: list[Event] = field(default_factory=list[Event])
    known: bool = False
    again: bool = False
    anew: bool = False
    settled: Latch | None = None
    failing_since: float | None = None
    exposed: bool = False
    noted: bool = False
    quiet: bool = False

    @property
    def is_behind(self) -> bool:
        """Whether Valkey lacks something."""
        return self.written < self.shown + len(self.pending)

    @property
    def is_short(self) -> bool:
        """Whether Valkey lacks something that viewers have seen."""
        return self.written < self.shown

    def settle(self) -> None:
        """Wake whoever waits for its end: it is shown, or will not be."""
        if self.settled is not None:
            self.settled.set()


class Exposure:
    """Watches over all streams of this gateway. `show` lets viewers see what is pending of one, up to a number."""

    def __init__(self, owned: Mapping[UUID, Owned], show: Callable[[UUID, Owned, int], None], notes: Notes) -> None:
        self._owned = owned
        self._show = show
        self._notes = notes
        self._next_note = 0.0
        self._troubled = anyio.Event()
        self._away_since: float | None = time.monotonic() - GRACE_SECONDS
        self._reason = "Valkey was not asked yet."
        self._told = False
        self._noting = True
        self.mirrored = False
        """Whether viewers see only what Valkey has. A short absence is waited for, so that no kill can lose text."""

    @property
    def is_away(self) -> bool:
        """Whether Valkey did not take what was written last."""
        return self._away_since is not None

    @property
    def trouble(self) -> str | None:
        """Why viewers here may see more than those at other gateways, or wait; None where neither is so."""
        exposed = sum(owned.exposed for owned in self._owned.values())
        if self.mirrored and not exposed:
            return None
        cause = f"{exposed} streams cannot be written. {self._reason}" if self.mirrored else self._reason
        return cause if self._noting else f"{cause} The database takes nothing either: viewers wait."

    def away_for(self) -> float:
        """For how many seconds Valkey has taken nothing; 0 while it does."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    def failed(self, reason: str, owned: Owned | None = None) -> None:
        """Valkey took nothing, or refused one stream: the grace time begins with the first of such failures."""
        self._reason = reason
        if owned is not None:
            owned.failing_since = owned.failing_since or time.monotonic()
        elif self._away_since is None:
            self._away_since = time.monotonic()
        self._troubled.set()

    def took(self, owned: Owned) -> None:
        """Valkey took something of a stream: from here on its viewers see only what Valkey has, as before."""
        owned.failing_since, owned.exposed = None, False

    def came_back(self) -> None:
        """Valkey took all that was written."""
        if self._told:
            logger.warning("the stream log is shared again")
        self._away_since, self.mirrored, self._told, self._noting = None, True, False, True

    def look(self) -> None:
        """Note that something came that Valkey will not take soon."""
        self._troubled.set()

    async def watch_forever(self) -> None:
        """Expose what Valkey has not taken within the grace time, until cancelled."""
        while True:
            if not self.is_away and not any(owned.failing_since or owned.noted for owned in self._owned.values()):
                await self._troubled.wait()
            self._troubled = anyio.Event()
            if not self._told and self.away_for() > GRACE_SECONDS:
                logger.error("the stream log is in memory alone, other gateways do not see it: %s", self._reason)
                self.mirrored, self._told = False, True
            await self._expose_late()
            with anyio.move_on_after(LOOK_SECONDS):
                await self._troubled.wait()

    async def _expose_late(self) -> None:
        late = {stream_id: owned for stream_id, owned in self._owned.items() if self._is_late(owned)}
        exposed = {stream_id: owned for stream_id, owned in self._owned.items() if owned.exposed}
        written = {
            stream_id: owned
            for stream_id, owned in self._owned.items()
            if owned.noted and not owned.exposed and not owned.is_short and stream_id not in late
        }
        if not (await self._tell({**late, **exposed}, detached=True) and await self._tell(written, detached=False)):
            return
        if time.monotonic() >= self._next_note:
            late |= {stream_id: owned for stream_id, owned in exposed.items() if owned.pending}
        ends = {stream_id: owned.shown + len(owned.pending) for stream_id, owned in late.items()}
        ending = [stream_id for stream_id, owned in late.items() if owned.settled is not None]
        if not await self._tell_usage(late):
            return
        for stream_id in await self._unrecorded(ending):
            ends[stream_id] -= 1
        for stream_id, owned in late.items():
            if self._owned.get(stream_id) is owned and (owned.exposed or self._is_late(owned)):
                owned.exposed = True
                self._show(stream_id, owned, ends[stream_id])

    def _is_late(self, owned: Owned) -> bool:
        """Whether viewers need not wait any longer: for Valkey, which has told so by then, or for this stream alone."""
        over = self.is_away and not self.mirrored
        failed = owned.failing_since is not None and time.monotonic() - owned.failing_since > GRACE_SECONDS
        return owned.is_behind and not owned.exposed and (over or failed)

    async def _tell(self, streams: Mapping[UUID, Owned], *, detached: bool) -> bool:
        """Tell the database what it does not know yet. False where it does not take it."""
        told = {stream_id: owned for stream_id, owned in streams.items() if owned.noted is not detached}
        fences = [(stream_id, owned.owner.fence) for stream_id, owned in told.items()]
        if not told:
            return True
        if taken := await self._is_taken(self._notes.detached(fences, detached)):
            for owned in told.values():
                owned.noted = detached
        return taken

    async def _tell_usage(self, streams: Mapping[UUID, Owned]) -> bool:
        """Tell the database what streams have used until now, and be quiet for a while if that took long."""
        if not streams:
            return True
        began = time.monotonic()
        owners = {stream_id: owned.owner for stream_id, owned in streams.items()}
        taken = await self._is_taken(self._notes.usage(owners))
        now = time.monotonic()
        self._next_note = now + PAUSES_PER_NOTE * (now - began)
        return taken

    async def _unrecorded(self, stream_ids: Sequence[UUID]) -> set[UUID]:
        """Give those that have ended here, but not yet in the database."""
        recorded: set[UUID] = set()

        async def ask() -> None:
            recorded.update(await self._notes.ended(stream_ids))

        if stream_ids:
            await self._is_taken(ask())
        return set(stream_ids) - recorded

    async def _is_taken(self, note: Awaitable[None]) -> bool:
        """Tell the database something. False where it is away: then viewers wait. A fault of the note stops nobody."""
        try:
            with anyio.fail_after(NOTE_SECONDS):
                await note
        except Exception as error:
            if outage(error) is None:
                logger.exception("the database refuses what it is told of streams that are in memory alone")
                return True
            if self._noting:
                logger.error("neither Valkey nor the database takes anything: viewers wait (%s)", type(error).__name__)
            self._noting = False
            return False
        if not self._noting:
            logger.warning("the database takes what it is told: viewers go on")
        self._noting = True
        return True
