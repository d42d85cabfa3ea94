"""The queue before one backend: users take turns, and everyone knows their place."""

from collections import Counter
from collections.abc import Callable, Hashable

from gateway.errors import Overloaded
from gateway.latch import Latch


def _nothing() -> None:
    """Tell nobody."""


class QueueTicket:
    """A place in the queue, then a slot at the backend.

    `position` is 0 while the slot is held, 1 for the next one in the queue. Whoever holds a ticket gives it back with
    `release`, whatever happened; a second time does nothing.
    """

    def __init__(self, queue: "BackendQueue", position: int, user: Hashable) -> None:
        self.position = position
        self.user = user
        self._queue = queue
        self._released = False
        self._changed = Latch()

    async def moved(self) -> None:
        """Return when the position has changed since the last return."""
        await self._changed.wait()
        self._changed.clear()

    def move_to(self, position: int) -> None:
        """Take a new position; called by the queue."""
        self.position = position
        self._changed.set()

    def release(self) -> None:
        """Leave the queue or free the slot."""
        if not self._released:
            self._released = True
            self._queue.leave(self)


class BackendQueue:
    """`slots` generations at once are served, at most `max_waiting` wait.

    Users take turns: next is whoever of those that have least at work came first. So one who asks for much is served
    when nobody else asks, and holds up nobody who asks for little. One user has at most `slots_per_user` served, so
    that others find a slot, and `max_waiting_per_user` waiting, so that others find a place.

    Where the backend is `shared` with queues of other processes, `slots` is what all of them have together, and this
    one has what it is granted; `changed` is called whenever it may need more or less.
    """

    def __init__(
        self,
        slots: int,
        max_waiting: int,
        *,
        slots_per_user: int | None = None,
        max_waiting_per_user: int | None = None,
        shared: bool = False,
    ) -> None:
        self.total = slots
        """What the backend can do, for all who share it."""
        self.changed: Callable[[], None] = _nothing
        self._shared = shared
        self._slots = self._free = 0 if shared else slots
        self._max_waiting = max_waiting
        self._slots_per_user = slots_per_user
        self._max_waiting_per_user = max_waiting if max_waiting_per_user is None else max_waiting_per_user
        self._waiting: list[QueueTicket] = []
        self._serving: Counter[Hashable] = Counter()

    @property
    def slots(self) -> int:
        """How many generations may be at work here."""
        return self._slots

    @property
    def running(self) -> int:
        """How many generations are at work."""
        return self._serving.total()

    @property
    def waiting(self) -> int:
        """How many generations wait for a slot."""
        return len(self._waiting)

    def enter(self, user: Hashable) -> QueueTicket:
        """Take a ticket. Raises Overloaded when the queue is full, or holds all that this user may have in it."""
        if self._free > 0 and self._may_be_served(user):
            self._serve(user)
            self.changed()
            return QueueTicket(self, 0, user)
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"As many wait for this backend as may ({len(self._waiting)}). Try again later.")
        yours = sum(ticket.user == user for ticket in self._waiting)
        if yours >= self._max_waiting_per_user:
            raise Overloaded(
                f"As many of yours wait for this backend as may ({yours}). Try again when some of them have ended."
            )
        ticket = QueueTicket(self, len(self._waiting) + 1, user)
        self._waiting.append(ticket)
        self._take_turns()
        self.changed()
        return ticket

    def leave(self, ticket: QueueTicket) -> None:
        """Take the ticket back and let the next one in."""
        if ticket.position:
            self._waiting.remove(ticket)
        else:
            self._free += 1
            self._serving[ticket.user] -= 1
            if not self._serving[ticket.user]:
                del self._serving[ticket.user]
        self._take_turns()
        self.changed()

    def resize(self, slots: int) -> None:
        """Take what the backend can do from now on. Those above it who are being served already stay."""
        if slots == self.total:
            return
        self.total = slots
        if self._shared:
            self.changed()
        else:
            self._serve_at_once(slots)

    def grant(self, slots: int) -> None:
        """Take the part of the slots that this queue may use from now on, as `resize` does."""
        self._serve_at_once(slots)

    def _serve_at_once(self, slots: int) -> None:
        self._free += slots - self._slots
        self._slots = slots
        self._take_turns()

    def _take_turns(self) -> None:
        """Serve whom there are slots for, and tell the others their places."""
        self._waiting = self._in_order()
        while self._free > 0 and (following := self._next()) is not None:
            self._waiting.remove(following)
            self._serve(following.user)
            following.move_to(0)
        for position, waiting in enumerate(self._waiting, start=1):
            if waiting.position != position:
                waiting.move_to(position)

    def _in_order(self) -> list[QueueTicket]:
        """Give those who wait, in the order in which they will be served if nobody comes or goes."""
        ahead, turns = Counter(self._serving), list[tuple[int, int]]()
        for arrival, ticket in enumerate(self._waiting):
            turns.append((ahead[ticket.user], arrival))
            ahead[ticket.user] += 1
        return [self._waiting[arrival] for _, arrival in sorted(turns)]

    def _next(self) -> QueueTicket | None:
        return next((ticket for ticket in self._waiting if self._may_be_served(ticket.user)), None)

    def _may_be_served(self, user: Hashable) -> bool:
        return self._slots_per_user is None or self._serving[user] < self._slots_per_user

    def _serve(self, user: Hashable) -> None:
        self._free -= 1
        self._serving[user] += 1
