"""The example pages: each is a project of its own, built by its own npm, and served on a site of its own."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import pytest

from tests.support.node import ROOT, node


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


async def npm(name: str, *arguments: str) -> None:
    """Run a command of the example of this name. Skips the test where that cannot be."""
    folder = ROOT / "examples" / name
    command = shutil.which("npm", path=f"{Path(node()).parent}:{ROOT / '.venv' / 'bin'}") or shutil.which("npm")
    if command is None or not (folder / "node_modules").is_dir():
        pytest.skip(f"the packages of the example are not installed: run `make .make/{name}`")
    done = await anyio.run_process([command, "run", *arguments], cwd=folder, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


async def check_types(name: str) -> None:
    """Check the types of an example that was built: the second half of its `npm run check`; building did the first."""
    folder = ROOT / "examples" / name
    done = await anyio.run_process([node(), str(folder / "node_modules/.bin/tsc"), "--noEmit"], cwd=folder, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


async def build(name: str, folder: Path) -> Path:
    """Build an example into a folder, and give the folder."""
    await npm(name, "build", "--", "--outDir", str(folder), "--logLevel", "error")
    return folder


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a built example: its origin, which is not the gateway's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def loose_packages(name: str) -> list[str]:
    """List what is wrong with an example's packages: versions that are not exact, and hosts in the lock file."""
    manifest = json.loads((ROOT / "examples" / name / "package.json").read_text())
    asked = manifest["dependencies"] | manifest["devDependencies"]
    packages = json.loads((ROOT / "examples" / name / "package-lock.json").read_text())["packages"]
    del packages[""]
    return [it for it, version in asked.items() if packages[f"node_modules/{it}"]["version"] != version] + [
        path for path, it in packages.items() if "integrity" not in it or "://" in it.get("resolved", "")
    ]
