"""Tasks in the application's task group, where an exception that gets out would end everything else with it."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar, TypeVarTuple

import anyio
from anyio.abc import TaskGroup

from db.failures import DatabaseUnavailable

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0

FIRST_PURGE_SECONDS = 10.0
"""Seconds until what is too old is removed for the first time: a gateway that starts has requests to answer."""

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


def spawn(tasks: TaskGroup, name: str, call: Callable[[*Arguments], Awaitable[object]], *arguments: *Arguments) -> None:
    """Start a task that ends by itself. What it raises is logged, and is nobody else's business."""

    async def guarded() -> None:
        try:
            await call(*arguments)
        except Exception:
            logger.exception("%s failed", name)

    tasks.start_soon(guarded, name=name)


def spawn_service(tasks: TaskGroup, name: str, run: Callable[[], Awaitable[object]]) -> None:
    """Start a task that runs something again and again until it is cancelled. What it raises is logged."""

    async def guarded() -> None:
        while True:
            try:
                await run()
            except Exception:
                logger.exception("%s failed; it is started again", name)
                await anyio.sleep(RESTART_SECONDS)

    tasks.start_soon(guarded, name=name)


async def in_forgettable_thread(work: Callable[[], T]) -> T:
    """Do what may never end in a thread. When nobody waits for it any more, it keeps the process from nothing.

    Those of anyio and asyncio keep it from ending: the interpreter waits for them.
    """
    future = Future[T]()
    future.set_running_or_notify_cancel()  # so what cancels the waiting does not take the future from the thread

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="forgettable", daemon=True).start()
    return await asyncio.wrap_future(future)


async def purge_regularly(
    what: str, purge: Callable[[], Awaitable[object]], seconds: float, first: float | None = None
) -> None:
    """Remove what is too old, or do other such work, with so many seconds between. What it raises is logged.

    The first time comes after ``FIRST_PURGE_SECONDS``, or after ``first`` seconds.
    """
    await anyio.sleep(FIRST_PURGE_SECONDS if first is None else first)
    while True:
        try:
            await purge()
        except DatabaseUnavailable:
            pass  # which has told the log; there is time
        except Exception:
            logger.exception("looking after %s failed; it is tried again in %g seconds", what, seconds)
        await anyio.sleep(seconds)
