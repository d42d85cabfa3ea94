"""One worker: a process of its own, started by the supervisor (`server.workers.worker_process`), and ending with it.

The kernel closes its link however the supervisor ends, and that ends the worker, too. What anything prints goes to
standard error.
"""

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""Signals that wait until a worker is a program of its own."""


def serve_at(link: socket.socket, listening: socket.socket, *, number: int, of: int, private_valkey: bool) -> None:
    """Serve on `listening`, when `link` tells to; end with status 1, and a sentence for the supervisor, if that fails.

    What it needs is imported here: the supervisor, which names this function, does without.
    """
    _become_a_program(f"ollagraph-{number}")
    from server import logs
    from server.cli import told
    from server.settings import load_settings
    from server.workers.link import WorkerLink

    worker = WorkerLink(_lines(link.fileno()), link.fileno(), number=number, of=of, private_valkey=private_valkey)
    worker.listen()
    gc.disable()  # as `serve` of the command line
    try:
        settings = load_settings()
        logs.configure(settings, number)
        from server.serve import serve_as_worker

        worker.wait_for_start()
        serve_as_worker(settings, listening, worker)
    except Exception as error:
        sentence = told(error)
        if sentence is None:
            raise
        worker.tell_failed(sentence)
        raise SystemExit(1) from None


def _become_a_program(name: str) -> None:
    """Take what a fork or a fresh interpreter has not: the name that `top` shows, a place out of reach of Ctrl-C."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # one that came meanwhile has waited
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.umask(0o077)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _lines(descriptor: int) -> Iterator[bytes]:
    """Give what comes, line by line, until the supervisor is gone."""
    rest = b""
    with suppress(ConnectionResetError):  # it had not read all, when it was killed
        while data := os.read(descriptor, 65_536):
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
