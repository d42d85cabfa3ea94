"""Tells whoever waits for an answer that the model server has to load the model first."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

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
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        # A timer, since most blocks end before it: a cancelled task leaves 100 objects to the garbage collector.
        begin = asyncio.get_running_loop().call_later(LOOK_SECONDS, watch.begin, tasks)
        try:
            yield
        except Exception as error:  # a task group would wrap it
            failure = error
        finally:
            begin.cancel()
        watch.end()
    if failure := watch.failure or failure:
        raise failure
    await watch.tell(False)


class _Watch:
    def __init__(self, is_loading: Callable[[], Awaitable[bool]], on_loading: OnLoading) -> None:
        self.failure: Exception | None = None
        self._is_loading = is_loading
        self._on_loading = on_loading
        self._told = False
        self._block: anyio.CancelScope | None = None

    def begin(self, tasks: TaskGroup) -> None:
        self._block = tasks.cancel_scope
        tasks.start_soon(self._run)

    def end(self) -> None:
        if self._block is not None:
            self._block.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self.tell(await self._is_loading())
                await anyio.sleep(LOOK_SECONDS)
        except BackendError as error:
            logger.debug("no further look at whether the model is loaded: %s", error)
        except Exception as error:
            self.failure = error
            self.end()

    async def tell(self, loading: bool) -> None:
        if loading is not self._told:
            self._told = loading
            await self._on_loading(loading)
