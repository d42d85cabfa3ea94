"""Plugins at the start: which are found, and what is told of one that cannot be used."""

import json
import re
import shutil
from pathlib import Path

import pytest

from server.plugins import find_plugins
from server.settings import SettingsError
from tests.support.gateways import Json, gateway_settings
from tests.support.processes import run_command

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("hook", ["routes", "query_type"])
def test_what_a_plugin_adds_is_told_in_a_sentence_where_that_fails(tmp_path: Path, hook: str):
    (tmp_path / "mine.py").write_text(
        f"from gateway.plugins import Plugin\nclass Mine(Plugin):\n  def {hook}(self): raise SystemExit('later')"
    )
    ended = run_command(tmp_path / "data", "serve", PLUGINS_DIR=str(tmp_path), EMBEDDED="false", PORT="0")
    assert ended.returncode == 1
    assert re.search(r"The plugin 'mine' does not tell its (routes|fields): SystemExit: later", ended.stderr)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1/0", "cannot be set up: ZeroDivisionError"),
        ("import sys\nsys.exit(3)", "cannot be set up: SystemExit"),
        ("x = 1", "must define one subclass of Plugin, not 0"),
        ("from gateway.plugins import Plugin\nclass A(Plugin):\n  def __init__(self, s): s['url']", "KeyError: 'url'"),
        ("from gateway.plugins import Plugin\nclass A(Plugin): ...\nclass B(Plugin): ...", "not 2"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_told_in_a_sentence(tmp_path: Path, text: str, said: str):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(SettingsError, match=said):
        find_plugins(gateway_settings(tmp_path, "sqlite://", None, plugins_dir=tmp_path))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"plugins": {"nowhere": {}}}, "is no file of OLLAGRAPH_PLUGINS_DIR and in no installed package"),
        ({"plugins_dir": "missing"}, "cannot be read"),
    ],
)
def test_plugins_that_are_not_there(tmp_path: Path, values: Json, said: str):
    if "plugins_dir" in values:
        values = {"plugins_dir": tmp_path / "missing"}
    with pytest.raises(SettingsError, match=said):
        find_plugins(gateway_settings(tmp_path, "sqlite://", None, **values))


def test_the_command_lists_them_in_their_order(tmp_path: Path):
    shutil.copytree(ROOT / "examples/plugins", tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    named = '{"failure_webhook": {"url": "http://localhost"}}'
    result = run_command(tmp_path, "plugins", PLUGINS_DIR=str(tmp_path / "plugins"), PLUGINS=named)
    assert [line.split("\t")[:3] for line in result.stdout.splitlines()] == [
        ["audit", "no guard", "on_sign_in"],
        ["metrics", "no guard", "after_generate, on_usage"],
        ["traces", "no guard", "no hooks"],
        ["failure_webhook", "no guard", "after_generate"],
        ["group_prompts", "guard", "before_generate"],
        ["redactor", "guard", "output_filter"],
    ]


def test_the_command_tells_what_is_built_in_and_whether_it_is_on(tmp_path: Path):
    entries = json.loads(run_command(tmp_path, "plugins", "--json", METRICS_PORT="9464").stdout)
    told = [(it["name"], it["builtIn"], it["enabled"]) for it in entries]
    assert told == [("audit", True, True), ("metrics", True, True), ("traces", True, False)]
    assert entries[2]["source"] == "built in, off (OLLAGRAPH_TRACES switches it on)"
