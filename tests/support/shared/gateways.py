"""Gateways that all tests of a module share, since a start takes longer than most tests."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import SqliteDatabases
from tests.support.fake_model_server import running_fake_model_server
from tests.support.gateways import EVERY_MODEL, RunningGateway, gateway_settings, running_gateway


@asynccontextmanager
async def gateway_before_fake(
    databases: SqliteDatabases, folder: Path, *, as_openai: bool = False, **settings: Any
) -> AsyncGenerator[RunningGateway]:
    """A gateway before a fake model server of its own, which is Ollama, or both Ollama and OpenAI-compatible."""
    with databases.fresh(folder) as url:
        async with running_fake_model_server() as fake:
            values = {"openai_url": fake.url if as_openai else None, **settings}
            async with running_gateway(gateway_settings(folder, url, fake.url, **values), fake) as gateway:
                yield gateway


def sharing(**settings: Any) -> Any:
    """Make the fixture of a gateway over SQLite with these settings, which all tests of a module share."""

    @pytest.fixture(scope="module")
    async def shared(
        sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory
    ) -> AsyncIterator[RunningGateway]:
        async with gateway_before_fake(sqlite_databases, tmp_path_factory.mktemp("shared"), **settings) as gateway:
            yield gateway

    return shared


async def as_new(gateway: RunningGateway) -> RunningGateway:
    """Empty the database of a shared gateway, reset its fake model server, and sign in as the administrator.

    For tests that leave nothing running.
    """
    gateway.fake.reset()
    gateway.fake.models += EVERY_MODEL
    await gateway.empty()
    await gateway.be_administrator()
    return gateway
