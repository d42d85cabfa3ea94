"""SIGHUP, which asks to read the settings again; and which the system sends, too, when a terminal is closed."""

import os
import signal
from collections.abc import Callable

import anyio
from anyio.abc import TaskStatus


async def on_hang_up(
    reload: Callable[[], None], stop: Callable[[], None], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Call `reload` at each SIGHUP, until cancelled; `stop` where it says that the terminal of this process is gone.

    Has started when the signal ends the process no more.
    """
    had_terminal = _has_terminal()
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            if had_terminal and not _has_terminal():
                stop()
            else:
                reload()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
