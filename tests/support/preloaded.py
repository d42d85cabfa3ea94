"""`python -m server` as a fork of a process that has loaded its modules already, which is most of what a start takes.

To the system it is the same: a process of its own, with its own environment, folder, standard streams and signals.
What differs, the loading itself, is tested where the process is started as it is typed.
"""

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from tests.support.shared import fork_server
from tests.support.shared.folder import locked

_PRELOADED = "tests.support.shared.preload"


class PreloadedProcess:
    """A process that runs a command of ours. Its standard output can be read from `output`; `errors` is a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        errors: Path,
        *,
        largest_file: int | None = None,
        obeys_permissions: bool = False,
    ) -> None:
        """Start it. The first one waits until all is loaded.

        `largest_file` limits the bytes of any file that it writes. With `obeys_permissions` it has no right to read and
        write everything, not even as the administrator.
        """
        self.returncode: int | None = None
        """The exit status, or the negative number of the signal that ended it, when its end was waited for."""
        server = _fork_server()
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": {**environment, "TMPDIR": str(server.parent)},  # what one that is killed leaves goes with it
            "errors": str(errors),
            "largest_file": largest_file,
            "obeys_permissions": obeys_permissions,
        }
        self._connection = _connect(server)
        self.output, output = os.pipe()
        try:
            socket.send_fds(self._connection, [json.dumps(request).encode()], [output])
        finally:
            os.close(output)
        self.pid = _answer(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill it if it still runs, and let go of what it holds here."""
        self.send_signal(signal.SIGKILL)
        self.join(None)
        self._connection.close()
        os.close(self.output)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if not self._has_ended(0):
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for the end and give the exit status."""
        if self.returncode is None:
            await anyio.wait_readable(self._connection)
        return self.join(None)

    def join(self, timeout: float | None) -> int:
        """The same without an event loop. Raises TimeoutError."""
        if not self._has_ended(timeout):
            raise TimeoutError(f"It still runs after {timeout} s.")
        assert self.returncode is not None
        return self.returncode

    async def read(self) -> str:
        """What it has written to its standard output since the last time; empty at the end."""
        await anyio.wait_readable(self.output)
        return os.read(self.output, 65_536).decode()

    def _has_ended(self, timeout: float | None) -> bool:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = _answer(self._connection)
        return self.returncode is not None


@cache
def _fork_server() -> Path:
    """Give the socket of the fork server, and keep it until this process ends; the first that needs it starts it."""
    with locked("forks") as path:
        try:
            _kept.append(_connect(path))
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                listener.listen(128)
                command = [sys.executable, "-c", f"from {fork_server.__name__} import main; main({_PRELOADED!r})"]
                stdin = (os.POSIX_SPAWN_DUP2, listener.fileno(), 0)
                os.posix_spawn(sys.executable, command, os.environ, file_actions=[stdin])
            _kept.append(_connect(path))
    return path


_kept: list[socket.socket] = []


def _connect(path: Path) -> socket.socket:
    """Open a connection to the fork server. Raises OSError, or ValueError, where there is none."""
    with ExitStack() as stack:
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(str(path))
        _answer(connection)
        stack.pop_all()
        return connection


def _answer(connection: socket.socket) -> int:
    return int(connection.recv(fork_server.ANSWER, socket.MSG_WAITALL))
