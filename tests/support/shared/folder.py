"""What the processes of one test run share: a folder, in which the first to need something makes it for all."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NAME = "TESTS_SHARED_FOLDER"


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder in the process that starts the others, which get its name in their environment."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        # a short name: the socket of PostgreSQL is below it, and the name of a socket may have about a hundred letters
        folder = tempfile.mkdtemp(prefix="olg")
        os.environ[_NAME] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Give a path in the folder, while no other process is in such a block with it."""
    path = Path(os.environ[_NAME]) / name
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Give a path in the folder, made by whichever process needs it first; the others wait until it is made."""
    with locked(name) as path:
        done = path.with_name(f"{name}.done")
        if not done.exists():
            make(path)
            done.touch()
    return path
