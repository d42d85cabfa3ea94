"""Which models there are, over all backends."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from backends.errors import BackendError
from backends.protocol import Backend, ModelInfo
from backends.protocol import Capability as Capability
from gateway.errors import ModelNotFound

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10
"""How long a backend may take to list its models or to answer a ping; an answer of a model has its own time-outs."""

_NO_ANSWER = f"no answer within {ANSWER_SECONDS} s"


@dataclass(frozen=True, slots=True)
class Model:
    """A model under the name users know it by. `backend_name` is what its own backend calls it."""

    name: str
    backend_name: str
    backend: Backend
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """How a backend is. `error` is None when it answered; `latency_ms` is then the time that took."""

    name: str
    latency_ms: float | None
    error: str | None


@dataclass(slots=True)
class _Listing:
    """What one backend said last, and whether it still says anything. Only one task asks it at a time."""

    models: list[ModelInfo] = field(default_factory=list[ModelInfo])
    answers: bool = True
    asked_at: float = float("-inf")
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class Catalog:
    """The models of all backends, asked again when the last answer is older than `max_age` seconds.

    Where two backends have a model of the same name, the one named first in the settings keeps the plain name
    and the other's is called "backend/model". A backend that does not answer has no models for the moment.
    """

    def __init__(self, backends: Sequence[Backend], max_age: float) -> None:
        self._backends = backends
        self._max_age = max_age
        self._listings = {backend.name: _Listing() for backend in backends}

    async def models(self) -> list[Model]:
        """All models, those of the first backend first."""
        await self._refresh_all(self._max_age)
        return list(self._known().values())

    async def find(self, name: str) -> Model:
        """The model of this name. Raises ModelNotFound, after asking the backends anew.

        A model that a backend had when it last answered is still found: asking for it tells what is wrong there.
        """
        known = self._known().get(name)
        if known is not None and not self._is_stale(known.backend, self._max_age):
            return known  # so that a backend which hangs holds up nobody else's models
        for max_age in (self._max_age, min(1.0, self._max_age)):
            await self._refresh_all(max_age)
            found = self._known().get(name)
            if found is not None:
                return found
        silent = [name for name, listing in self._listings.items() if not listing.answers]
        found = self._known(silent_too=True).get(name)
        if found is None:
            raise ModelNotFound(name, silent)
        return found

    async def serving(self, model: Model) -> list[Model]:
        """The same model at every backend that answers now and has it, that of `model` first."""
        await self._refresh_all(0)
        places = [
            Model(model.name, info.name, backend, info)
            for backend in self._backends
            if (listing := self._listings[backend.name]).answers
            for info in listing.models
            if info.name == model.backend_name
        ]
        return sorted(places, key=lambda place: place.backend.name != model.backend.name)

    async def health(self, seconds: float = ANSWER_SECONDS) -> list[BackendHealth]:
        """Ask every backend whether it is there, and wait no longer than that for any of them."""
        results: dict[str, BackendHealth] = {}

        async def ping(backend: Backend) -> None:
            started = time.perf_counter()
            try:
                with anyio.fail_after(seconds):
                    await backend.ping()
            except TimeoutError:
                results[backend.name] = BackendHealth(backend.name, None, f"no answer within {seconds:g} s")
            except BackendError as error:
                results[backend.name] = BackendHealth(backend.name, None, str(error))
            else:
                results[backend.name] = BackendHealth(backend.name, (time.perf_counter() - started) * 1000, None)

        async with anyio.create_task_group() as tasks:
            for backend in self._backends:
                tasks.start_soon(ping, backend)
        return [results[backend.name] for backend in self._backends]

    def _known(self, *, silent_too: bool = False) -> dict[str, Model]:
        models: dict[str, Model] = {}
        for backend in self._backends:
            listing = self._listings[backend.name]
            for info in listing.models if listing.answers or silent_too else ():
                name = info.name if info.name not in models else f"{backend.name}/{info.name}"
                models[name] = Model(name, info.name, backend, info)
        return models

    def _is_stale(self, backend: Backend, max_age: float) -> bool:
        return time.monotonic() - self._listings[backend.name].asked_at > max_age

    async def _refresh_all(self, max_age: float) -> None:
        stale = [backend for backend in self._backends if self._is_stale(backend, max_age)]
        async with anyio.create_task_group() as tasks:
            for backend in stale:
                tasks.start_soon(self._refresh, backend, max_age)

    async def _refresh(self, backend: Backend, max_age: float) -> None:
        listing = self._listings[backend.name]
        async with listing.lock:
            if not self._is_stale(backend, max_age):
                return
            try:
                with anyio.fail_after(ANSWER_SECONDS):
                    listing.models = await backend.models()
                listing.answers = True
            except (BackendError, TimeoutError) as error:
                logger.warning("backend %s lists no models: %s", backend.name, str(error) or _NO_ANSWER)
                listing.answers = False
            listing.asked_at = time.monotonic()
