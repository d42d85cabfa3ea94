"""The commands that manage users, while the gateway runs and while it does not."""

from pathlib import Path

import orjson
import pytest

from tests.support.processes import run_command, serving
from tests.test_cli import data_dir, run_here

__all__ = ["data_dir"]

ADMIN_PASSWORD = "a password of mine"
MODELS = "{ models { name } }"


def password_in(output: str) -> str:
    return output.partition("Password: ")[2].splitlines()[0]


async def test_an_administrator_gets_back_in_while_the_gateway_runs(data_dir: Path):
    async with serving(data_dir, ADMIN_PASSWORD=ADMIN_PASSWORD, LOGIN_MAX_FAILURES="1") as served:
        await served.sign_in("a wrong password")
        made_up = password_in(run_command(data_dir, "reset-password", "Admin").stdout)
        assert await served.sign_in(ADMIN_PASSWORD) is None
        run_command(data_dir, "unlock", "admin")
        token = await served.sign_in(made_up)
        data = await served.run("{ me { username mustChangePassword } }", token)
        assert data == {"me": {"username": "admin", "mustChangePassword": True}}


def test_users_are_listed_changed_and_deleted(data_dir: Path):
    for arguments in (["boss", "--admin"], ["ada"]):
        run_here(data_dir, "create-user", *arguments)
    assert run_here(data_dir, "set-role", "ada", "read-only").stdout.startswith("ada has the role read-only, in ")
    assert run_here(data_dir, "deactivate-user", "ada").exit_code == 0
    assert (
        run_here(data_dir, "list-users").stdout == "ada\tread-only\tPERSON\tdeactivated\nboss\tadmin\tPERSON\tactive\n"
    )
    assert "Reactivate" in run_here(data_dir, "reset-password", "ada").stderr
    assert run_here(data_dir, "reactivate-user", "ada").exit_code == 0
    assert run_here(data_dir, "delete-user", "ada").exit_code == 1  # nobody said yes
    assert run_here(data_dir, "delete-user", "ada", "--yes").stdout.startswith("Deleted ada; deleted-")
    assert run_here(data_dir, "list-users").stdout == "boss\tadmin\tPERSON\tactive\n"


def test_users_are_made_with_their_time_zones(data_dir: Path):
    run_here(data_dir, "create-user", "ada", "--time-zone", "Asia/Kathmandu")
    run_here(data_dir, "create-service-account", "ci", "--time-zone", "Europe/Berlin")
    run_here(data_dir, "create-user", "zoe")
    listed = orjson.loads(run_here(data_dir, "list-users", "--json").stdout)
    assert [user["time_zone"] for user in listed] == ["Asia/Kathmandu", "Europe/Berlin", None]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set-role", "boss", "user"], "Error: This is the last active administrator."),
        (["deactivate-user", "boss"], "Error: This is the last active administrator."),
        (["delete-user", "boss", "--yes"], "Error: This is the last active administrator."),
        (["set-role", "boss", "no-role"], "Error: role: there is no role 'no-role'."),
        (["create-user", "ada", "--role", "none"], "Error: role: there is no role 'none'."),
        (["create-user", "ada", "--time-zone", "Mars"], "Error: timeZone: must be a time zone of the IANA database,"),
        (["create-service-account", "ci", "--time-zone", "x"], "Error: timeZone: must be a time zone of the IANA"),
        (["reset-password", "nobody"], "Error: There is no user 'nobody'."),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(data_dir: Path, arguments: list[str], said: str):
    run_here(data_dir, "create-user", "boss", "--admin")
    result = run_here(data_dir, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(said)
