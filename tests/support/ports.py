"""Ports for servers that have to be told one, and for addresses at which nobody shall answer."""

import secrets
import socket

FIRST, END = 10_000, 32_000
"""Below those that systems give to connections (from 32768 on Linux, 49152 elsewhere): any of these may be taken by a
connection of another test before the server has it."""


def free_port() -> int:
    """Give one that nobody has, by chance: others look for some, too, at the same time."""
    while True:
        port = FIRST + secrets.randbelow(END - FIRST)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
