"""Migrations give exactly the tables of db/tables/, on both databases, from anywhere, and however often."""

import subprocess
import sys
from contextlib import chdir, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import CommandLine, Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, select, text

import alembic
from db import migrations, revisions
from db.clock import new_id, now
from db.engine import Database
from db.tables import Generation, Table, Transcript, UsageRecord, User
from tests.support.processes import run_command

PROJECT = Path(__file__).parent.parent

ADA = "INSERT INTO users (id, username, password_hash, created_at) VALUES ('u', 'ada', '!', '2026-02-03')"
HER_KEY = (
    "INSERT INTO api_keys (id, user_id, name, prefix, secret_hash, scopes, created_at) "
    "VALUES ('k', 'u', 'laptop', 'olg_', '0', '[]', '2026-02-03')"
)


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return compare_metadata(context, Table.metadata)


async def inspected(database: Database, what: Any) -> Any:
    async with database.reading() as session:
        return await (await session.connection()).run_sync(what)


async def tables(database: Database) -> set[str]:
    return set(await inspected(database, lambda connection: inspect(connection).get_table_names()))


async def test_the_migrations_give_exactly_the_tables_of_the_models(database: Database) -> None:
    assert await inspected(database, differences) == []


async def test_a_difference_between_migrations_and_models_is_found(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("DROP INDEX ix_usage_user_id_at"))
    assert [found[0] for found in await inspected(database, differences)] == ["add_index"]


async def test_a_reference_has_the_same_name_and_the_same_end_as_in_the_models(database: Database) -> None:
    """Alembic compares neither on SQLite."""

    def references(connection: Connection) -> set[tuple[str | None, str]]:
        inspector = inspect(connection)
        return {
            (key["name"], key["options"]["ondelete"])
            for table in Table.metadata.tables
            for key in inspector.get_foreign_keys(table)
        }

    assert await inspected(database, references) == {
        (key.name, key.ondelete) for table in Table.metadata.tables.values() for key in table.foreign_key_constraints
    }


async def test_a_migrated_database_is_at_the_head(database: Database) -> None:
    assert await migrations.current_revision(database) == migrations.head_revision()


async def test_a_database_that_was_never_migrated_has_no_revision(unmigrated_url: str) -> None:
    database = Database(unmigrated_url)
    assert await migrations.current_revision(database) is None
    await database.close()


async def test_upgrading_again_changes_nothing(database: Database) -> None:
    async with database.transaction() as tx:
        tx.add(User(username="ada", password_hash="!"))
    await migrations.upgrade(database)
    async with database.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM users")) == 1


async def test_all_migrations_can_be_undone_and_done_again(database: Database) -> None:
    await migrations.downgrade(database, "base")
    assert await tables(database) == {"alembic_version"}
    await migrations.upgrade(database)
    assert await inspected(database, differences) == []


async def test_cancellations_of_older_gateways_get_a_reason_and_keep_it_on_the_way_back(database: Database) -> None:
    async def columns(*names: str) -> list[tuple[str | None, ...]]:
        async with database.reading() as session:
            rows = await session.execute(text(f"SELECT {', '.join(names)} FROM generations ORDER BY state"))
            return [tuple(row) for row in rows]

    await migrations.downgrade(database, "0005")
    async with database.transaction() as tx:
        await tx.execute(
            text(
                "INSERT INTO users (id, username, password_hash, is_admin, created_at) VALUES "
                "('00000000000000000000000000000001', 'ada', '!', false, '2026-02-03')"
            )
        )
        for number, (state, reason) in enumerate([("CANCELLED", "cancelled"), ("COMPLETED", "stop"), ("FAILED", None)]):
            begun = "'2026-02-03'" if number == 1 else "NULL"
            await tx.execute(
                text(
                    "INSERT INTO generations (id, user_id, model, backend, state, on_disconnect, finish_reason, "
                    "created_at, finished_at, started_at, prompt_tokens, completion_tokens, usage_source) "
                    "VALUES (:id, '00000000000000000000000000000001', 'm', 'ollama', :state, 'CANCEL', "
                    f":reason, '2026-02-03', '2026-02-03', {begun}, 3, 7, 'BACKEND')"
                ),
                {"id": f"{number:032}", "state": state, "reason": reason},
            )
    await migrations.upgrade(database)
    assert await columns("finish_reason", "cancel_reason") == [(None, "REQUESTED"), ("stop", None), (None, None)]
    async with database.reading() as session:
        attempts = await session.execute(text("SELECT number, backend, completion_tokens FROM generation_attempts"))
        assert [tuple(row) for row in attempts] == [(1, "ollama", 7)]
    await migrations.downgrade(database, "0005")
    assert await columns("finish_reason") == [("cancelled",), ("stop",), (None,)]
    await migrations.upgrade(database)


async def test_generations_and_usage_of_before_there_were_tags_are_kept(database: Database) -> None:
    user, generation = User(username="ada", password_hash="!"), new_id()
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        made = {"user_id": user.id, "model": "m"}
        tx.add(Generation(id=generation, backend="b", state="QUEUED", on_disconnect="CANCEL", tags={"a": "b"}, **made))
        used = {"prompt_tokens": 1, "completion_tokens": 1, "source": "BACKEND", "at": now()}
        tx.add(UsageRecord(generation_id=generation, end_user="eve", **made, **used))
    await migrations.downgrade(database, "0005")
    await migrations.upgrade(database)
    async with database.reading() as session:
        kept, record = await session.get(Generation, generation), await session.get(UsageRecord, generation)
        assert kept is not None
        assert record is not None
        assert (kept.tags, kept.end_user, record.tags, record.end_user) == (None,) * 4
        assert (kept.content_policy, record.cost_nano) == ("ALL", None)


async def test_answers_of_before_prompts_were_kept_stay_and_do_so_on_the_way_back(database: Database) -> None:
    user, generations = User(username="ada", password_hash="!"), [new_id(), new_id()]
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        made = {"user_id": user.id, "model": "m", "backend": "b", "state": "RUNNING", "on_disconnect": "CANCEL"}
        tx.add_all(Generation(id=id, **made) for id in generations)
        await tx.flush()
        tx.add(Transcript(generation_id=generations[0], events=b"answer", expires_at=now()))

    async def kept() -> list[tuple[bytes | None, bool, bytes | None]]:
        async with database.reading() as session:
            rows = await session.scalars(select(Transcript).order_by(Transcript.generation_id))
            return [(row.events, row.expires_at is None, row.request) for row in rows]

    await migrations.downgrade(database, "0009")
    await migrations.upgrade(database)
    assert await kept() == [(b"answer", False, None)]
    async with database.transaction() as tx:
        tx.add(Transcript(generation_id=generations[1], request=b"question"))
    assert await kept() == [(b"answer", False, None), (None, True, b"question")]
    await migrations.downgrade(database, "0009")
    await migrations.upgrade(database)
    assert await kept() == [(b"answer", False, None)]


async def test_several_processes_may_upgrade_a_new_database_at_once(unmigrated_url: str, tmp_path: Path) -> None:
    migrate = partial(run_command, tmp_path / "data", "migrate", DATABASE_URL=unmigrated_url)

    async def run() -> None:
        assert (await anyio.to_thread.run_sync(migrate)).returncode == 0

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(run)
    database = Database(unmigrated_url)
    assert await migrations.current_revision(database) == migrations.head_revision()
    await database.close()


async def test_a_migration_that_fails_leaves_nothing_behind(unmigrated_url: str) -> None:
    database = Database(unmigrated_url)

    async def fail() -> None:
        async with database.migrating() as connection:
            await connection.execute(text("CREATE TABLE half (id INTEGER PRIMARY KEY)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await tables(database) == set()
    await database.close()


async def test_a_migration_may_replace_a_table_that_others_refer_to(sqlite_url: str) -> None:
    """As Alembic does on SQLite; with foreign keys on it would delete the keys of all users."""
    database = Database(sqlite_url)
    async with database.transaction() as tx:
        await tx.execute(text(ADA))
        await tx.execute(text(HER_KEY))
    async with database.migrating() as connection:
        await connection.execute(text("CREATE TABLE new_users AS SELECT * FROM users"))
        await connection.execute(text("DROP TABLE users"))
        await connection.execute(text("ALTER TABLE new_users RENAME TO users"))
        await connection.execute(text("CREATE UNIQUE INDEX users_id ON users (id)"))
    async with database.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM api_keys")) == 1
    await database.close()


async def test_a_migration_that_leaves_a_reference_to_nothing_is_undone(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    async with database.transaction() as tx:
        await tx.execute(text(ADA))
        await tx.execute(text(HER_KEY))
    with pytest.raises(RuntimeError, match="left rows in 'api_keys' that refer to missing rows in 'users'"):
        async with database.migrating() as connection:
            await connection.execute(text("DELETE FROM users"))
    async with database.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM users")) == 1
    await database.close()


async def test_a_revision_that_nobody_knows_is_refused(database: Database) -> None:
    with pytest.raises(CommandError, match="9999"):
        await migrations.upgrade(database, "9999")


async def test_migrations_are_found_from_another_working_directory(
    unmigrated_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    await migrations.upgrade(unmigrated_url)


async def test_missing_migrations_are_told_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an installed copy the folder called alembic beside db is the library."""
    monkeypatch.setattr(revisions, "PLACES", (Path(alembic.__file__).parent,))
    with pytest.raises(migrations.MigrationsMissing, match="has no migrations"):
        migrations.head_revision()


def test_the_files_are_named_after_their_revisions_in_their_order() -> None:
    """The gateway reads the names instead of asking Alembic."""
    scripts = ScriptDirectory(PROJECT / "alembic")
    assert revisions.known_revisions() == [script.revision for script in scripts.walk_revisions()][::-1]
    assert [revisions.head_revision()] == scripts.get_heads()


def test_a_start_loads_nothing_before_it_is_needed() -> None:
    loaded = "import server.serve, sys; assert {'alembic.command', 'redis.asyncio', 'zxcvbn'}.isdisjoint(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", loaded],
        cwd=PROJECT,
        check=True,
    )


def test_the_folder_alembic_does_not_hide_the_library() -> None:
    assert Path(alembic.__file__).parent != PROJECT / "alembic"
    found = subprocess.run(
        [sys.executable, "-c", "import alembic; print(alembic.__version__)"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == alembic.__version__


def alembic_here(*arguments: str) -> str:
    """Run a command of Alembic in this process, which spares a start, and give what it printed."""
    printed = StringIO()
    parser = CommandLine()
    with chdir(PROJECT), redirect_stdout(printed):
        options = parser.parser.parse_args(arguments)
        parser.run_cmd(Config(toml_file="pyproject.toml", cmd_opts=options, stdout=printed), options)
    return printed.getvalue()


def test_the_migrations_run_from_the_command_line_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'cli.db'}"
    subprocess.run(
        [sys.executable, "-m", "alembic", "-x", f"url={url}", "upgrade", "head"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    assert alembic_here("-x", f"url={url}", "check") == "No new upgrade operations detected.\n"


@pytest.mark.parametrize("url", ["sqlite:///never-made.db", "postgresql://user@localhost/never-asked"])
def test_the_migrations_can_be_written_out_as_sql(url: str) -> None:
    assert "CREATE TABLE users" in alembic_here("-x", f"url={url}", "upgrade", "head", "--sql")


def test_the_command_line_asks_for_the_url(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        alembic_here("upgrade", "head")
    assert "Give the database: alembic -x url=" in caplog.text


async def test_the_ledger_learns_where_and_how_its_generations_ended(database: Database) -> None:
    """Also of one whose generation is not there, and back again."""
    user = uuid4().hex
    await migrations.downgrade(database, "0008-1")
    async with database.transaction() as tx:
        is_admin, at = ("0", "2026-02-03 23:30:00.000000")
        if database.dialect == "postgresql":
            is_admin, at = ("false", "2026-02-03 23:30:00+00")
        await tx.execute(
            text(
                "INSERT INTO users (id, username, password_hash, is_admin, created_at) "
                f"VALUES ('{user}', 'ada', '!', {is_admin}, '2026-02-03')"
            )
        )
        for number, state, reason in ((1, "CANCELLED", "NULL"), (2, "COMPLETED", "'length'"), (3, None, None)):
            key = f"{number:032x}"
            if state is not None:
                await tx.execute(
                    text(
                        "INSERT INTO generations "
                        "(id, user_id, api_key_id, model, backend, state, finish_reason, on_disconnect, created_at) "
                        f"VALUES ('{key}', '{user}', NULL, 'm', 'openai', '{state}', {reason}, 'CANCEL', '2026-02-03')"
                    )
                )
            await tx.execute(
                text(
                    "INSERT INTO usage "
                    "(generation_id, user_id, model, prompt_tokens, completion_tokens, source, at, day) "
                    f"VALUES ('{key}', '{user}', 'm', 1, 1, 'BACKEND', '{at}', '2026-02-03')"
                )
            )
    await migrations.upgrade(database)
    told = "SELECT backend, state, finish_reason FROM usage ORDER BY generation_id"
    async with database.reading() as session:
        rows = [tuple(row) for row in await session.execute(text(told))]
    assert rows == [
        ("openai", "CANCELLED", None),
        ("openai", "COMPLETED", "length"),
        ("unknown", "COMPLETED", None),
    ]
    await migrations.downgrade(database, "0008-1")
    async with database.reading() as session:
        days = await session.scalars(text("SELECT DISTINCT CAST(day AS varchar) FROM usage"))
        assert list(days) == ["2026-02-03"]


async def test_the_ledger_learns_how_long_its_generations_took_and_outlives_keys(database: Database) -> None:
    user, generation, key = User(username="ada", password_hash="!"), new_id(), new_id()
    ended = {"model": "m", "backend": "b", "state": "FAILED"}
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        told = {"error_code": "TIMEOUT", "queued_ms": 1, "time_to_first_token_ms": 2, "total_ms": 3}
        tx.add(Generation(id=generation, user_id=user.id, on_disconnect="CANCEL", **ended, **told))
        counts = {"prompt_tokens": 1, "completion_tokens": 1, "source": "BACKEND", "at": now()}
        tx.add(
            UsageRecord(generation_id=generation, user_id=user.id, api_key_id=key, rolled_up=True, **ended, **counts)
        )
    await migrations.downgrade(database, "0016")
    await migrations.upgrade(database)
    async with database.reading() as session:
        row = await session.get(UsageRecord, generation)
    assert row is not None
    assert (row.error_code, row.queued_ms, row.time_to_first_token_ms, row.total_ms) == ("TIMEOUT", 1, 2, 3)
    assert (row.api_key_id, row.rolled_up) == (None, False)
