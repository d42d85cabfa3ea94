"""The commands grouped by noun, and the names that they had before."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from anyio import to_thread

from server.cli import main
from tests.support.fake_model_server import FakeModelServer
from tests.support.generations import COMPLETE, asking
from tests.support.ports import free_port
from tests.support.processes import ROOT, run_command, serving
from tests.test_cli import data_dir, run_here

__all__ = ["data_dir"]


def listed(data_dir: Path, *arguments: str, **settings: str) -> Any:
    result = run_here(data_dir, *arguments, "--json", **settings)
    assert result.exit_code == 0, result.stderr
    return orjson.loads(result.stdout)


def test_users_and_keys_are_made_and_listed_by_noun(data_dir: Path):
    assert run_here(data_dir, "users", "create", "ada", "--admin").exit_code == 0
    run_here(data_dir, "users", "create-service-account", "bot")
    secret = run_here(data_dir, "keys", "create", "bot").stdout.strip()
    run_here(data_dir, "users", "deactivate", "bot")
    assert [(it["username"], it["role"], it["active"]) for it in listed(data_dir, "users", "list")] == [
        ("ada", "admin", True),
        ("bot", "user", False),
    ]
    [key] = listed(data_dir, "keys", "list", "bot")
    assert (key["state"], secret.startswith(key["prefix"]), "secret_hash" in key) == ("valid", True, False)
    assert run_here(data_dir, "keys", "revoke", secret).exit_code == 0
    events = listed(data_dir, "audit", "list", "--first", "2")
    assert [it["action"] for it in events] == ["keys revoke", "users deactivate"]
    assert len(run_here(data_dir, "audit", "list").stdout.splitlines()) == 5


async def test_sessions_are_listed_and_ended_while_the_gateway_runs(data_dir: Path):
    async with serving(data_dir, ADMIN_PASSWORD="a password of mine") as served:
        await served.sign_in("a password of mine")
        arguments = ("sessions", "list", "admin", "--json")
        [session] = orjson.loads((await to_thread.run_sync(partial(run_command, data_dir, *arguments))).stdout)
        assert session["provider"] == "password"
        ended = await to_thread.run_sync(partial(run_command, data_dir, "sessions", "revoke", session["id"]))
        assert ended.returncode == 0, ended.stderr
        assert orjson.loads((await to_thread.run_sync(partial(run_command, data_dir, *arguments))).stdout) == []


async def test_model_servers_and_their_models_are_listed(data_dir: Path, fake: FakeModelServer):
    settings = {"OLLAMA_URL": fake.url, "OPENAI_URL": "http://127.0.0.1:1"}
    ollama, openai = await to_thread.run_sync(partial(listed, data_dir, "backends", "list", **settings))
    assert (ollama["ready"], ollama["models"], openai["ready"]) == (True, len(fake.models), False)
    models = await to_thread.run_sync(partial(listed, data_dir, "models", "list", OLLAMA_URL=fake.url))
    assert sorted(it["name"] for it in models) == sorted(fake.models)


async def test_the_gateway_that_runs_here_tells_of_its_breakers(data_dir: Path, fake: FakeModelServer):
    settings = {
        "OLLAMA_URL": fake.url,
        "PORT": str(free_port()),
        "BREAKER_FAILURES": "1",
        "ADMIN_PASSWORD": "a password of mine",
    }
    listing = partial(to_thread.run_sync, partial(listed, data_dir, "backends", "list", **settings))
    assert [it["breakers"] for it in await listing()] == [None]
    async with serving(data_dir, **settings) as served:
        assert [it["breakers"] for it in await listing()] == [{"CLOSED": 1}]
        await served.run(COMPLETE, await served.sign_in("a password of mine"), **asking("fake:status-500"))
        assert [it["breakers"] for it in await listing()] == [{"OPEN": 1}]
        shown = await to_thread.run_sync(partial(run_here, data_dir, "backends", "list", **settings))
        assert shown.stdout.rstrip().endswith("\tready\tbreaker OPEN")


def test_every_command_that_lists_prints_one_json_document_and_nothing_else(data_dir: Path):
    lists = dict(_lists(main, ()))
    assert {path for path, command in lists.items() if not _takes_json(command)} == set()
    run_here(data_dir, "users", "create", "ada")
    for path, command in lists.items():
        arguments = ["ada" for it in command.params if isinstance(it, click.Argument) and it.required]
        result = run_here(data_dir, *path, *arguments, "--json", NO_SETTING="warns", EMBEDDED="false")
        assert (path, result.exit_code, "NO_SETTING" in result.stderr) == (path, 0, True)
        assert isinstance(orjson.loads(result.stdout), list | dict), path


def _lists(group: click.Group, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command that lists, with what is typed for it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _lists(command, (*above, name))
        elif name in {"list", "show", "usage", "plugins", "inspect", "prune"}:
            yield (*above, name), command


def _takes_json(command: click.Command) -> bool:
    return any("--json" in it.opts for it in command.params)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_what_completes(data_dir: Path, shell: str):
    assert "_OLLAGRAPH_COMPLETE" in run_here(data_dir, "completion", shell).stdout


def test_the_names_of_before_are_there_and_hidden():
    flat = {name for name, command in main.commands.items() if command.hidden}
    assert {"create-user", "list-users", "create-key", "export-audit", "unlock"} <= flat


def test_nobody_is_told_to_type_a_name_that_no_list_shows():
    hidden = "|".join(name for name, command in main.commands.items() if command.hidden)
    files = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.*"), *ROOT.glob("server/**/*.py")]
    typed = re.compile(rf"(?:ollagraph|_command\(\)}}) (?:{hidden})\b")
    assert [(file.name, found) for file in files if file.is_file() for found in typed.findall(file.read_text())] == []
