"""Who may introspect the schema or read it as a file, and what the others are told."""

from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint
from graphql import get_introspection_query, parse

from bench.documents import make_executor
from schema.context import Context
from server.graphql import GraphQLRequest
from server.graphql.introspection import FOR_CALLERS, OFF, introspects
from server.settings import PREFIX, Settings, SettingsError, load_settings
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, gateway_settings, running_gateway

QUERY = get_introspection_query()
SCHEMA = (Path(__file__).parent.parent / "schema.graphql").read_text()


@pytest.mark.parametrize(
    ("mode", "signed_in", "refusal"),
    [
        ("on", False, None),
        ("signed-in", True, None),
        ("signed-in", False, (FOR_CALLERS, "UNAUTHENTICATED", 401)),
        ("off", True, (OFF, "FORBIDDEN", 403)),
        (False, False, (OFF, "FORBIDDEN", 403)),
    ],
)
async def test_who_may_not_introspect_learns_what_allows_it(
    sqlite_url: str,
    tmp_path: Path,
    fake: FakeModelServer,
    mode: str | bool,
    signed_in: bool,
    refusal: tuple[str, str, int] | None,
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, introspection=mode)
    async with running_gateway(settings, fake) as gateway:
        if mode == "signed-in":  # nobody is answered out of what was kept of a caller's document
            assert "data" in (await gateway.post(QUERY)).json()
        if not signed_in:
            gateway.token = None
        answered: Json = (await gateway.post(QUERY)).json()
        file = await gateway.client.get("/schema.graphql", headers=gateway.headers())
        assert (await gateway.post("{ __typename }")).json()["data"] == {"__typename": "Query"}
    if refusal is None:
        assert answered["data"]["__schema"]["queryType"]["name"] == "Query"
        assert (file.status_code, file.text) == (200, SCHEMA)
    else:
        message, code, status = refusal
        (error,) = answered["errors"]
        assert (error["message"], error["extensions"]["code"], answered.get("data")) == (message, code, None)
        assert (file.status_code, file.text) == (status, f"{message}\n")


async def test_introspection_leaves_the_event_loop_to_others():
    executor = make_executor()
    operation = executor.prepare(GraphQLRequest(QUERY), None)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        await checkpoint()
        before = turns
        response = await executor.execute(operation, Context(cast("Any", None), "1"))
        tasks.cancel_scope.cancel()
    assert response["data"]["__schema"]["queryType"]["name"] == "Query"
    assert turns > before


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ("{ __schema { queryType { name } } }", True),
        ("{ ...A } fragment A on Query { me { id } a: __type(name: \"X\") { name } }", True),
        ("{ __typename me { __typename } }", False),
        ("{ model(name: \"__schema\") { name } __typename }", False),
    ],
)  # fmt: skip
def test_a_document_introspects_where_it_selects_the_schema(document: str, found: bool):
    assert introspects(document, parse(document)) is found


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("true", "on"),
        ("1", "on"),
        ("ON", "on"),
        ("false", "off"),
        ("0", "off"),
        ("no", "off"),
        ("Signed-In", "signed-in"),
        ("signed_in", "signed-in"),
    ],
)
def test_the_setting_takes_words_and_what_means_yes_or_no(monkeypatch: pytest.MonkeyPatch, value: str, mode: str):
    monkeypatch.setenv(f"{PREFIX}INTROSPECTION", value)
    assert load_settings().introspection_mode == mode


def test_another_word_is_refused_with_those_that_are_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"{PREFIX}INTROSPECTION", "sometimes")
    with pytest.raises(SettingsError, match=r"INTROSPECTION: .*'on', 'off' or 'signed-in'"):
        load_settings()


def test_introspection_is_off_in_production_unless_asked_for(tmp_path: Path):
    production: dict[str, Any] = {"environment": "production", "secret_key": "kP9x-2mWq-7fHd-31zT-v8Ra-0bNc-5yLe"}
    modes = [Settings(**it).introspection_mode for it in ({}, production, {**production, "introspection": True})]
    assert modes == ["on", "off", "on"]
