"""`ollagraph fake-model-server`, and faults by chance."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.cli import main
from server.fake_model_server import Ending, Faults, Script, count, read_models
from tests.support.fake_model_server import FakeModelServer
from tests.test_cli import ROOT

ANSWER = Script(count(20))


def outcomes(faults: Faults, number: int = 200) -> list[tuple[int, Ending]]:
    return [(it.status, it.ending) for it in (faults.applied(ANSWER) for _ in range(number))]


def test_faults_come_as_often_as_asked_for_and_the_same_again_with_a_seed():
    told = outcomes(Faults(error_rate=0.25, cut=0.5, seed=1))
    assert 30 < told.count((503, Ending.FINISH)) < 70
    assert 50 < told.count((200, Ending.CUT)) < 100
    assert told == outcomes(Faults(error_rate=0.25, cut=0.5, seed=1))
    assert set(outcomes(Faults())) == {(200, Ending.FINISH)}


def test_a_delay_comes_before_each_token():
    assert Faults(delay_ms=5).applied(Script(count(2), delay_ms=10)).delay_ms == 15


def test_models_get_names_of_ones_own():
    assert read_models(("llama3.2, qwen3=fake:thinking", "fake:cut-3")) == [
        ("llama3.2", "fake:echo"),
        ("qwen3", "fake:thinking"),
        ("fake:cut-3", "fake:cut-3"),
    ]


@pytest.mark.parametrize("given", ["qwen3=nope", "fake:nope", "fake:count-x"])
def test_a_model_that_there_is_not_is_refused(given: str):
    result = CliRunner().invoke(main, ["fake-model-server", "--models", given])
    assert result.exit_code == 2
    assert "Invalid value for --models: There is no fake model " in result.stderr


async def test_a_model_of_another_name_behaves_as_it_is_told(fake: FakeModelServer):
    import httpx

    fake.behaviours = {"llama3.2": "fake:count-2"}
    async with httpx.AsyncClient(base_url=fake.url) as client:
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        assert '"content":"1 "' in (await client.post("/api/chat", json=body)).text.replace(": ", ":")
        fake.faults = Faults(error_rate=1)
        assert (await client.post("/api/chat", json=body)).status_code == 503


@pytest.mark.parametrize("document", ["docs/cli.md"])
def test_the_table_of_models_is_that_of_the_code(document: str):
    names = r"^\| `(fake:[a-z-]+)"
    told = re.findall(names, (ROOT / document).read_text(), re.MULTILINE)
    assert told == re.findall(names, Path(ROOT / "server/fake_model_server/server.py").read_text(), re.MULTILINE)
