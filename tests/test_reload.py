"""SIGHUP: what a running gateway takes of changed settings, and what it tells of the rest."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.polling import pause
from tests.support.processes import WORKER, descendants, serving


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def test_a_running_gateway_takes_what_can_be_taken(data_dir: Path):
    env_file = data_dir.parent / ".env"
    env_file.write_text("OLLAGRAPH_LIMIT_WAIT_TIME=5\n")
    async with serving(data_dir) as served:
        env_file.write_text("OLLAGRAPH_LIMIT_WAIT_TIME=6\nOLLAGRAPH_LOG_LEVEL=debug\nOLLAGRAPH_MAX_QUEUED=3\n")
        served.process.send_signal(signal.SIGHUP)
        await served.says("taken: OLLAGRAPH_LIMIT_WAIT_TIME, OLLAGRAPH_LOG_LEVEL")
        await served.says("need a restart: OLLAGRAPH_MAX_QUEUED")
        env_file.write_text("OLLAGRAPH_LOG_LEVEL=loud\n")
        served.process.send_signal(signal.SIGHUP)
        await served.says("the settings stay as they were: OLLAGRAPH_LOG_LEVEL")
        assert await served.run("{ __typename }") == {"__typename": "Query"}
        assert await served.stop() == 0


async def test_a_supervisor_hands_it_on_to_its_workers(data_dir: Path):
    async with serving(data_dir, WORKERS="2") as served:
        (data_dir.parent / ".env").write_text("OLLAGRAPH_RATE_LIMIT_ENABLED=false\n")
        served.process.send_signal(signal.SIGHUP)
        await served.says("taken: OLLAGRAPH_RATE_LIMIT_ENABLED", times=2)
        assert await served.stop() == 0


async def test_a_worker_that_does_not_serve_yet_is_told_when_it_does(data_dir: Path):
    async with serving(data_dir, WORKERS="2") as served:
        before = descendants(served.process.pid, WORKER)
        os.kill(max(before), signal.SIGKILL)
        while not set(descendants(served.process.pid, WORKER)) - set(before):
            await pause()
        served.process.send_signal(signal.SIGHUP)
        await served.says("the settings were read again", times=2)
        assert await served.stop() == 0


async def test_statements_are_logged_without_their_values_where_that_is_asked_for(data_dir: Path):
    async with serving(data_dir, SQL_ECHO="true", ADMIN_USERNAME="somebody-secret") as served:
        await served.says("INSERT INTO users")
        assert "somebody-secret" not in served.errors
