"""The coroutines of one operation, so that those that never ran can be closed when it is cancelled.

graphql-core calls the resolvers of a whole level, and wraps what they give in coroutines and tasks, before any of these
runs. A client who leaves in that turn of the event loop cancels the outermost; what is in it was never awaited, which
Python reports as a bug. graphql-core asks of each value whether it can be awaited: there they are noted.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType, NoneType
from typing import Any, cast

from strawberry.execution.is_awaitable import optimized_is_awaitable

_PLAIN = frozenset({NoneType, bool, int, float, str, list, dict})


class Coroutines:
    """Notes the coroutines that graphql-core asks about."""

    def __init__(self) -> None:
        self._noted: list[CoroutineType[Any, Any, Any]] = []

    def is_awaitable(self, value: object) -> bool:
        """Tell whether a value can be awaited, and note it when it is a coroutine."""
        kind = type(value)
        if kind in _PLAIN:
            return False
        if kind is CoroutineType:
            self._noted.append(cast("CoroutineType[Any, Any, Any]", value))
            return True
        return optimized_is_awaitable(value)

    def forget(self) -> None:
        """Forget them all, when what they were made for has ended."""
        self._noted.clear()

    @contextmanager
    def closed_when_cancelled(self) -> Generator[None]:
        """Close those that never ran when the block is cancelled, or fails.

        A turn of the event loop later: tasks that were cancelled before they began own theirs, and end them by then.
        """
        try:
            yield
        except BaseException:
            asyncio.get_running_loop().call_soon(self._close_unstarted)
            raise

    def _close_unstarted(self) -> None:
        for coroutine in self._noted:
            if getcoroutinestate(coroutine) == CORO_CREATED:
                coroutine.close()
        self.forget()
