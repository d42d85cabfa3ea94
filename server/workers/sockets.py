"""The port: one socket for one process, and the sockets of several that serve on it together.

On Linux each worker has a socket of its own on the port (SO_REUSEPORT), among which the kernel spreads the connections
evenly. From one socket that all share, whoever wakes first takes all that wait: of 200 connections at once, one of two
workers got between 177 and 200, and between 94 and 106 with a socket each. Elsewhere SO_REUSEPORT spreads nothing, and
all share one.
"""

import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager

from server.settings import Settings, SettingsError

BACKLOG = 2048
"""Connections that may wait to be accepted, for each socket."""

EACH_ITS_OWN = sys.platform == "linux"


@contextmanager
def bound(settings: Settings, port: int | None = None, *, beside_others: bool = False) -> Generator[socket.socket]:
    """Open a socket on the port of the settings, or another; it does not listen yet. Raises SettingsError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    wanted = settings.port if port is None else port
    try:
        opened = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _refused(settings, wanted, error) from error
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if beside_others:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            opened.bind((settings.host, wanted))
        except (OSError, UnicodeError) as error:
            raise _refused(settings, wanted, error) from error
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: the kernel drops a peer that takes nothing for so long
            opened.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(round(settings.send_timeout * 2000), 2**31 - 1)
            )
        yield opened


def _refused(settings: Settings, port: int, error: OSError | UnicodeError) -> SettingsError:
    reason = error.strerror if isinstance(error, OSError) else "it is no host"
    return SettingsError(
        f"Cannot listen on {settings.host}:{port} ({reason}). Set OLLAGRAPH_HOST or OLLAGRAPH_PORT to another."
    )


def url_of(listening: socket.socket) -> str:
    """Give the address at which a socket is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class WorkerSockets:
    """Keeps the port for the workers; gives each its socket."""

    def __init__(self, settings: Settings, kept: socket.socket) -> None:
        self._settings = settings
        self._kept = kept

    @property
    def url(self) -> str:
        """The address of all workers together."""
        return url_of(self._kept)

    @contextmanager
    def for_worker(self) -> Generator[socket.socket]:
        """Give the socket that a worker inherits. It listens when the worker is ready, and not before."""
        if not EACH_ITS_OWN:
            yield self._kept
            return
        with bound(self._settings, self._kept.getsockname()[1], beside_others=True) as opened:
            yield opened


@contextmanager
def worker_sockets(settings: Settings) -> Generator[WorkerSockets]:
    """Keep the port within the block. Raises SettingsError where another program has it."""
    if EACH_ITS_OWN and settings.port:
        with bound(settings) as probe:  # beside others, it would find no fault with a second gateway on the port
            probe.listen()
    with bound(settings, beside_others=EACH_ITS_OWN) as kept:
        yield WorkerSockets(settings, kept)
