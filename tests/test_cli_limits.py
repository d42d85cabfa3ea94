"""The commands about limits."""

import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from db.clock import new_id, now
from tests.test_cli import data_dir, run_here

__all__ = ["data_dir"]

SET = ["limits", "set", "tokens a day", "--measure", "tokens", "--window", "day", "--amount", "1000", "--each", "user"]


def test_limits_are_set_listed_shown_and_removed(data_dir: Path):
    run_here(data_dir, "create-user", "ada")
    more = ["--except", "role:admin=unlimited", "--except", "user:ada=5000", "--model", "llama*"]
    assert run_here(data_dir, *SET, *more).stdout == "Set the limit 'tokens a day': 1,000 tokens a day.\n"
    listed = "tokens a day\t1,000 tokens a day\teach user\tmodel=llama*\t2 exceptions\n"
    assert run_here(data_dir, "limits", "list").stdout == listed
    [limit] = orjson.loads(run_here(data_dir, "limits", "list", "--json").stdout)
    assert sorted((it["kind"], it["amount"]) for it in limit["exceptions"]) == [("ROLE", None), ("USER", "5000")]
    assert run_here(data_dir, *SET, "--except", "user:ada=5000").exit_code == 0
    shown = run_here(data_dir, "limits", "show", "ada").stdout
    assert shown.startswith("tokens a day\tused 0 tokens\treserved 0 tokens\tlimit 5,000 tokens\tresets 2")
    [status] = orjson.loads(run_here(data_dir, "limits", "show", "ada", "--json").stdout)
    assert (status["remaining"], list(status["scope"])) == ("5000", ["USER"])
    assert run_here(data_dir, "limits", "remove", "tokens a day").stdout == "Removed the limit 'tokens a day'.\n"
    assert run_here(data_dir, "limits", "list").stdout == ""
    events = [orjson.loads(line) for line in run_here(data_dir, "export-audit").stdout.splitlines()]
    assert [it["action"] for it in events] == ["create-user", "limits set", "limits set", "limits remove"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*SET, "--except", "ada=5"], "Error: --except: must be KIND:NAME=AMOUNT with one of key, user, group, role"),
        ([*SET, "--except", "user:nobody=5"], "Error: There is no user 'nobody'."),
        ([*SET, "--group", "nobody"], "Error: There is no group 'nobody'."),
        ([*SET, "--amount", "many"], "Error: --amount: must be a number, not 'many'."),
        ([*SET, "--amount", "-1"], "Error: amount: must be from 0 to 1,000,000,000,000,000."),
        (["limits", "remove", "none"], "Error: There is no limit 'none'."),
    ],
)
def test_what_cannot_be_set_is_told_in_a_sentence(data_dir: Path, arguments: list[str], said: str):
    result = run_here(data_dir, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(said)


def test_a_group_is_found_by_its_name_among_many_that_contain_it(data_dir: Path):
    run_here(data_dir, "create-user", "ada")
    names = [*(f"a team {number}" for number in range(501)), "team"]
    with closing(sqlite3.connect(data_dir / "ollagraph.db")) as database, database:
        database.executemany(
            "INSERT INTO groups (id, name, description, created_at) VALUES (?, ?, '', ?)",
            [(new_id().hex, name, now().isoformat(" ")) for name in names],
        )
    assert run_here(data_dir, *SET, "--group", "team").stderr == ""
    assert run_here(data_dir, *SET, "--group", "eam").stderr.startswith("Error: There is no group 'eam'.")
