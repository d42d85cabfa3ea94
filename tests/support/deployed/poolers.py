"""PgBouncer in transaction mode before the tests' private PostgreSQL: each transaction may get another connection."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.ports import free_port

START_SECONDS = 20

CONFIG = """
[databases]
{name} = host={folder} port=5432 user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
logfile =
pidfile =
"""


@contextmanager
def pgbouncer(url: str, connections: int = 3) -> Iterator[str]:
    """Start PgBouncer before the database at a URL; gives the URL that goes through it."""
    if shutil.which("pgbouncer") is None:
        pytest.skip("needs pgbouncer: apt-get install pgbouncer")
    parts = urlsplit(url)
    server = Path(parse_qs(parts.query)["host"][0])
    port = free_port()
    name = parts.path.removeprefix("/")
    with tempfile.TemporaryDirectory(prefix="olg") as folder:
        config = Path(folder) / "pgbouncer.ini"
        config.write_text(
            CONFIG.format(name=name, folder=server, user=parts.username, port=port, connections=connections)
        )
        command = ["pgbouncer", "-q", str(config)]
        if os.getuid() == 0:  # which it refuses to run as; whoever owns PostgreSQL's folder reaches its socket
            command[1:1] = ["-u", pwd.getpwuid(server.stat().st_uid).pw_name]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until_it_listens(port)
            yield f"postgresql://{parts.username}@127.0.0.1:{port}/{name}"
        finally:
            process.terminate()
            process.wait()


def _wait_until_it_listens(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
