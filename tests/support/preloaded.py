"""`python -m server` as a fork of a process that has loaded its modules already, which is most of what a start takes.

To the system it is the same: a process of its own, with its own environment, folder, standard streams and signals.
What differs, the loading itself, is tested where the process is started as it is typed.
"""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.shared.preload", "tests.support.preloaded"])


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
        self.output, output = _context.Pipe(duplex=False)
        with output:
            self._process = _context.Process(
                target=_main, args=(arguments, folder, environment, output, errors, largest_file, obeys_permissions)
            )
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill it if it still runs, and let go of what it holds here."""
        self.send_signal(signal.SIGKILL)
        self._process.join()
        self.output.close()

    @property
    def returncode(self) -> int | None:
        """The exit status, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for the end and give the exit status."""
        if self.returncode is None:
            await anyio.wait_readable(self._process.sentinel)
        return self.join(None)

    def join(self, timeout: float | None) -> int:
        """The same without an event loop. Raises TimeoutError."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"It still runs after {timeout} s.")
        return self.returncode

    async def read(self) -> str:
        """What it has written to its standard output since the last time; empty at the end."""
        await anyio.wait_readable(self.output.fileno())
        return os.read(self.output.fileno(), 65_536).decode()


def _main(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: Connection,
    errors: Path,
    largest_file: int | None,
    obeys_permissions: bool,
) -> None:
    if obeys_permissions:
        _obey_permissions()
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    os.dup2(output.fileno(), sys.stdout.fileno())
    os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT), sys.stderr.fileno())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ollagraph", *arguments]
    warnings.simplefilter("error")
    from server.cli import main

    main()


def _obey_permissions() -> None:
    """Give up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, as Linux's capset(2) does it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # its version, and this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 of each
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110
    assert libc.capset(header, sets) == 0
