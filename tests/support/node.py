"""Running JavaScript in tests, with the Node.js of the machine or the one that `make` put into .venv."""

import shutil
import sys
from pathlib import Path

import anyio
import pytest

ROOT = Path(__file__).resolve().parents[2]


def node() -> str:
    """The path of Node.js. Skips the test where there is none, or where the page's packages are not installed."""
    found = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("there is no Node.js: `make page` puts one into .venv")
    if not (ROOT / "web" / "node_modules").is_dir():
        pytest.skip("the page's packages are not installed: run `make page`")
    return found


async def run_script(name: str, *arguments: str) -> str:
    """Run a script of tests/support/clients and give what it printed. Raises CalledProcessError with its errors."""
    done = await anyio.run_process(
        [node(), str(ROOT / "tests" / "support" / "clients" / name), *arguments], stderr=None
    )
    return done.stdout.decode()
