"""One worker: a program of its own, started by the supervisor (`server.workers.processes`), and ending with it.

It reads what it is to do, a line of JSON, from its standard input, loads the gateway, and serves when it is told to.
The kernel closes its standard input however the supervisor ends, and that ends the worker, too. What it tells goes to
its standard output, and what anything else prints to standard error.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any


def main() -> None:
    """Serve; end with status 1, and a sentence for the supervisor, when that cannot begin."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    orders = _lines(sys.stdin.fileno())
    config: dict[str, Any] = json.loads(next(orders))
    sys.path[:] = config["import_path"]  # what is to be imported is found wherever the supervisor found it
    import gc

    from server import logs
    from server.cli import told
    from server.settings import load_settings
    from server.workers.link import WorkerLink

    os.umask(0o077)
    link = WorkerLink(
        orders, answers, number=config["number"], of=config["of"], private_valkey=config["private_valkey"]
    )
    link.listen()
    gc.disable()  # as `serve` of the command line
    try:
        settings = load_settings()
        logs.configure(settings, link.number)
        from server.serve import serve_as_worker

        link.wait_for_start()
        serve_as_worker(settings, socket.socket(fileno=config["socket"]), link)
    except Exception as error:
        sentence = told(error)
        if sentence is None:
            raise
        link.tell_failed(sentence)
        raise SystemExit(1) from None


def _lines(descriptor: int) -> Iterator[bytes]:
    """Give what comes, line by line. A thread that waits within `sys.stdin` would break the interpreter's end."""
    rest = b""
    while data := os.read(descriptor, 65_536):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


if __name__ == "__main__":
    main()
