"""Calls that block, in threads that nobody has to wait for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TypeVar

from anyio import CapacityLimiter

_T = TypeVar("_T")


class DaemonThreads:
    """Runs blocking calls, `most` at once.

    Unlike those of anyio.to_thread, a thread that never comes back does not keep the process from ending. It keeps its
    place, so that a hanging server cannot make the threads more and more.
    """

    def __init__(self, most: int) -> None:
        self._limiter = CapacityLimiter(most)

    async def run(self, call: Callable[[], _T]) -> _T:
        """Give what a call returns. Whoever is cancelled leaves at once, and leaves the call to itself."""
        place, done, loop = object(), Future[_T](), asyncio.get_running_loop()
        await self._limiter.acquire_on_behalf_of(place)

        def work() -> None:
            done.set_running_or_notify_cancel()  # from here on it cannot be cancelled
            try:
                done.set_result(call())
            except BaseException as error:  # raised again where it is awaited
                done.set_exception(error)
            finally:
                with suppress(RuntimeError):  # the loop has ended, and its places with it
                    loop.call_soon_threadsafe(self._limiter.release_on_behalf_of, place)

        Thread(target=work, name="blocking call", daemon=True).start()
        return await asyncio.wrap_future(done)
