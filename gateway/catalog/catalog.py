"""Which models there are, over all backends."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from auth.model_access import ALL_MODELS, ModelAccess
from backends.errors import BackendError
from backends.protocol import Backend, ModelInfo
from backends.protocol import BackendKind as BackendKind
from backends.protocol import Capability as Capability
from backends.protocol import LoadedModel as LoadedModel
from gateway.catalog.breaker import Breaker, BreakerRule, BreakerState
from gateway.catalog.listing import Listing, Patience, no_answer
from gateway.catalog.model_names import ModelNames
from gateway.catalog.queue import BackendQueue
from gateway.errors import ModelNotFound

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
"""How long a backend may take to answer a ping; an answer of a model has its own time-outs."""

LOADED_SECONDS = 2.0
"""How long a backend may take to tell what it has in memory. It is looked at while somebody waits for a list."""

SEARCH_PAUSE = 1.0
"""A name that no list has makes the backends be asked anew, but not more often than this, however many such names."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model under the name that lists it. `upstream_name` is what its own backend calls it.

    `available` is whether its backend answers now.
    """

    name: str
    upstream_name: str
    backend: Backend
    info: ModelInfo
    available: bool = True


@dataclass(frozen=True, slots=True)
class ModelFilter:
    """Which models are wanted; None takes all. A model of which no capabilities are known has none of those wanted."""

    capabilities: Collection[Capability] | None = None
    backend: str | None = None
    available: bool | None = None
    name_contains: str | None = None

    def takes(self, model: Model) -> bool:
        """Tell whether a model is wanted. `backend` is the one that is asked for it."""
        known = model.info.capabilities or frozenset[Capability]()
        return (
            (self.capabilities is None or known.issuperset(self.capabilities))
            and self.backend in (None, model.backend.name)
            and self.available in (None, model.available)
            and (self.name_contains is None or self.name_contains.casefold() in model.name.casefold())
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at one backend, which may serve it: `available` is whether the backend answers now.

    `running` and `waiting` count the generations at that backend, for whichever of its models.
    """

    backend: str
    info: ModelInfo
    available: bool
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class BackendState:
    """How a backend answered last: `error` says why it is not ready, `latency_ms` how long its list took if it is.

    `failures` is how often in a row it has failed at that; it is left alone for longer each time. `breaker` tells
    whether generations go there.
    """

    name: str
    kind: BackendKind
    ready: bool
    error: str | None
    latency_ms: float | None
    failures: int = 0
    breaker: BreakerState = BreakerState.CLOSED


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """How a backend is. `error` is None when it answered; `latency_ms` is then the time that took."""

    name: str
    latency_ms: float | None
    error: str | None


class Catalog:
    """The models of all backends, asked again in `tasks` when the last answer is older than `models_max_age` seconds.

    `queues` are the queues of the backends by name, for what they tell of their load.

    A known list is given at once and refreshed behind it, and nobody waits for a backend that does not answer: its
    models stay, marked. With a `models_max_age` of 0 the lists of all that answer are waited for each time.

    Where two backends have a model of the same name, the one named first in the settings keeps the plain name
    and the other's is called "backend/model". While the first does not answer, or its breaker is open, the plain name
    means the other's.
    Other ways to write a name are understood too (`gateway.catalog.model_names`).
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        models_max_age: float,
        tasks: TaskGroup,
        patience: Patience | None = None,
        queues: Mapping[str, BackendQueue] | None = None,
        breaker: BreakerRule | None = None,
    ) -> None:
        self._models_max_age = models_max_age
        self._patience = patience or Patience()
        self._queues = queues or {}
        self._listings = [
            Listing(backend, tasks, self._patience, self._forget_names, self._turned, breaker) for backend in backends
        ]
        self._by_backend = {listing.backend.name: listing for listing in self._listings}
        self._listed_names: ModelNames | None = None
        self._listener: Callable[[BackendState], None] | None = None

    def listen(self, listener: Callable[[BackendState], None]) -> None:
        """Have somebody told of each backend that answers again, or no longer, or whose breaker turns.

        It must not raise, and not wait.
        """
        self._listener = listener

    async def models(self, wanted: ModelFilter | None = None, access: ModelAccess = ALL_MODELS) -> list[Model]:
        """List the models that `access` allows, those of the first backend first.

        Of a backend that does not answer they are those it listed last.
        """
        await self._refresh()
        every = (model for name in self._names if (model := self._known(name)))
        return [model for model in every if access.allows(model.name) and (wanted is None or wanted.takes(model))]

    async def backends(self) -> list[BackendState]:
        """Tell how each backend answered when it was last asked for its models."""
        await self._refresh()
        return self.states()

    def states(self) -> list[BackendState]:
        """Tell how each backend answered last, without asking any."""
        return [self._state(listing) for listing in self._listings]

    def listed_name(self, name: str) -> str:
        """Give the name that lists the model meant by `name`; that itself where no model is known by it."""
        model = self._known(name)
        return name if model is None else model.name

    def breaker(self, backend: str) -> Breaker:
        """Give the breaker of the backend with this name."""
        return self._by_backend[backend].breaker

    def breakers(self) -> dict[str, BreakerState]:
        """Give the state of each breaker by the name of its backend."""
        return {name: listing.breaker.state for name, listing in self._by_backend.items()}

    async def by_name(self, names: Sequence[str], access: ModelAccess = ALL_MODELS) -> list[Model | None]:
        """Give the models of these names, in their order; None where there is none, or none that `access` allows."""
        await self._refresh()
        models = [self._known(name) for name in names]
        return [model if model is not None and access.allows(model.name) else None for model in models]

    async def find(self, name: str, access: ModelAccess = ALL_MODELS) -> Model:
        """Give the model of this name, however it is written. Raises ModelNotFound, after asking the backends anew.

        One that `access` does not allow is not found, just like one that does not exist.

        A name that is known waits for nobody. A model that a backend had when it last answered is still found: asking
        for it tells what is wrong there.
        """
        for listing in self._listings:
            listing.ask(self._models_max_age)
        found = self._known(name) or await self._search(name)
        if found is None or not access.allows(found.name):
            silent = [listing.backend.name for listing in self._listings if not listing.answers]
            raise ModelNotFound(name, silent, self._names.like(name, access))
        return found

    async def serving(self, model: Model) -> list[Model]:
        """Ask all backends, and give the same model at every one that takes requests, that of `model` first."""
        for listing in self._listings:
            await listing.wait()  # what was asked before the loss tells nothing of it
            listing.ask(0, urgently=True)
        for listing in self._listings:
            await listing.wait()
        return self.known_places(model)

    def known_places(self, model: Model) -> list[Model]:
        """Give the same model at every backend that takes requests, as far as is known, that of `model` first."""
        places = [
            Model(model.name, info.name, listing.backend, info)
            for listing in self._listings
            if listing.takes_requests and (info := self._names.at(listing, model.upstream_name))
        ]
        return sorted(places, key=lambda place: place.backend.name != model.backend.name)

    def deployments(self, model: Model) -> list[Deployment]:
        """Give the backends that list the model, that of `model` first, as they were when they were last asked."""
        places = [
            self._deployment(listing, info)
            for listing in self._listings
            if (info := self._names.at(listing, model.upstream_name))
        ]
        return sorted(places, key=lambda place: place.backend != model.backend.name)

    async def loaded_models(self, names: Sequence[str]) -> list[Mapping[str, LoadedModel] | None]:
        """Ask these backends what they have in memory, in the order of their names; None where one does not tell.

        Nobody waits for a backend that does not answer, and a list is no reason for an error.
        """
        found: dict[str, Mapping[str, LoadedModel] | None] = {}

        async def look(backend: Backend) -> None:
            try:
                with anyio.fail_after(LOADED_SECONDS):
                    found[backend.name] = await backend.loaded_models()
            except (BackendError, TimeoutError) as error:
                logger.debug("backend %s does not tell what it has loaded: %s", backend.name, error)

        async with anyio.create_task_group() as tasks:
            for listing in self._listings:
                if listing.backend.name in names and listing.answers:
                    tasks.start_soon(look, listing.backend)
        return [found.get(name) for name in names]

    async def health(self, seconds: float = ANSWER_SECONDS) -> list[BackendHealth]:
        """Ask every backend whether it is there, and take no answer within `seconds` for a no."""
        results: dict[str, BackendHealth] = {}

        async def ping(backend: Backend) -> None:
            started = time.perf_counter()
            try:
                with anyio.fail_after(seconds):
                    await backend.ping()
            except TimeoutError:
                results[backend.name] = BackendHealth(backend.name, None, no_answer(seconds))
            except BackendError as error:
                results[backend.name] = BackendHealth(backend.name, None, str(error))
            else:
                results[backend.name] = BackendHealth(backend.name, (time.perf_counter() - started) * 1000, None)

        async with anyio.create_task_group() as tasks:
            for listing in self._listings:
                tasks.start_soon(ping, listing.backend)
        return [results[listing.backend.name] for listing in self._listings]

    def _deployment(self, listing: Listing, info: ModelInfo) -> Deployment:
        name = listing.backend.name
        queue = self._queues.get(name)
        running, waiting = (0, 0) if queue is None else (queue.running, queue.waiting)
        return Deployment(name, info, available=listing.answers, running=running, waiting=waiting)

    async def _refresh(self) -> None:
        for listing in self._listings:
            listing.ask(self._models_max_age)
        for listing in self._listings:
            await listing.wait(
                self._patience.stale if listing.is_known and self._models_max_age else self._patience.first
            )

    async def _search(self, name: str) -> Model | None:
        """Ask for lists with this name in them, and wait for the first that has it."""
        for listing in self._listings:
            listing.ask(min(SEARCH_PAUSE, self._models_max_age), urgently=True)
        for listing in self._listings:  # in this order, since the plain name belongs to the first that has it
            await listing.wait(self._patience.stale)
            if self._names.has(name):
                return self._known(name)
        if found := self._known(name):
            return found

        async def look(listing: Listing) -> None:
            await listing.wait()
            if self._names.find(name):
                search.cancel_scope.cancel()

        async with anyio.create_task_group() as search:
            for listing in self._listings:
                search.start_soon(look, listing)
        return self._known(name)

    def _known(self, name: str) -> Model | None:
        """Give the model of this name at the first backend that takes requests, or else at the first of all."""
        places = self._names.find(name)
        if not places:
            return None
        place = next((place for place in places if place.listing.takes_requests), places[0])
        listing, info = place.listing, place.info
        return Model(place.name, info.name, listing.backend, info, available=listing.answers)

    @property
    def _names(self) -> ModelNames:
        if self._listed_names is None:
            self._listed_names = ModelNames(self._listings)
        return self._listed_names

    def _state(self, listing: Listing) -> BackendState:
        return BackendState(
            listing.backend.name,
            listing.backend.kind,
            ready=listing.answers,
            error=None if listing.answers else listing.error or no_answer(self._patience.first),
            latency_ms=listing.latency_ms if listing.answers else None,
            failures=listing.failures,
            breaker=listing.breaker.state,
        )

    def _turned(self, listing: Listing) -> None:
        if self._listener is not None:
            self._listener(self._state(listing))

    def _forget_names(self) -> None:
        self._listed_names = None
