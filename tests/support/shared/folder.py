"""What the processes of one test run share: a folder, in which the first to need something makes it for all."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
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


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Give a path in the folder, made by whichever process needs it first; the others wait until it is made."""
    folder = Path(os.environ[_NAME])
    path, done = folder / name, folder / f"{name}.done"
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(path)
            done.touch()
    return path
