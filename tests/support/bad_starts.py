"""Starts of the command line that must fail: what they are given, and what they must say."""

import sqlite3
import subprocess
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import copy_database, run_command

HEMLIG = "hemlig-hemlig"
"""A secret that stands in settings and must stand nowhere else."""


@dataclass
class Scene:
    """The folder of a start, and what it is given."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict[str, str])
    largest_file: int | None = None
    obeys_permissions: bool = False
    held: ExitStack = field(default_factory=ExitStack)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        return self.data_dir / "ollagraph.db"

    def migrate(self) -> None:
        """Have a database as this version makes it."""
        copy_database(self.data_dir)

    def statements(self, *statements: str) -> None:
        """Run statements on the SQLite database in the data folder."""
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        with closing(sqlite3.connect(self.database)) as database, database:
            for statement in statements:
                database.execute(statement)

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(content)
        return path

    def start(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_command(
            self.data_dir,
            *(arguments or ("serve",)),
            largest_file=self.largest_file,
            obeys_permissions=self.obeys_permissions,
            **self.settings,
        )


def assert_one_sentence(result: "subprocess.CompletedProcess[str]", said: str) -> None:
    assert result.returncode == 1, result
    assert "Traceback" not in result.stderr + result.stdout, result.stderr
    assert HEMLIG not in result.stderr + result.stdout
    assert result.stderr.startswith(f"Error: {said}"), result.stderr
    assert len(result.stderr.splitlines()) == 1
