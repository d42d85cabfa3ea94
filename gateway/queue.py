"""The waiting line before one backend: first come, first served, and everyone knows their place."""

from collections import deque

import anyio

from gateway.errors import Overloaded


class Ticket:
    """A place in the line, then a slot at the backend.

    `position` is 0 while the slot is held, 1 for the next one in line. Whoever holds a ticket gives it back with
    `release`, once, whatever happened.
    """

    def __init__(self, line: "Line", position: int) -> None:
        self.position = position
        self._line = line
        self._changed = anyio.Event()

    async def moved(self) -> None:
        """Return when the position has changed since the last return."""
        await self._changed.wait()
        self._changed = anyio.Event()

    def move_to(self, position: int) -> None:
        """Called by the line."""
        self.position = position
        self._changed.set()

    def release(self) -> None:
        """Leave the line or free the slot."""
        self._line.leave(self)


class Line:
    """`slots` at once are served, at most `max_waiting` wait."""

    def __init__(self, slots: int, max_waiting: int) -> None:
        self._free = slots
        self._max_waiting = max_waiting
        self._waiting: deque[Ticket] = deque()

    def enter(self) -> Ticket:
        """Take a ticket. Raises Overloaded when the line is full."""
        if self._free:
            self._free -= 1
            return Ticket(self, position=0)
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"{len(self._waiting)} generations wait for this backend already. Ask again later.")
        ticket = Ticket(self, position=len(self._waiting) + 1)
        self._waiting.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Take the ticket back and let the next one in."""
        if ticket.position:
            self._waiting.remove(ticket)
        elif self._waiting:
            self._waiting.popleft().move_to(0)
        else:
            self._free += 1
        for position, waiting in enumerate(self._waiting, start=1):
            if waiting.position != position:
                waiting.move_to(position)
