"""Whether the process lives, and whether it can work: what an orchestrator asks."""

import shutil
import socket
from pathlib import Path

import anyio
import anyio.abc
import asyncpg
import pytest
from sqlalchemy import text

from server import health
from tests.support.databases import closed_to_all
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway

NOBODY = "http://127.0.0.1:1"
"""An address at which nobody listens."""


@pytest.fixture(autouse=True)
def patient_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may answer late: a check ends soon only in the tests that have something hang."""
    monkeypatch.setattr(health, "CHECK_SECONDS", 60)


async def test_the_process_says_that_it_lives(gateway: RunningGateway):
    response = await gateway.client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_gateway_that_can_work_says_so(gateway: RunningGateway):
    response = await gateway.client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "ready")


async def test_readiness_tells_state_and_latency_of_every_part(gateway: RunningGateway):
    body = (await gateway.client.get("/readyz")).json()
    latencies = [body["database"].pop("latencyMs"), *(backend.pop("latencyMs") for backend in body["backends"])]
    backend = {"name": "ollama", "ready": True, "breakers": {"CLOSED": 1}}
    assert body == {"status": "ready", "database": {"ready": True}, "backends": [backend]}
    assert all(latency > 0 for latency in latencies)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_nobody_needs_to_sign_in_to_ask(gateway: RunningGateway, path: str):
    response = await gateway.client.get(path, headers={})
    assert response.status_code == 200


async def test_without_a_database_the_gateway_is_not_ready_until_it_is_back(
    postgresql_url: str, tmp_path: Path, fake: FakeModelServer
):
    async with running_gateway(gateway_settings(tmp_path, postgresql_url, fake.url), fake) as gateway:
        async with closed_to_all(postgresql_url):
            response = await gateway.client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reason"].startswith("database: The database cannot be reached: ")
        assert (await gateway.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("replaced", [False, True])
async def test_without_the_file_that_it_has_open_a_gateway_is_not_ready(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, replaced: bool
):
    file, elsewhere = sqlite_url.removeprefix("sqlite:///"), str(tmp_path / "elsewhere.db")
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url), fake) as gateway:
        assert (await gateway.client.get("/readyz")).status_code == 200
        shutil.move(file, elsewhere)
        if replaced:
            shutil.copy(elsewhere, file)
        response = await gateway.client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reason"].startswith("database: The file of the database was moved")
        shutil.move(elsewhere, file)
        assert (await gateway.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(("revision", "status"), [("0001", 503), ("9999", 200)])
async def test_a_gateway_is_not_ready_before_the_migrations_that_it_needs(
    gateway: RunningGateway, revision: str, status: int
):
    """A database that is ahead is that of an upgrade: the gateways of the version before serve on."""
    async with gateway.database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    response = await gateway.client.get("/readyz")
    assert response.status_code == status
    reason = f"database: The database is at revision {revision}, and this version needs "
    assert response.json().get("reason", "").startswith(reason) == (status == 503)


async def test_without_a_database_the_process_still_lives(postgresql_url: str, tmp_path: Path, fake: FakeModelServer):
    async with running_gateway(gateway_settings(tmp_path, postgresql_url, fake.url), fake) as gateway:
        async with closed_to_all(postgresql_url):
            assert (await gateway.client.get("/healthz")).status_code == 200


async def test_without_any_backend_the_gateway_is_not_ready(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, NOBODY), fake) as gateway:
        response = await gateway.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reason"].startswith("backend ollama: ")


async def test_a_gateway_with_no_backend_in_its_settings_is_not_ready(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, None), fake) as gateway:
        response = await gateway.client.get("/readyz")
    assert (response.status_code, response.json()["reason"]) == (503, "no backend")


async def test_a_gateway_that_lost_one_of_two_backends_is_ready_for_the_other(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, openai_url=NOBODY)
    async with running_gateway(settings, fake) as gateway:
        response = await gateway.client.get("/readyz")
    assert response.status_code == 200
    states = {backend["name"]: backend["ready"] for backend in response.json()["backends"]}
    assert states == {"ollama": True, "openai": False}


async def test_a_backend_that_hangs_does_not_hold_up_the_answer(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "CHECK_SECONDS", 3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and answers nobody
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = gateway_settings(tmp_path, sqlite_url, fake.url, openai_url=url)
        async with running_gateway(settings, fake) as gateway:
            response = await gateway.client.get("/readyz")
    [hanging] = [backend for backend in response.json()["backends"] if backend["name"] == "openai"]
    assert (response.status_code, hanging["error"]) == (
        200,
        f"The model server did not answer within {health.CHECK_SECONDS} s.",
    )


async def test_a_database_that_hangs_does_not_hold_up_the_answer(
    postgresql_url: str, tmp_path: Path, fake: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    """Somebody holds the table that a gateway says in that it lives."""
    monkeypatch.setattr(health, "CHECK_SECONDS", 3)
    async with running_gateway(gateway_settings(tmp_path, postgresql_url, fake.url), fake) as gateway:
        other = await asyncpg.connect(postgresql_url)
        async with other.transaction():
            await other.execute("LOCK TABLE replicas")
            body = (await gateway.client.get("/readyz")).json()
        await other.close()
    assert body["reason"] == f"database: The database takes no writes: no answer within {health.CHECK_SECONDS} s."


async def test_a_writer_that_only_has_to_wait_for_the_others_of_its_gateway_is_no_outage(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
):
    """One of the others ends while the answer is awaited, and the next is not done when it is due."""
    monkeypatch.setattr(health, "CHECK_SECONDS", 3)
    ping, asked, answered = gateway.database.ping, anyio.Event(), anyio.Event()

    async def tell_and_ping() -> float:
        asked.set()
        return await ping()

    async def write_until(
        event: anyio.Event, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        async with gateway.database.transaction():
            task_status.started()
            await event.wait()

    monkeypatch.setattr(gateway.database, "ping", tell_and_ping)
    async with anyio.create_task_group() as tasks:
        await tasks.start(write_until, asked)
        tasks.start_soon(write_until, answered)
        body = (await gateway.client.get("/readyz")).json()
        answered.set()
    assert body["database"]["ready"], body
