"""Ports for servers that have to be told one, and for addresses at which nobody shall answer."""

import secrets
import socket

FIRST, END = 10_000, 32_000
"""Below those that systems give to connections (from 32768 on Linux, 49152 elsewhere): any of these may be taken by a
connection of another test before the server has it."""


def free_port() -> int:
    """Give one that nobody has, and that nobody else is given while this process lives.

    Until the server listens nothing shows that the port is spoken for. The port of the same number for UDP does:
    it stays open, and a server of TCP does not want it.
    """
    while True:
        port = FIRST + secrets.randbelow(END - FIRST)
        spoken_for = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            spoken_for.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):
                pass
        except OSError:
            spoken_for.close()
            continue
        spoken_for.detach()
        return port
