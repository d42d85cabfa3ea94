"""Asking again and again for what nobody tells, as the state of another process or of all tasks."""

import asyncio
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

PAUSE_SECONDS = 0.05


async def pause() -> None:
    """Leave the processor to what is waited for; a loop that only asks takes all of it."""
    await anyio.sleep(PAUSE_SECONDS)


async def settled() -> None:
    """Wait until every other task of this loop waits for something.

    anyio's `wait_all_tasks_blocked` looks each tenth of a second, which is just when uvicorn's servers wake up in a
    loop that they share with the tests: it can find one of them awake for seconds.
    """
    while any(_can_go_on(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()):
        await checkpoint()


def _can_go_on(task: asyncio.Task[Any]) -> bool:
    waits_for: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    return waits_for is None or waits_for.done()
