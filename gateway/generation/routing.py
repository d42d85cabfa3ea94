"""Where a generation runs: in the queue of the backend that serves its model, or of another one when that is lost."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import anyio

from db.tables import Generation
from gateway.catalog import BackendQueue, Breaker, Catalog, Model, QueueTicket
from gateway.errors import Overloaded
from gateway.generation.continuation import Losses
from gateway.generation.request import OnBackendLoss

logger = logging.getLogger(__name__)

REROUTE_SECONDS = 60.0
"""How long a generation that lost its model server waits for one that can go on, and may be asked again."""


FULL_QUEUE_SECONDS = 0.5
"""After how long to look again at a queue that had no place."""


@dataclass(slots=True)
class Route:
    """Where a generation runs: a model of one backend, and the place in that backend's line."""

    model: Model
    ticket: QueueTicket


class Router:
    """Finds places for generations. `queues` holds the queue of each backend by its name.

    `parked` is the one of those for which a limit has no room. It serves nobody.
    """

    def __init__(self, catalog: Catalog, queues: Mapping[str, BackendQueue], parked: BackendQueue) -> None:
        self._catalog = catalog
        self._queues = queues
        self._parked = parked

    def enter(self, model: Model, user_id: UUID) -> Route:
        """Take a place in the queue of the model's backend. Raises Overloaded."""
        return Route(model, self._enter(model, user_id))

    def park(self, model: Model, user_id: UUID) -> Route:
        """Take a place among those that wait for a limit. Raises Overloaded."""
        return Route(model, self._parked.enter(user_id))

    async def unpark(self, route: Route, user_id: UUID) -> None:
        """Go on to the queue of the model's backend, as soon as that has a place."""
        while not self._change(route, route.model, user_id, leaving=True):  # noqa: ASYNC110 - no queue tells of room
            await anyio.sleep(FULL_QUEUE_SECONDS)

    def breaker(self, route: Route) -> Breaker:
        """Give the breaker before the backend of a route."""
        return self._catalog.breaker(route.model.backend.name)

    async def reroute(self, row: Generation, route: Route, losses: Losses) -> bool:
        """Change the route to a backend that takes requests and has room; False when there is none.

        A generation that may CONTINUE waits a while for one. Backends just lost are left alone for as long as `losses`
        say.
        """
        if row.on_backend_loss != OnBackendLoss.CONTINUE:
            return await self._take_first(row, route, self._catalog.known_places(route.model))
        delay = 0.05
        with anyio.move_on_after(REROUTE_SECONDS):
            while True:
                places = await self._catalog.serving(route.model)
                rested = [place for place in places if not losses.pause(place.backend.name)]
                if await self._take_first(row, route, rested):
                    return True
                await anyio.sleep(delay)
                delay = min(delay * 2, 1.0)
        logger.warning("generation %s has found no backend to go on", row.id)
        return False

    async def _take_first(self, row: Generation, route: Route, places: Sequence[Model]) -> bool:
        """Take the first of these that has room, and wait for a slot there; False where none has."""
        if not any(self._change(route, place, row.user_id) for place in places):
            return False
        while route.ticket.position:
            await route.ticket.moved()
        return True

    def _enter(self, model: Model, user_id: UUID) -> QueueTicket:
        queue = self._queues[model.backend.name]
        queue.resize(model.backend.parallel)  # its server may have come, or another one in its place
        return queue.enter(user_id)

    def _change(self, route: Route, model: Model, user_id: UUID, *, leaving: bool = False) -> bool:
        if leaving or model.backend.name != route.model.backend.name:
            try:
                ticket = self._enter(model, user_id)
            except Overloaded:
                return False
            route.ticket.release()
            route.ticket = ticket
        route.model = model
        return True
