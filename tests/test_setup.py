"""What the gateway makes for itself before it serves, and where it leaves it."""

import os
import stat
from pathlib import Path

import anyio
import pytest

from auth.passwords import PasswordHasher
from auth.signing_keys import TokenKeys
from db.engine import Database
from db.migrations import upgrade
from server.first_start import ensure_admin, make_identity, signing_secret
from server.settings import SECRET_FILE, SettingsError, prepare_data_dir
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.processes import run_command, serving


def settings_in(data_dir: Path, **others: object):
    return gateway_settings(data_dir, f"sqlite:///{data_dir / 'ollagraph.db'}", None, **others)


def modes(folder: Path, pattern: str) -> dict[str, int]:
    return {path.name: mode(path) for path in folder.glob(pattern)}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_data_folder_is_its_owners_only(tmp_path: Path):
    prepare_data_dir(settings_in(tmp_path / "new" / "data"))
    assert mode(tmp_path / "new" / "data") == 0o700


async def test_a_data_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(
        SettingsError, match=r"cannot be made or read \(Not a directory\)\. Set OLLAGRAPH_DATA_DIR to another\."
    ):
        prepare_data_dir(settings_in(tmp_path / "file" / "data"))


def test_a_data_folder_that_is_open_to_others_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in (SECRET_FILE, "ollagraph.db", "ollagraph.db-wal"):
        (tmp_path / name).touch(0o644)
    tmp_path.chmod(0o755)
    prepare_data_dir(settings_in(tmp_path))
    assert {mode(tmp_path), *(mode(path) for path in tmp_path.iterdir())} == {0o700, 0o600}
    assert "was open to others; now it is not" in caplog.text


def test_a_folder_that_is_not_ours_alone_is_left_and_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "song.mp3").touch()
    tmp_path.chmod(0o755)
    prepare_data_dir(settings_in(tmp_path))
    assert mode(tmp_path) == 0o755
    assert "is open to others: chmod 700" in caplog.text


@pytest.mark.parametrize("name", ["a?b", "100%", "a%20b", "a#b", "a b", "ä", "a&b=c"])
def test_the_database_is_in_the_data_folder_whatever_its_name(tmp_path: Path, name: str):
    data_dir = tmp_path / name
    result = run_command(data_dir, "create-user", "ada", NEW_PASSWORD="a password of mine")
    assert result.stdout == f"Made the user ada with the role developer in the database {data_dir / 'ollagraph.db'}.\n"
    assert (data_dir / "ollagraph.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


async def test_every_file_is_its_owners_only(tmp_path: Path):
    data_dir = tmp_path / "home" / "data"
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    before = os.umask(0o022)
    try:
        async with serving(data_dir, DATABASE_URL=url) as served:
            await served.sign_in("wrong password")
            found = modes(data_dir, "*") | modes(tmp_path, "elsewhere.db*")
            [notes] = data_dir.glob("usage-*.notes")
    finally:
        os.umask(before)
    assert found == dict.fromkeys(
        [SECRET_FILE, notes.name, "elsewhere.db", "elsewhere.db-wal", "elsewhere.db-shm"], 0o600
    )


async def test_the_secret_is_its_owners_only(tmp_path: Path):
    signing_secret(settings_in(tmp_path))
    assert mode(tmp_path / SECRET_FILE) == 0o600


async def test_the_secret_stays_the_same(tmp_path: Path):
    settings = settings_in(tmp_path)
    assert signing_secret(settings) == signing_secret(settings)


async def test_every_data_folder_has_a_secret_of_its_own(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert signing_secret(settings_in(tmp_path / "a")) != signing_secret(settings_in(tmp_path / "b"))


async def test_a_given_secret_is_taken_and_none_is_kept(tmp_path: Path):
    assert signing_secret(settings_in(tmp_path, secret_key="k" * 32)) == "k" * 32
    assert not (tmp_path / SECRET_FILE).exists()


async def test_a_damaged_secret_is_refused(tmp_path: Path):
    (tmp_path / SECRET_FILE).write_text("0123")
    with pytest.raises(SettingsError, match="is damaged"):
        signing_secret(settings_in(tmp_path))


async def test_a_secret_that_cannot_be_read_is_told_in_a_sentence(tmp_path: Path):
    (tmp_path / SECRET_FILE).mkdir()
    with pytest.raises(SettingsError, match=r"cannot be made or read \(Is a directory\)"):
        signing_secret(settings_in(tmp_path))


@pytest.mark.parametrize("given", [None, "a password of mine"])
async def test_the_first_administrator_is_made_once(tmp_path: Path, given: str | None):
    settings = settings_in(tmp_path, admin_password=given, admin_username="Ada")
    database = Database(settings.database)
    try:
        await upgrade(database)
        identity = make_identity(settings, database, TokenKeys(signing_secret(settings)))
        made_up = await ensure_admin(settings, identity)
        assert await ensure_admin(settings, identity) is None
        assert (made_up is None) == (given is not None)
        assert (await identity.sign_ins.sign_in("ada", made_up or given or "")).user.role == "admin"
    finally:
        await database.close()


async def test_of_two_gateways_started_at_once_one_makes_the_administrator(tmp_path: Path, database_url: str):
    passwords: list[str | None] = []

    async def start(name: str) -> None:
        settings = gateway_settings(tmp_path / name, database_url, None, admin_password=None)
        prepare_data_dir(settings)
        database = Database(settings.database)
        try:
            passwords.append(
                await ensure_admin(settings, make_identity(settings, database, TokenKeys(signing_secret(settings))))
            )
        finally:
            await database.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start, "one")
        tasks.start_soon(start, "other")
    assert [password is None for password in passwords].count(True) == 1


async def test_the_administrators_password_is_kept_as_a_hash_only(gateway: RunningGateway):
    async with gateway.database.reading() as session:
        connection = await session.connection()
        (row,) = await connection.exec_driver_sql("SELECT password_hash FROM users")
    assert (await PasswordHasher().verify(gateway.admin_password, row[0])).ok
    assert gateway.admin_password not in row[0]


async def test_a_token_holds_over_a_restart(tmp_path: Path, fake: FakeModelServer):
    settings = settings_in(tmp_path, ollama_url=fake.url)
    async with running_gateway(settings, fake) as gateway:
        token = gateway.token
    async with running_gateway(settings, fake) as gateway:
        gateway.token = token
        assert await gateway.run("{ me { username } }") == {"me": {"username": "admin"}}


async def test_all_that_is_written_is_in_the_data_folder(tmp_path: Path):
    home = tmp_path / "somewhere"
    home.mkdir()
    data_dir = home / "data"
    run_command(data_dir, "create-user", "ada")
    async with serving(data_dir) as served:
        await served.sign_in("wrong password", "ada")
        await served.stop()
    (home / "data.log").unlink()  # the test's own
    assert [path.name for path in home.iterdir()] == ["data"]
    assert {path.name for path in data_dir.iterdir()} == {"ollagraph.db", SECRET_FILE}
