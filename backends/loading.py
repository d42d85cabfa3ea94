"""Tells whoever waits for an answer that the model server has to load the model first."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from backends.errors import BackendError

logger = logging.getLogger(__name__)

OnLoading = Callable[[bool], Awaitable[None]]
"""Told True when the server loads the model before it reads the prompt, and False when that is over."""

LOOK_SECONDS = 1.0
"""Between two looks, and before the first one: most answers have begun by then."""


@asynccontextmanager
async def watching(is_loading: Callable[[], Awaitable[bool]], on_loading: OnLoading) -> AsyncGenerator[None]:
    """Look from time to time while the block waits for an answer to begin, and tell what changes.

    A look that fails is logged, and there is no other one. Raises what the block or `on_loading` does.
    """
    watch = _Watch(is_loading, on_loading)
    with watch.block:
        try:
            yield
        finally:
            await watch.end()
    if watch.failure is not None:
        raise watch.failure
    await watch.tell(False)


class _Watch:
    """Looks in a task of its own, which is made when the first look is due and ends with the block.

    Most blocks end before that. A task group for each, which needs a turn of the event loop to end, delayed all first
    tokens by that, and a task that is cancelled before it has run leaves 100 objects to garbage collection.
    """

    def __init__(self, is_loading: Callable[[], Awaitable[bool]], on_loading: OnLoading) -> None:
        self.failure: Exception | None = None
        self.block = anyio.CancelScope()
        self._is_loading = is_loading
        self._on_loading = on_loading
        self._told = False
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def end(self) -> None:
        """Look no more, and come back when nothing of it runs."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while True:
                await self.tell(await self._is_loading())
                await anyio.sleep(LOOK_SECONDS)
        except BackendError as error:
            logger.debug("no further look at whether the model is loaded: %s", error)
        except Exception as error:
            self.failure = error
            self.block.cancel()

    async def tell(self, loading: bool) -> None:
        """Tell it where it is news."""
        if loading is not self._told:
            self._told = loading
            await self._on_loading(loading)
