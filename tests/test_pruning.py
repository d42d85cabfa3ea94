"""`ollagraph prune` and `ollagraph rotate-secret`."""

import os
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from anyio import to_thread

from db.engine import Database
from gateway.care import Ages, Kind, Pruning
from server.care.cli import AGED, KINDS
from tests.support.processes import run_command, serving
from tests.test_cli import data_dir, run_here

__all__ = ["data_dir"]

LONG_AGO = "2020-01-01 00:00:00.000000"


def rows(data_dir: Path, *options: str) -> dict[str, int]:
    told: Any = orjson.loads(run_here(data_dir, "prune", "--json", *options).stdout)
    return {kind: number for kind, number in told["rows"].items() if number}


def execute(data_dir: Path, *statements: str) -> None:
    with closing(sqlite3.connect(data_dir / "ollagraph.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def test_the_options_are_those_of_the_gateway():
    assert set(KINDS) == {kind.value for kind in Kind}
    assert [kind for kind in KINDS if kind in AGED] == list(AGED)


async def test_every_kind_can_be_counted_and_removed_on_both_databases(database: Database):
    pruning = Pruning(database, Ages(60, 60, 200_000, 60))
    assert [it.rows async for it in pruning.count(list(Kind))] == [0] * len(Kind)
    assert [it.rows async for it in pruning.remove(list(Kind))] == [0] * len(Kind)


def test_what_is_old_is_counted_and_then_removed(data_dir: Path):
    run_here(data_dir, "create-user", "ada")
    execute(
        data_dir,
        "INSERT INTO audit_events (id, at, method, action, outcome, count) "
        f"VALUES ('{'0' * 32}', '{LONG_AGO}', 'CLI', 'x', 'SUCCESS', 1)",
        "INSERT INTO sessions (id, user_id, created_at, expires_at, last_used_at, provider, client, address) "
        f"SELECT '{'1' * 32}', id, '{LONG_AGO}', '{LONG_AGO}', '{LONG_AGO}', 'password', '', '' FROM users",
    )
    assert rows(data_dir, "--dry-run") == {"sessions": 1}
    assert rows(data_dir) == {"sessions": 1}
    assert rows(data_dir) == {}
    assert rows(data_dir, "--only", "audit", "--older-than", "30") == {"audit": 1}
    refused = run_here(data_dir, "prune", "--older-than", "30", "--only", "sessions")
    assert (refused.exit_code, "--older-than needs --only with text, audit, usage" in refused.stderr) == (2, True)


@pytest.mark.parametrize("at_once", [False, True])
async def test_tokens_of_the_old_secret_are_taken_until_they_expire(data_dir: Path, at_once: bool):
    settings = {"ADMIN_PASSWORD": "a password of mine"}
    async with serving(data_dir, **settings) as served:
        token = await served.sign_in("a password of mine")
        await served.stop()
    before = (data_dir / "secret.key").read_text()
    options = ["--yes", *(["--now"] if at_once else [])]
    done = await to_thread.run_sync(partial(run_command, data_dir, "rotate-secret", *options))
    assert done.returncode == 0, done.stderr
    assert (data_dir / "secret.key").read_text() != before
    assert (data_dir / "secret.key").stat().st_mode & 0o777 == 0o600
    async with serving(data_dir, **settings) as served:
        query = "{ me { username } }"
        if at_once:
            with pytest.raises(AssertionError, match="INVALID_TOKEN"):
                await served.run(query, token)
            return
        assert await served.run(query, token) == {"me": {"username": "admin"}}
        await served.stop()
    former = data_dir / "secret.key.former"
    os.utime(former, (time.time() - 1_000, time.time() - 1_000))
    async with serving(data_dir, **settings) as served:
        with pytest.raises(AssertionError, match="INVALID_TOKEN"):
            await served.run(query, token)


def test_a_secret_in_the_settings_is_not_changed(data_dir: Path):
    refused = run_here(data_dir, "rotate-secret", "--yes", SECRET_KEY="k" * 40)
    assert (refused.exit_code, "is in your settings" in refused.stderr) == (1, True)
