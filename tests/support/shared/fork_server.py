"""The process of which all that tests start is forked: it has loaded what any command of ours needs.

One serves all processes of a test run. They speak to it over a socket, a connection for each process that they want: it
gets what is to run and a standard output, and answers with the number of the process, and later with how it ended. It
ends itself when nobody has a connection any more.
"""

import atexit
import ctypes
import json
import os
import resource
import selectors
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

LONGEST = 1_000_000
"""Bytes of a request, which holds a whole environment."""

ANSWER = 10
"""Bytes of an answer: a number, as text. The first one of a connection says that somebody is there."""


def serve(listener: socket.socket) -> None:
    """Fork what is asked for, until nobody is left who could ask."""
    ended, waking = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler it would wake nobody
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for own in (listener, ended):
            selector.register(own, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is listener:
                    client, _ = listener.accept()
                    selector.register(client, selectors.EVENT_READ)
                    _tell(client, 0)
                elif ready is ended:
                    ended.recv(LONGEST)
                    _tell_ends(running)
                elif not _take(ready, running):
                    selector.unregister(ready)
                    ready.close()
                    if len(selector.get_map()) == 2:
                        return


def _take(client: socket.socket, running: dict[int, socket.socket]) -> bool:
    """Start what a client asks for; False where it has gone."""
    request, descriptors, _, _ = socket.recv_fds(client, LONGEST, 1)
    if not request:
        return False
    pid = os.fork()
    if pid == 0:
        _become(json.loads(request), *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    running[pid] = client
    _tell(client, pid)
    return True


def _tell_ends(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _tell(running.pop(pid), os.waitstatus_to_exitcode(status))


def _tell(client: socket.socket, number: int) -> None:
    with suppress(OSError):  # it may have gone
        client.send(str(number).rjust(ANSWER).encode())


def _become(request: dict[str, Any], output: int) -> NoReturn:
    """Be the process that was asked for, and end as it."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    os.closerange(3, max(map(int, os.listdir("/dev/fd"))) + 1)
    status: Any = 1
    try:
        _run(**request)
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else status is not None)


def _run(
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    errors: str,
    largest_file: int | None,
    obeys_permissions: bool,
) -> None:
    if obeys_permissions:
        _obey_permissions()
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT), sys.stderr.fileno())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # it is another one now
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


def main(*preloaded: str) -> None:
    """Load modules, and serve on standard input."""
    for name in preloaded:
        import_module(name)
    with socket.socket(fileno=sys.stdin.fileno()) as listener:
        serve(listener)
