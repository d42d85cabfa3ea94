"""The command line, as real processes."""

import re
import signal
import socket
import sqlite3
from contextlib import chdir, closing
from pathlib import Path

import anyio
import click
import pytest
from click.testing import CliRunner, Result

from auth.api_keys import is_well_formed
from server.cli import main
from tests.support.processes import ROOT, copy_database, environment, run_command, serving

VISIBLE = [name for name, command in main.commands.items() if not command.hidden]
COMMANDS = sorted(main.commands)
SECRET_IN_URL = "hemlig-hemlig"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run_here(data_dir: Path, *arguments: str, **settings: str) -> Result:
    """Run a command within this process, which is faster; not for `serve`, which sets up the log."""
    runner = CliRunner(env=environment(data_dir, **settings))
    if not data_dir.exists() and arguments[0] != "migrate":
        copy_database(data_dir)
    with chdir(data_dir.parent):
        return runner.invoke(main, arguments)


def test_every_command_is_documented():
    documentation = (ROOT / "docs" / "cli.md").read_text()
    assert re.findall(r"^## `ollagraph ([a-z-]+)", documentation, re.MULTILINE) == VISIBLE


def test_every_option_is_documented():
    documentation = (ROOT / "docs" / "cli.md").read_text()
    missing: list[tuple[str, str]] = []
    for name in VISIBLE:
        command = main.commands[name]
        section = documentation.partition(f"## `ollagraph {name}")[2].partition("\n## ")[0]
        commands = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
        params = [param for it in commands for param in it.params if isinstance(param, click.Option)]
        missing += [(name, option) for param in params for option in param.opts if option not in section]
    assert missing == []


def test_help_needs_no_settings(data_dir: Path):
    for arguments in ([], *([name] for name in COMMANDS)):
        result = run_here(data_dir, *arguments, "--help", PORT="abc")
        assert (arguments, result.exit_code, result.stderr) == (arguments, 0, "")


def test_help_lists_every_command(data_dir: Path):
    listed = re.findall(r"^  ([a-z][a-z-]*)  ", run_command(data_dir, "--help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(VISIBLE)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
async def test_a_signal_ends_the_gateway_as_a_success(data_dir: Path, number: str):
    async with serving(data_dir) as served:
        assert await served.stop(signal.Signals[number]) == 0


async def test_a_stop_leaves_nothing_in_the_log_but_information(data_dir: Path):
    async with serving(data_dir) as served:
        await served.sign_in(served.password or "")
        await served.stop()
        assert [line for line in served.errors.splitlines() if " INFO " not in line] == []


async def test_the_printed_address_and_password_are_the_real_ones(data_dir: Path):
    async with serving(data_dir, migrates=True) as served:
        assert await served.sign_in(served.password or "") is not None


async def test_the_password_is_printed_at_the_first_start_only(data_dir: Path):
    async with serving(data_dir) as first:
        await first.stop()
    async with serving(data_dir) as second:
        assert (first.password is None, second.password) == (False, None)


async def test_the_password_is_not_in_the_log(data_dir: Path):
    async with serving(data_dir, LOG_LEVEL="debug") as served:
        await served.sign_in(served.password or "")
        assert (served.password or "") not in served.errors


async def test_a_given_password_is_taken_and_not_printed(data_dir: Path):
    async with serving(data_dir, ADMIN_PASSWORD="a password of mine", ADMIN_USERNAME="ada") as served:
        assert await served.sign_in("a password of mine", "ada") is not None
        assert "a password of mine" not in served.greeting + served.errors


async def test_the_gateway_listens_on_ipv6(data_dir: Path):
    async with serving(data_dir, HOST="::1") as served:
        assert served.url.startswith("http://[::1]:")
        assert await served.run("{ __typename }") == {"__typename": "Query"}


def test_a_port_in_use_is_told_in_a_sentence(data_dir: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_command(data_dir, "serve", PORT=str(port))
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: Cannot listen on 127.0.0.1:{port} (Address already in use). "
        "Set OLLAGRAPH_HOST or OLLAGRAPH_PORT to another.\n"
    )


def test_a_host_that_is_none_is_told_in_a_sentence(data_dir: Path):
    result = run_command(data_dir, "serve", HOST="no host")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Cannot listen on no host:0 (")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["serve", "migrate"])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"mysql://u:{SECRET_IN_URL}@h/x", "There is no database called 'mysql' here."),
        (
            f"postgresql://u:{SECRET_IN_URL}@127.0.0.1:1/x",
            "The database cannot be reached: nothing listens at its address.",
        ),
    ],
)
def test_a_database_that_is_none_is_told_in_a_sentence(data_dir: Path, command: str, url: str, said: str):
    result = run_command(data_dir, command, DATABASE_URL=url)
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: {said}")
    assert "Traceback" not in result.stderr
    assert SECRET_IN_URL not in result.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"OLLAMA_URL": "localhost"}, "OLLAGRAPH_OLLAMA_URL: The address of a model server must begin with http"),
        ({"OPENAI_URL": "localhost"}, "OLLAGRAPH_OPENAI_URL: The address of a model server must begin with http"),
        ({"EMBEDDED": "true", "EMBEDDED_MODEL": "none.gguf"}, "The model file none.gguf cannot be read"),
        ({"PORT": "abc"}, "OLLAGRAPH_PORT: Input should be a valid integer"),
        ({"ADMIN_PASSWORD": "kq7#vz"}, "OLLAGRAPH_ADMIN_PASSWORD: The password must have at least 8 characters."),
        ({"ADMIN_USERNAME": "no name"}, "OLLAGRAPH_ADMIN_USERNAME: must have 1 to 64"),
    ],
)
def test_a_setting_with_which_the_gateway_cannot_start_is_told_in_a_sentence(
    data_dir: Path, settings: dict[str, str], said: str
):
    result = run_command(data_dir, "serve", **settings)
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: {said}")
    assert "Traceback" not in result.stderr


def test_migrate_tells_where_it_came_from_and_where_it_is(data_dir: Path):
    result = run_command(data_dir, "migrate")
    assert re.fullmatch(
        r"Migrating \S+/ollagraph\.db from an empty database \.\.\.\nThe database is at (\w+)\.\n", result.stdout
    ), result.stdout


def test_migrate_a_second_time_changes_nothing(data_dir: Path):
    first = run_here(data_dir, "migrate").stdout.splitlines()[-1]
    assert run_here(data_dir, "migrate").stdout.splitlines()[-1] == first


async def test_a_user_made_on_the_command_line_can_sign_in(data_dir: Path):
    made = run_command(data_dir, "create-user", "Ada").stdout
    password = made.partition("Password: ")[2].splitlines()[0]
    async with serving(data_dir) as served:
        assert served.password is None
        assert await served.sign_in(password, "ada") is not None


def test_a_password_given_in_the_environment_is_not_shown(data_dir: Path):
    result = run_here(data_dir, "create-user", "ada", "--admin", NEW_PASSWORD="a password of mine")
    assert (result.exit_code, result.stdout) == (
        0,
        f"Made the user ada with the role admin in the database {data_dir / 'ollagraph.db'}.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ada"], "Error: username: 'ada' is taken.\n"),
        (["a b"], "Error: username: must have 1 to 64 letters"),
        (["eve", "--password", "kq7#vz"], "Error: password: The password must have at least 8 characters."),
    ],
)
def test_a_user_that_cannot_be_made_is_told_in_a_sentence(data_dir: Path, arguments: list[str], said: str):
    run_here(data_dir, "create-user", "ada")
    result = run_here(data_dir, "create-user", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(said)


async def test_a_key_made_on_the_command_line_works_and_is_all_of_standard_output(data_dir: Path):
    run_command(data_dir, "create-user", "ada")
    result = run_command(data_dir, "create-key", "ada", "--expires-in-days", "2", "--scope", "profile:read")
    key = result.stdout.removesuffix("\n")
    assert is_well_formed(key)
    async with serving(data_dir) as served:
        assert await served.run("{ me { username } }", key) == {"me": {"username": "ada"}}


def test_the_keys_of_a_service_account_are_managed_on_the_command_line(data_dir: Path):
    assert "with the role user" in run_here(data_dir, "create-service-account", "ci", "--display-name", "Builds").stdout
    made = run_here(data_dir, "create-key", "ci", "--name", "runner", "--model", "fake:*", "--network", "10.0.0.0/8")
    first = made.stdout.strip()
    rotated = run_here(data_dir, "rotate-key", first[:12], "--grace-hours", "0.5").stdout.strip()
    assert is_well_formed(rotated)
    assert rotated != first
    [line] = run_here(data_dir, "list-keys", "ci").stdout.splitlines()
    key_id, prefix, *_ = line.split("  ")
    assert (prefix, line.endswith("valid  never used  runner")) == (rotated[:12], True)
    assert run_here(data_dir, "revoke-key", first).stdout.startswith("Revoked API key 'runner'")
    assert "  revoked " in run_here(data_dir, "list-keys", "ci").stdout
    assert run_here(data_dir, "rotate-key", key_id).stderr == (
        "Error: id: this API key was revoked. Create a new one.\n"
    )
    assert run_here(data_dir, "revoke-key", "nonsense").exit_code == 1


async def test_a_name_that_is_locked_is_opened_at_once_on_the_command_line(data_dir: Path):
    async with serving(data_dir, ADMIN_PASSWORD="a password of mine", LOGIN_MAX_FAILURES="1") as served:
        await served.sign_in("a wrong password", "Ada")
        said = run_command(data_dir, "unlock", "ada").stdout
        assert said.startswith("Sign-in as 'ada' is open again, in the database ")
        data = await served.run(
            'mutation { login(input: {username: "ada", password: "another wrong one"}) { __typename } }'
        )
        assert data["login"]["__typename"] == "InvalidCredentials"


def test_a_name_that_is_not_locked_is_told(data_dir: Path):
    said = run_here(data_dir, "unlock", "ada").stdout
    assert said.startswith("Sign-in as 'ada' was open: nothing had been counted, in the database ")


def test_a_database_of_a_newer_version_is_told_in_a_sentence(data_dir: Path):
    run_here(data_dir, "migrate")
    with closing(sqlite3.connect(data_dir / "ollagraph.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    result = run_here(data_dir, "migrate")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: The database was made by a newer version of Ollagraph (its revision is '9999')."
    )


def test_a_key_for_nobody_is_told_in_a_sentence(data_dir: Path):
    result = run_here(data_dir, "create-key", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no user 'nobody'.\n"


def test_the_exported_schema_is_the_one_in_the_repository(data_dir: Path):
    assert run_command(data_dir, "export-schema").stdout == (ROOT / "schema.graphql").read_text()


async def test_the_printed_command_makes_a_user_as_it_is_typed(data_dir: Path):
    async with serving(data_dir) as served:
        (line,) = [line.strip() for line in served.greeting.splitlines() if "users create" in line]
        typed = line.replace("NAME", "ada")
        done = await anyio.run_process(["sh", "-c", typed], cwd=data_dir.parent, env=environment(data_dir))
        password = done.stdout.decode().partition("Password: ")[2].splitlines()[0]
        assert await served.sign_in(password, "ada") is not None


def test_a_common_password_is_refused_with_all_reasons(data_dir: Path):
    result = run_here(data_dir, "create-user", "ada", NEW_PASSWORD="Passw0r")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The password must have at least 8 characters." in result.stderr
    assert "The password is one of the first that are tried." in result.stderr


async def test_a_name_that_is_no_setting_stands_in_the_log(data_dir: Path):
    async with serving(data_dir, LOG_LEVLE="debug") as served:
        assert "WARNING ollagraph: OLLAGRAPH_LOG_LEVLE in the environment is not a setting." in served.errors
