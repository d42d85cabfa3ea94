"""Puts a bound on how long a model server may take: a wrapper round any backend, and a backend itself."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

from backends.errors import BackendTimeout, TimeoutPhase
from backends.loading import OnLoading
from backends.protocol import Backend, ChatRequest, Chunk, LoadedModel, ModelInfo
from backends.wrapped import WrappedBackend

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, each; None is no bound.

    connect         until a connection stands; kept by the backend's HTTP client, which is made with it
    load            while the model server tells that it loads the model; Ollama, for one, gives up by itself
    first_byte      from then until the first batch of an answer (reading a long prompt falls in it), and for the whole
                    of a list of models or a ping
    between_tokens  from one batch to the next
    total           for the whole answer
    """

    connect: float | None = None
    load: float | None = None
    first_byte: float | None = None
    between_tokens: float | None = None
    total: float | None = None


class TimedBackend(WrappedBackend):
    """A backend that raises BackendTimeout when the one inside it is too slow.

    Only the time spent waiting for the backend is bounded: a reader that is slow between two batches never
    makes the backend look slow. (`total` does count it, but is looked at only when the reader asks again, so
    that the reader's own work is never cancelled.) The backend inside must hold no cancel scope or task group
    open while its iterator is at rest.
    """

    def __init__(self, inner: Backend, timeouts: Timeouts) -> None:
        super().__init__(inner)
        self._timeouts = timeouts

    async def models(self) -> list[ModelInfo]:
        """List the models of the backend inside. Raises BackendError."""
        with _Clock(self._timeouts) as clock:
            return await clock.first(self._inner.models)

    async def describe(self, model: ModelInfo) -> ModelInfo:
        """Complete a model of the backend inside. Raises BackendError."""
        with _Clock(self._timeouts) as clock:
            return await clock.first(lambda: self._inner.describe(model))

    async def loaded_models(self) -> Mapping[str, LoadedModel] | None:
        """Ask the backend inside what it has in memory. Raises BackendError."""
        with _Clock(self._timeouts) as clock:
            return await clock.first(self._inner.loaded_models)

    async def ping(self) -> None:
        """Ping the backend inside. Raises BackendError."""
        with _Clock(self._timeouts) as clock:
            await clock.first(self._inner.ping)

    @asynccontextmanager
    async def generate(
        self, request: ChatRequest, on_loading: OnLoading | None = None
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Ask the backend inside. Raises BackendError."""
        async with AsyncExitStack() as stack:
            clock = stack.enter_context(_Clock(self._timeouts))

            async def loading(is_loading: bool) -> None:
                clock.loading(is_loading)
                if on_loading is not None:
                    await on_loading(is_loading)

            answer = self._inner.generate(request, loading)
            batches = await clock.first(lambda: stack.enter_async_context(answer))
            yield await stack.enter_async_context(aclosing(_timed(batches, clock)))


async def _timed(batches: AsyncIterator[Sequence[Chunk]], clock: "_Clock") -> AsyncGenerator[Sequence[Chunk]]:
    wait = clock.first
    while True:
        try:
            batch = await wait(batches.__anext__)
        except StopAsyncIteration:
            return
        yield batch
        wait = clock.next


class _Clock:
    """The time one answer has used, and has left.

    One timer serves the whole answer: it is set anew when it rings too early, and not for each token, where a scope
    with a deadline is a fifth of the gateway's work. So it cancels by asyncio's own means, as `asyncio.timeout` does.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._due = math.inf
        self._rang = False
        self._bound: _Bound = (math.inf, TimeoutPhase.TOTAL, None)
        self._between = timeouts.between_tokens
        self._load = timeouts.load
        self._loading_since: float | None = None
        self._first = timeouts.first_byte
        self._waited = 0.0
        self._total = (self._loop.time() + _bound(timeouts.total), TimeoutPhase.TOTAL, timeouts.total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def first(self, call: Callable[[], Awaitable[T]]) -> T:
        """Wait for something that comes before the first batch, or for that itself. Raises BackendTimeout."""
        begun = self._loop.time()
        self._task = asyncio.current_task()  # once: the one who asks reads the whole answer, and to look it up is dear
        try:
            due = begun + _bound(self._first) - self._waited
            return await self._wait(call, (due, TimeoutPhase.FIRST_BYTE, self._first))
        finally:
            self._waited += self._loop.time() - begun

    def loading(self, is_loading: bool) -> None:
        """While the server loads the model, that has a bound of its own, and does not count as waiting for an answer.

        Called while `first` waits.
        """
        at = self._loop.time()
        if self._loading_since is not None:
            self._waited -= at - self._loading_since
        self._loading_since = at if is_loading else None
        seconds, phase = (self._load, TimeoutPhase.LOADING) if is_loading else (self._first, TimeoutPhase.FIRST_BYTE)
        self._await((at + _bound(seconds), phase, seconds))

    async def next(self, call: Callable[[], Awaitable[T]]) -> T:
        """Wait for one more batch. Raises BackendTimeout."""
        due = self._loop.time() + _bound(self._between)
        return await self._wait(call, (due, TimeoutPhase.BETWEEN_TOKENS, self._between))

    async def _wait(self, call: Callable[[], Awaitable[T]], bound: "_Bound") -> T:
        self._await(bound)
        # Looked at first, since a timer lets through whatever never has to wait.
        if self._loop.time() >= self._due:
            raise self._timeout()
        task = self._task
        cancelling = task.cancelling() if task else 0
        try:
            return await call()
        except asyncio.CancelledError:
            if self._rang and task is not None and task.uncancel() <= cancelling:
                raise self._timeout() from None
            raise
        finally:
            self._due = math.inf

    def _await(self, bound: "_Bound") -> None:
        self._bound = bound if bound[0] <= self._total[0] else self._total
        self._due = self._bound[0]
        if self._due < math.inf and (self._timer is None or self._timer.when() > self._due):
            self._set_timer()

    def _timeout(self) -> BackendTimeout:
        _, phase, seconds = self._bound
        return BackendTimeout(phase, seconds or 0.0)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() < self._due < math.inf:
            self._set_timer()
        elif self._due < math.inf and self._task is not None:
            self._rang = True
            self._task.cancel()


_Bound = tuple[float, TimeoutPhase, float | None]


def _bound(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
