"""Metrics: what is counted, who may read it, and that workers count together."""

import os
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.metrics.instruments import MOST_NAMES, OTHER, Bounded
from tests.support.databases import SqliteDatabases
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import PASSWORD, GraphQLErrors, RunningGateway
from tests.support.generations import GENERATE, START, asking
from tests.support.polling import pause
from tests.support.ports import free_port
from tests.support.processes import CUT_OFF, WORKER, descendants, run_command, serving
from tests.support.shared.gateways import gateway_before_fake

TOKEN = "a-token-of-prometheus"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What was scraped: values by name and labels."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    """The sum of the series with these labels; None where there is none."""
    wanted = set(labels.items())
    found = [number for (sample, given), number in samples(text).items() if sample == name and wanted <= given]
    return sum(found) if found else None


@pytest.fixture(scope="module")
async def shared_gateway(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[RunningGateway]:
    """One gateway for all tests here, which tells metrics at both places."""
    folder = tmp_path_factory.mktemp("metrics")
    ports = {"metrics_port": free_port(), "metrics_token": TOKEN}
    async with gateway_before_fake(sqlite_databases, folder, **ports) as gateway:
        yield gateway


async def scraped(gateway: RunningGateway) -> str:
    response = await gateway.client.get("/metrics", headers=AUTHORIZED)
    assert response.status_code == 200
    return response.text


async def test_generations_requests_and_gauges_are_told(used_gateway: RunningGateway):
    await used_gateway.run(
        "mutation($input: SetPriceInput!) { setPrice(input: $input) { __typename } }",
        {
            "input": {
                "model": "fake:count-300",
                "currency": "EUR",
                "promptPerMillion": "1000",
                "completionPerMillion": "1000",
            }
        },
    )
    before = await scraped(used_gateway)
    await used_gateway.events(GENERATE.replace("subscription", "subscription Tell"), asking("fake:count-300"))
    with pytest.raises(GraphQLErrors):
        await used_gateway.run("query Wrong { nothing }")
    after = await scraped(used_gateway)

    def grew(name: str, **labels: str) -> float:
        return (value(after, name, **labels) or 0) - (value(before, name, **labels) or 0)

    model = {"gen_ai_request_model": "fake:count-300"}
    assert grew("ollagraph_operations_total", operation="Tell", type="subscription", code="") == 1
    assert grew("ollagraph_operations_total", operation="unnamed", code="GRAPHQL_VALIDATION_FAILED") == 1
    assert grew("ollagraph_generations_total", **model, backend="ollama", state="COMPLETED", end="stop") == 1
    assert grew("gen_ai_client_token_usage_sum", **model, gen_ai_token_type="output") == 300
    assert grew("gen_ai_client_token_usage_sum", **model, gen_ai_token_type="input") == 3
    assert grew("ollagraph_cost_total", **model, currency="EUR") == pytest.approx(0.303)
    for name in ("time_to_first_token", "request_duration"):
        assert grew(f"gen_ai_server_{name}_seconds_count", **model) == 1, name
    assert value(after, "ollagraph_backend_up", backend="ollama") == 1
    assert value(after, "ollagraph_slots", backend="ollama") == 64
    assert value(after, "ollagraph_slots_used", backend="ollama") == 0
    assert value(after, "ollagraph_database_up") == 1
    assert value(after, "ollagraph_streams_open", transport="websocket") == 0


async def test_open_streams_and_slots_are_seen_while_they_are_used(used_gateway: RunningGateway):
    async with used_gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:hold-3"))
        await socket.receive()
        text = await scraped(used_gateway)
    assert value(text, "ollagraph_streams_open", transport="websocket") == 1
    assert value(text, "ollagraph_slots_used", backend="ollama") == 1
    assert value(text, "ollagraph_generations_running") == 1


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer another"}, {"Authorization": TOKEN}])
async def test_the_own_port_wants_the_token(used_gateway: RunningGateway, headers: dict[str, str]):
    response = await used_gateway.client.get("/metrics", headers=headers)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert "ollagraph_" not in response.text


async def test_an_address_of_its_own_wants_none_and_has_nothing_else(used_gateway: RunningGateway):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{used_gateway.settings.metrics_port}") as client:
        metrics, other = await client.get("/metrics"), await client.get("/graphql")
    assert value(metrics.text, "ollagraph_workers_up") == 1
    assert (metrics.headers["content-type"].split(";")[0], other.status_code) == ("text/plain", 404)


async def test_there_are_no_metrics_unless_they_are_asked_for(gateway_without: RunningGateway):
    assert (await gateway_without.client.get("/metrics", headers=AUTHORIZED)).status_code == 404


@pytest.fixture
async def gateway_without(sqlite_databases: SqliteDatabases, tmp_path: Path) -> AsyncGenerator[RunningGateway]:
    async with gateway_before_fake(sqlite_databases, tmp_path) as gateway:
        yield gateway


def test_a_port_that_is_taken_is_told(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        result = run_command(tmp_path / "data", "serve", METRICS_PORT=port)
    assert result.returncode == 1
    assert f"OLLAGRAPH_METRICS_PORT: the gateway cannot listen on 127.0.0.1 port {port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_names_that_clients_make_up_are_bounded():
    bounded = Bounded()
    names = [bounded(f"name{number}") for number in range(MOST_NAMES + 5)]
    assert names[MOST_NAMES:] == [OTHER] * 5
    assert bounded("name0") == "name0"


@asynccontextmanager
async def two_workers(tmp_path: Path, **settings: Any) -> AsyncGenerator[Any]:
    async with serving(tmp_path / "data", WORKERS="2", **settings) as served:
        yield served


async def test_workers_count_together_and_what_a_dead_one_counted_stays(tmp_path: Path):
    async with two_workers(tmp_path, METRICS_TOKEN=TOKEN) as served:

        async def text() -> str:
            async with httpx.AsyncClient(base_url=served.url, headers=AUTHORIZED) as client:
                return (await client.get("/metrics")).text

        for _ in range(10):
            await served.run("query Here { __typename }")
        first = [await text() for _ in range(5)]
        counted = [value(each, "ollagraph_operations_total", operation="Here") for each in first]
        assert counted == [10] * 5
        with anyio.fail_after(60):
            while value(await text(), "ollagraph_workers_up") != 2:
                await pause()
        folder = tmp_path / "data" / "metrics"
        pids = {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_livesum_*.db")}
        victim = min(pids)
        os.kill(victim, signal.SIGKILL)
        with anyio.fail_after(60):
            while (folder / f"gauge_livesum_{victim}.db").exists():
                await pause()
        assert value(await text(), "ollagraph_operations_total", operation="Here") == 10
        assert victim not in descendants(served.process.pid)


async def test_the_end_of_what_a_killed_worker_ran_is_counted(tmp_path: Path, fake: FakeModelServer):
    fake.models = ["fake:hold-3"]
    settings = {"METRICS_TOKEN": TOKEN, "OLLAMA_URL": fake.url, "ADMIN_PASSWORD": PASSWORD}
    async with two_workers(tmp_path, **settings) as served:
        token = await served.sign_in(PASSWORD)
        await served.run(START, token, **asking("fake:hold-3", onDisconnect="CONTINUE"))
        await fake.request()
        victims = descendants(served.process.pid, WORKER)
        assert len(victims) == 2
        text = ""
        with anyio.fail_after(60):
            while value(text, "ollagraph_generations_total", state="FAILED", end="INTERRUPTED") != 1:
                if victims and value(text, "ollagraph_workers_up") == 2:  # one runs it, the other ends it
                    os.kill(victims.pop(), signal.SIGKILL)
                text = ""
                with suppress(*CUT_OFF):
                    async with httpx.AsyncClient(base_url=served.url, headers=AUTHORIZED) as client:
                        text = (await client.get("/metrics")).text
                await pause()
