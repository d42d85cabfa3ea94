"""`ollagraph doctor` and `ollagraph inspect`, on what is well and on what is broken."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import orjson
import pytest
from anyio import to_thread

from tests.support.databases import on_postgresql
from tests.support.fake_model_server import FakeModelServer
from tests.support.processes import ROOT
from tests.support.valkeys import ValkeyServer
from tests.test_cli import data_dir, run_here

__all__ = ["data_dir"]

SOMETHING_MISSING = {"EMBEDDED_MODEL": "/nowhere/model.gguf", "EMBEDDED": "true"}


def findings(data_dir: Path, *options: str, **settings: str) -> dict[str, list[tuple[str, str]]]:
    """Run the doctor; give state and message of each finding, by what was checked."""
    result = run_here(data_dir, "doctor", "--json", *options, **settings)
    told: Any = orjson.loads(result.stdout)
    found: dict[str, list[tuple[str, str]]] = {}
    for each in told["checks"]:
        found.setdefault(each["check"], []).append((each["state"], each["message"]))
        assert (each["state"] == "ok") == (each["advice"] is None)
    assert result.exit_code == (told["state"] == "fail")
    return found


async def test_a_gateway_that_can_work_has_no_failure(data_dir: Path, fake: FakeModelServer, valkey: ValkeyServer):
    settings = {"OLLAMA_URL": fake.url, "REDIS_URL": valkey.url}
    await to_thread.run_sync(partial(run_here, data_dir, "create-user", "ada", "--admin"))
    found = await to_thread.run_sync(partial(findings, data_dir, "--thorough", **settings))
    assert {state for told in found.values() for state, _ in told} <= {"ok", "warn"}
    assert found["integrity"] == [("ok", "the file is whole")]
    assert found["backend ollama"][0][1].startswith(f"{len(fake.models)} models")
    assert found["clock"] == [("ok", f"Valkey at 127.0.0.1:{valkey.port} agrees")]


def test_mistakes_in_the_settings_are_all_told(data_dir: Path):
    found = findings(data_dir, PORT="abc", LEASE_TIME="-1", FOO="1")
    assert [message.partition(":")[0] for state, message in found["settings"] if state == "fail"] == [
        "OLLAGRAPH_PORT",
        "OLLAGRAPH_LEASE_TIME",
    ]


def test_nothing_is_made_where_nothing_is(tmp_path: Path):
    folder = tmp_path / "nothing"
    folder.mkdir()
    shutil.rmtree(folder)
    run_in = tmp_path / "data"
    run_in.mkdir()
    found = findings(run_in, DATA_DIR=str(folder))
    assert (found["data folder"][0][0], found["database"]) == ("warn", [("warn", "there is none yet")])
    assert not folder.exists()


def test_what_cannot_be_reached_is_told_beside_what_can(data_dir: Path):
    found = findings(data_dir, REDIS_URL="redis://127.0.0.1:1", OLLAMA_URL="http://127.0.0.1:1", **SOMETHING_MISSING)
    assert found["valkey"][0][0] == "fail"
    assert found["backends"][0][0] == "fail"
    assert found["database"][0][0] == "ok"
    assert findings(data_dir, OLLAMA_URL="http://127.0.0.1:1")["backend ollama"][0][0] == "fail"


def test_a_data_folder_that_others_can_read_and_damage_are_told(data_dir: Path):
    run_here(data_dir, "migrate")
    data_dir.chmod(0o755)
    (data_dir / "secret.key").write_text("half of one")
    (data_dir / "secret.key").chmod(0o644)
    (data_dir / "usage-0.notes").touch()
    with closing(sqlite3.connect(data_dir / "ollagraph.db")) as database, database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("INSERT INTO refresh_tokens (secret_hash, session_id, created_at) VALUES ('x', 'nobody', 0)")
    found = findings(data_dir, "--thorough")
    assert [state for state, _ in found["data folder"]] == ["warn", "warn"]
    assert found["secret"][0][0] == "fail"
    assert found["leftovers"][0] == ("warn", "a gateway was killed here: 1 notes of what its generations used")
    assert found["integrity"] == [("fail", "a row of refresh_tokens refers to a missing row of sessions")]


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "migrations", "made by a newer version of Ollagraph"),
        ("UPDATE alembic_version SET version_num = '0019'", "migrations", "the tables are at 0019, and this version"),
        ("DROP TABLE users", "migrations", "holds tables of another program"),
    ],
)
def test_a_database_of_another_version_is_told(data_dir: Path, change: str, check: str, said: str):
    run_here(data_dir, "migrate")
    with closing(sqlite3.connect(data_dir / "ollagraph.db")) as database, database:
        database.execute(change)
    assert said in findings(data_dir)[check][0][1]


async def test_a_valkey_that_refuses_writes_is_told(data_dir: Path, own_valkey: ValkeyServer):
    async with own_valkey.client() as client:
        await client.config_set("min-replicas-to-write", 1)
        await client.config_set("maxmemory-policy", "allkeys-lru")
    found = await to_thread.run_sync(partial(findings, data_dir, REDIS_URL=own_valkey.url))
    assert found["valkey"][0][0] == "fail"
    assert "takes no writes" in found["valkey"][0][1]


@on_postgresql
def test_postgresql_tells_its_clock_its_connections_and_its_sizes(data_dir: Path, database_url: str):
    found = findings(data_dir, DATABASE_URL=database_url)
    assert found["clock"] == [("ok", "the database's server agrees")]
    assert found["connections"][0][0] == "ok"
    too_many = findings(data_dir, DATABASE_URL=database_url, DATABASE_POOL_SIZE="500", WORKERS="2")
    assert too_many["connections"][0][0] == "fail"
    shown: Any = orjson.loads(run_here(data_dir, "inspect", "--json", DATABASE_URL=database_url).stdout)
    tables = {table["name"]: table for table in shown["tables"]}
    assert tables["users"]["bytes"] > 0
    assert {index["unused"] for index in tables["usage"]["indexes"]} <= {True, False}


@on_postgresql
@pytest.mark.parametrize(
    ("says", "told"),
    [
        (None, "pg_dump is not installed"),
        ("pg_dump (PostgreSQL) 9.6.1", "pg_dump is of version 9, and the server of"),
        ("pg_dump (PostgreSQL) 99.1 (Debian 99.1-1)", None),
    ],
)
def test_a_pg_dump_that_could_make_no_backup_is_told_before_one_is_wanted(
    data_dir: Path,
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    says: str | None,
    told: str | None,
):
    monkeypatch.setenv("PATH", str(tmp_path))
    if says is not None:
        (tmp_path / "pg_dump").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "pg_dump").chmod(0o755)
    found = findings(data_dir, DATABASE_URL=database_url).get("backups", [])
    assert [state for state, _ in found] == ([] if told is None else ["warn"])
    assert told is None or told in found[0][1]


def test_tables_are_shown_with_rows_sizes_and_indexes(data_dir: Path):
    run_here(data_dir, "create-user", "ada")
    lines = run_here(data_dir, "inspect").stdout.splitlines()
    [users] = [line.split() for line in lines if line.startswith("users ")]
    assert users[1] == "1"
    assert "ix_usage_user_id_at" in run_here(data_dir, "inspect", "usage").stdout
    assert run_here(data_dir, "inspect", "nothing").stderr.startswith("Error: There is no table 'nothing'")


def test_few_open_files_are_told():
    code = "from server.care.machine import check_open_files; print(check_open_files().line())"
    limited = ["sh", "-c", 'ulimit -Sn 1000; ulimit -Hn 1000; exec "$0" -c "$1"', sys.executable, code]
    said = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith("warn  open files: a process may open 1,000,")


def test_a_library_that_cannot_be_loaded_is_told(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    missing = "libgomp.so.1: cannot open shared object file"
    (tmp_path / "xllamacpp.py").write_text(f"raise ImportError('{missing}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = findings(data_dir, EMBEDDED="true")
    assert found["backend embedded"] == [("fail", f"its library cannot be loaded: ImportError: {missing}")]


def test_a_library_that_can_be_loaded_is_no_failure(data_dir: Path):
    assert [state for state, _ in findings(data_dir, EMBEDDED="true")["backend embedded"]] == ["ok"]


async def answer_as_redis_6(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak as much of the protocol as the doctor asks for."""
    answers = {
        b"INFO": b"$22\r\nredis_version:6.2.14\r\n\r\n",
        b"TIME": b"*2\r\n$%d\r\n%d\r\n$1\r\n0\r\n" % (len(str(int(time()))), int(time())),
    }
    with suppress(asyncio.IncompleteReadError), closing(writer):
        while count := int((await reader.readuntil(b"\r\n"))[1:]):
            words = [await reader.readexactly(int((await reader.readuntil(b"\r\n"))[1:]) + 2) for _ in range(count)]
            writer.write(answers.get(words[0].strip().upper(), b"+OK\r\n"))


async def test_an_old_redis_is_told(data_dir: Path):
    async with await asyncio.start_server(answer_as_redis_6, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await to_thread.run_sync(partial(findings, data_dir, REDIS_URL=f"redis://127.0.0.1:{port}"))
    assert ("warn", f"127.0.0.1:{port} is too old: version 6.2.14") in found["valkey"]
