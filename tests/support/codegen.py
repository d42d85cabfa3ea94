"""An environment of its own for ariadne-codegen, which wants an older graphql-core than the gateway.

It is made once for each version of requirements-codegen.lock, under `.make/`, and used by later runs.
"""

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.node import ROOT

LOCK = ROOT / "requirements-codegen.lock"
OPERATIONS = ROOT / "tests" / "support" / "clients" / "ariadne.graphql"


def codegen_python() -> Path:
    """Give the environment's Python. Skips the test where the environment cannot be made, as without a network."""
    folder = ROOT / ".make" / f"codegen-{sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        install = ["pip", "install", "--python", str(python), "--no-deps", "--require-hashes", "-r", str(LOCK)]
        for command in (["venv", "--python", sys.executable, str(folder)], install):
            done = subprocess.run(
                [sys.executable, "-m", "uv", "--quiet", "--no-config", *command],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"the environment of ariadne-codegen cannot be made: {done.stderr.strip()}")
        (folder / "whole").touch()
    return python


def generate_client(python: Path, folder: Path) -> None:
    """Make the package `graphql_client` in a folder, out of the schema and the operations."""
    (folder / "pyproject.toml").write_text(
        f'[tool.ariadne-codegen]\nschema_path = "{ROOT / "schema.graphql"}"\nqueries_path = "{OPERATIONS}"\n'
    )
    command = [str(python.with_name("ariadne-codegen"))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
