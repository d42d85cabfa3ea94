"""The thread in which a plugin lives, so that whatever it does keeps nobody but itself."""

import asyncio
import inspect
import logging
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import CancelledError as Withdrawn
from contextlib import suppress
from typing import Any

import anyio

from gateway.plugins.plugin import Plugin, Refused, hooks_of, is_guard
from gateway.tasks import in_forgettable_thread

logger = logging.getLogger(__name__)

MOST_WAITING = 1_000
"""What one plugin may still have to be told; what comes beyond is dropped and counted."""

STOP_SECONDS = 1.0
"""How long a plugin has to leave its thread after it was told to stop, and had its time for that."""


class PluginFailed(Exception):
    """A hook raised, or took too long. It was logged."""


class _WouldEndMore(Exception):
    """A hook raised what ends a thread, or a task of somebody else. `kind` is the type of that."""

    def __init__(self, error: BaseException) -> None:
        self.kind = type(error).__name__
        super().__init__(self.kind)


class PluginThread:
    """One plugin at work. Every call is limited to `plugin_timeout` seconds.

    `failures` counts by hook and reason: "raised", "timed out" and "dropped".
    """

    def __init__(self, name: str, plugin: Plugin, plugin_timeout: float) -> None:
        self.name = name
        self.plugin = plugin
        self.hooks = frozenset(hooks_of(plugin))
        self.guards = is_guard(plugin)
        self.failures: Counter[tuple[str, str]] = Counter()
        self.stop_seconds = STOP_SECONDS
        self._timeout = plugin_timeout
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"plugin {name}", daemon=True)
        self._told: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._came = asyncio.Event()
        self._telling = False
        self._ends = False

    async def start(self) -> None:
        """Let it get ready. Raises PluginFailed."""
        self._thread.start()
        await self.call("start")

    async def stop(self) -> None:
        """Let it take what it still has to be told, and end. One that hangs ends with the process."""
        with anyio.CancelScope(shield=True):
            with suppress(PluginFailed):
                await self.run("stop", self._finish)
            self.close()
            with anyio.move_on_after(self.stop_seconds):
                await in_forgettable_thread(self._thread.join)

    def close(self) -> None:
        """Have its event loop end, whatever runs there."""
        self._ends = True
        self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def waiting(self) -> int:
        """How much it still has to be told."""
        return len(self._told) + self._telling

    async def call(self, hook: str, *arguments: Any) -> Any:
        """Call a hook and give what it returns. Raises PluginFailed, and Refused where it does."""
        return await self.run(hook, getattr(self.plugin, hook), *arguments)

    async def run(self, hook: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the plugin in its event loop. Raises PluginFailed, and Refused where that does."""
        future = asyncio.run_coroutine_threadsafe(_result(function, *arguments), self._loop)
        try:
            with anyio.fail_after(self._timeout):
                return await asyncio.wrap_future(future)
        except Refused:
            raise
        except TimeoutError as error:
            self._fail(hook, "timed out", f"it took longer than {self._timeout:g} s")
            raise PluginFailed(hook) from error
        except (Exception, Withdrawn) as error:
            self._fail(hook, "raised", _kind(error), error)
            raise PluginFailed(hook) from error

    def tell(self, hook: str, *arguments: Any) -> None:
        """Have a hook called a moment later, behind what it was told before. Never waits."""
        if hook not in self.hooks:
            return
        if len(self._told) >= MOST_WAITING:
            if not self.failures[hook, "dropped"]:
                logger.warning("plugin %s is too slow: what it should be told by %s is dropped", self.name, hook)
            self.failures[hook, "dropped"] += 1
            return
        self._told.append((hook, arguments))
        self._loop.call_soon_threadsafe(self._came.set)

    async def _tell(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            while self._told:
                await self._tell_next()

    async def _tell_next(self) -> None:
        self._telling = True
        hook, arguments = self._told.popleft()
        try:
            async with asyncio.timeout(self._timeout):
                await _result(getattr(self.plugin, hook), *arguments)
        except TimeoutError:
            self._fail(hook, "timed out", f"it took longer than {self._timeout:g} s")
        except Exception as error:
            self._fail(hook, "raised", _kind(error), error)
        finally:
            self._telling = False

    async def _finish(self) -> None:
        while self._told:
            await self._tell_next()
        await self.plugin.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        telling = self._loop.create_task(self._tell())
        while not self._ends:
            try:
                self._loop.run_forever()  # until the plugin stops it, or a task of its own exits
            except BaseException as error:
                self._fail("a task of its own", "raised", _kind(error), error)
        telling.cancel()
        self._loop.run_until_complete(asyncio.gather(telling, return_exceptions=True))
        self._loop.close()

    def _fail(self, hook: str, reason: str, told: str, error: BaseException | None = None) -> None:
        self.failures[hook, reason] += 1
        # not what the error says: that may be a prompt, an answer or a key
        where = "".join(traceback.format_tb(error.__traceback__)[-3:]) if error else ""
        logger.error("plugin %s: %s %s (%s)\n%s", self.name, hook, reason, told, where)


async def _result(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the plugin. What would end more than the call, as `sys.exit` does, is an error of the call."""
    try:
        result = function(*arguments)
        return await result if inspect.isawaitable(result) else result
    except Exception:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # by who called, and not by the plugin
        raise _WouldEndMore(error).with_traceback(error.__traceback__) from None


def _kind(error: BaseException) -> str:
    return error.kind if isinstance(error, _WouldEndMore) else type(error).__name__
