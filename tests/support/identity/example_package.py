"""The example of a provider that others write, installed in a folder of its own as pip installs it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent


@contextmanager
def installed_example(folders: pytest.TempPathFactory) -> Iterator[Path]:
    """Install it for the block, and give the folder."""
    folder = folders.mktemp("installed")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--no-config"]
    source = folders.mktemp("source") / "provider"
    subprocess.run(["cp", "-R", str(ROOT / "examples/provider"), str(source)], check=True)
    command = [sys.executable, "-m", "uv", "pip", "install", *options, "--target", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    sys.path.insert(0, str(folder))
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("ollagraph_htpasswd", None)
