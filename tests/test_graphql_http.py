"""GraphQL over HTTP: methods, media types, statuses and errors (https://graphql.github.io/graphql-over-http/draft/)."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tests.support.databases import closed_to_all
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import ADMIN, Json, RunningGateway, gateway_settings, running_gateway

ME = "{ me { username } }"
TWO = "query A { me { username } } query B { models { name } }"
NEW = "application/graphql-response+json"
OLD = "application/json"
UTF8 = "; charset=utf-8"


async def ask(gateway: RunningGateway, body: Json, accept: str = NEW, **headers: str) -> httpx.Response:
    sent = {**gateway.headers(), "Accept": accept, **headers}
    return await gateway.client.post("/graphql", json=body, headers=sent)


def code(response: httpx.Response) -> str:
    return response.json()["errors"][0]["extensions"]["code"]


async def test_a_query_by_post(gateway: RunningGateway):
    response = await ask(gateway, {"query": ME})
    assert (response.status_code, response.json()["data"]) == (200, {"me": {"username": ADMIN}})


async def test_a_query_by_get(gateway: RunningGateway):
    query = "query A($id: ID!) { node(id: $id) { id } } query B { me { username } }"
    params = {"query": query, "operationName": "B", "variables": json.dumps({"id": "x"}), "extensions": "{}"}
    response = await gateway.client.get("/graphql", params=params, headers=gateway.headers())
    assert response.json()["data"] == {"me": {"username": ADMIN}}


@pytest.mark.parametrize(
    "params", [{}, {"query": ""}, {"query": ME, "variables": "{"}, {"query": ME, "variables": "5"}]
)
async def test_a_get_that_is_no_request_is_400(shared_gateway: RunningGateway, params: dict[str, str]):
    response = await shared_gateway.client.get("/graphql", params=params)
    assert (response.status_code, code(response)) == (400, "BAD_REQUEST")


async def test_a_mutation_by_get_is_405_and_does_nothing(gateway: RunningGateway):
    query = 'mutation { createApiKey(input: {name: "x"}) { __typename } }'
    response = await gateway.client.get("/graphql", params={"query": query}, headers=gateway.headers())
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert (await gateway.run("{ me { apiKeys { id } } }"))["me"]["apiKeys"] == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_any_other_method_is_405_and_told_which_are_allowed(shared_gateway: RunningGateway, method: str):
    response = await shared_gateway.client.request(method, "/graphql")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, POST")


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (NEW, NEW),
        (OLD, OLD),
        ("*/*", OLD),
        ("application/*", OLD),
        (f"{NEW}, {OLD}", OLD),
        (f"{NEW}, {OLD};q=0.9", NEW),
        (f"{NEW};q=0.5, {OLD};q=0.9", OLD),
        (f"{OLD};q=0, {NEW}", NEW),
        (f"text/html, {NEW};charset=utf-8, */*;q=0.1", NEW),
    ],
)
async def test_the_answer_comes_in_the_media_type_that_is_wanted_most(
    shared_gateway: RunningGateway, accept: str, answered: str
):
    assert (await ask(shared_gateway, {"query": ME}, accept)).headers["Content-Type"] == answered + UTF8


@pytest.mark.parametrize("accept", ["text/html", "image/*", f"{OLD};q=0, {NEW};q=0"])
async def test_a_client_that_wants_neither_media_type_gets_406(shared_gateway: RunningGateway, accept: str):
    response = await ask(shared_gateway, {"query": ME}, accept)
    assert (response.status_code, code(response)) == (406, "BAD_REQUEST")
    assert NEW in response.text


@pytest.mark.parametrize("kind", ["text/plain", "application/graphql", f"{OLD}; charset=utf-16", "multipart/form-data"])
async def test_a_body_that_is_not_json_in_utf8_is_415(shared_gateway: RunningGateway, kind: str):
    content = json.dumps({"query": ME})
    response = await shared_gateway.client.post("/graphql", content=content, headers={"Content-Type": kind})
    assert (response.status_code, code(response)) == (415, "BAD_REQUEST")


async def test_a_body_without_a_type_is_415(gateway: RunningGateway):
    response = await gateway.client.post("/graphql", content=json.dumps({"query": ME}))
    assert response.status_code == 415


@pytest.mark.parametrize("kind", [OLD, "Application/JSON", f'{OLD}; charset="UTF-8"'])
async def test_json_in_utf8_is_read_however_it_is_called(shared_gateway: RunningGateway, kind: str):
    content = json.dumps({"query": ME})
    response = await shared_gateway.client.post("/graphql", content=content, headers={"Content-Type": kind})
    assert response.json()["data"] == {"me": None}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"query": "\xff"}',
        b"5",
        b"null",
        b'"text"',
        b"[]",
        b'[{"query": "{ me { username } }"}]',
        b"{}",
        b'{"query": null}',
        b'{"query": 5}',
        b'{"query": " "}',
        b'{"query": "{ me { id } }", "variables": []}',
        b'{"query": "{ me { id } }", "extensions": "x"}',
        b'{"query": "{ me { id } }", "operationName": 5}',
        b"[" * 10_000,
    ],
    ids=lambda content: repr(content[:40]),
)
@pytest.mark.parametrize("accept", [NEW, OLD])
async def test_a_body_that_is_no_request_is_400(shared_gateway: RunningGateway, content: bytes, accept: str):
    headers = {"Content-Type": OLD, "Accept": accept}
    response = await shared_gateway.client.post("/graphql", content=content, headers=headers)
    assert (response.status_code, code(response)) == (400, "BAD_REQUEST")
    assert "data" not in response.json()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query($id: ID!) { node(id: $id) { id } }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query($id: ID!) { node(id: $id) { id } }", "variables": {"id": []}}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": TWO}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": TWO, "operationName": "C"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "fragment F on User { id }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "{ a" * 30_000}, "LIMIT_EXCEEDED"),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest.mark.parametrize(("accept", "status"), [(NEW, 400), (OLD, 200)])
async def test_a_request_error_has_no_data_and_the_status_of_its_media_type(
    shared_gateway: RunningGateway, body: Json, reason: str, accept: str, status: int
):
    response = await ask(shared_gateway, body, accept)
    assert (response.status_code, code(response)) == (status, reason)
    assert "data" not in response.json()


async def test_the_named_one_of_several_operations_runs(gateway: RunningGateway):
    response = await ask(gateway, {"query": TWO, "operationName": "A"})
    assert response.json()["data"] == {"me": {"username": ADMIN}}


@pytest.mark.parametrize("accept", [NEW, OLD])
async def test_an_error_of_a_field_is_200_beside_the_data(shared_gateway: RunningGateway, accept: str):
    response = await ask(shared_gateway, {"query": '{ me { username } node(id: "x") { id } }'}, accept)
    assert (response.status_code, code(response)) == (200, "INVALID_INPUT")
    assert response.json()["data"] == {"me": {"username": ADMIN}, "node": None}


async def test_a_subscription_in_one_response_is_406_and_told_what_there_is(shared_gateway: RunningGateway):
    response = await ask(shared_gateway, {"query": 'subscription { generation(id: "x") { sequence } }'})
    assert response.status_code == 406
    assert "text/event-stream" in response.text


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    """A body without a Content-Length."""
    for _ in range(0, size, 1_000_000):
        yield b"x" * 1_000_000


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(shared_gateway: RunningGateway, chunked: bool):
    size = shared_gateway.settings.max_body_size + 1
    content = in_pieces(size) if chunked else b"x" * size
    headers = {**shared_gateway.headers(), "Content-Type": OLD}
    response = await shared_gateway.client.post("/graphql", content=content, headers=headers)
    assert (response.status_code, code(response)) == (413, "LIMIT_EXCEEDED")
    assert "OLLAGRAPH_MAX_BODY_SIZE" in response.text


async def test_a_body_at_the_limit_is_taken(gateway: RunningGateway):
    body = json.dumps({"query": ME}).encode().ljust(gateway.settings.max_body_size)
    response = await gateway.client.post("/graphql", content=body, headers={**gateway.headers(), "Content-Type": OLD})
    assert response.json()["data"] == {"me": {"username": ADMIN}}


@pytest.mark.parametrize("body", [{"query": "{"}, {"query": '{ node(id: "x") { id } }'}, {}])
async def test_the_request_id_comes_back_in_the_header_and_in_every_error(shared_gateway: RunningGateway, body: Json):
    response = await ask(shared_gateway, body, **{"X-Request-ID": "trace-42"})
    assert response.headers["X-Request-ID"] == "trace-42"
    assert response.json()["errors"][0]["extensions"]["requestId"] == "trace-42"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\tb", "<script>"])
async def test_a_request_id_that_could_do_harm_is_replaced(shared_gateway: RunningGateway, given: str):
    response = await ask(shared_gateway, {"query": ME}, **{"X-Request-ID": given})
    assert len(response.headers["X-Request-ID"]) == 32


async def test_an_unexpected_error_is_masked_and_logged_with_the_request_id(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
):
    async with gateway.database.transaction() as tx:
        await tx.execute(text("DROP TABLE usage"))
    response = await ask(gateway, {"query": "{ usage { totals { generations } } }"}, **{"X-Request-ID": "trace-42"})
    [error] = response.json()["errors"]
    assert error["message"] == "The gateway failed on this request. Its log has the details."
    assert error["extensions"] == {"code": "INTERNAL_ERROR", "requestId": "trace-42"}
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "trace-42" in record.getMessage()
    assert "no such table: usage" in str(record.exc_text)


async def test_an_unexpected_error_while_signing_in_is_masked_too(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
):
    gateway.token = (await gateway.make_key())["secret"]
    async with gateway.database.transaction() as tx:
        await tx.execute(text("DROP TABLE api_keys"))
    response = await ask(gateway, {"query": "{ models { name } }"})
    assert (response.status_code, code(response)) == (200, "INTERNAL_ERROR")
    assert "api_keys" not in response.text
    assert [record.levelno for record in caplog.records if record.levelno >= logging.ERROR] == [logging.ERROR]


async def test_in_debug_times_and_unexpected_errors_are_told(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, debug=True), fake) as gateway:
        query = {"query": "{ me { username apiKeys { name } } serverInfo { version } }"}
        told = (await ask(gateway, query)).json()["extensions"]["debug"]
        assert {"Query.me", "User.apiKeys", "Query.serverInfo"} <= {field["field"] for field in told["fields"]}
        assert 1 <= told["statements"]["count"] <= 5
        create = {"query": 'mutation { createApiKey(input: {name: "x"}) { __typename } }'}
        assert (await ask(gateway, create)).json()["extensions"]["debug"]["statements"]["count"] >= 1
        token, gateway.token = gateway.token, None
        assert "debug" not in (await ask(gateway, {"query": "{ __typename }"})).json().get("extensions", {})
        gateway.token = token
        async with gateway.database.transaction() as tx:
            await tx.execute(text("DROP TABLE usage"))
        response = await ask(gateway, {"query": "{ usage { totals { generations } } }"})
        assert "no such table: usage" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize("suggestions", [True, False])
async def test_suggestions_can_be_switched_off(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, suggestions: bool
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, suggestions=suggestions)
    async with running_gateway(settings, fake) as gateway:
        response = await ask(gateway, {"query": "{ modles { name } }"})
        assert ("Did you mean 'models'" in response.text) is suggestions


async def test_a_database_that_is_gone_is_told_with_a_code(postgresql_url: str, tmp_path: Path, fake: FakeModelServer):
    async with running_gateway(gateway_settings(tmp_path, postgresql_url, fake.url), fake) as gateway:
        async with closed_to_all(postgresql_url):
            response = await ask(gateway, {"query": "{ models { name } }"})
        [error] = response.json()["errors"]
        assert (error["extensions"]["code"], error["extensions"]["retryable"]) == ("DATABASE_UNAVAILABLE", True)
        assert "postgres" not in response.text
        assert (await gateway.run(ME))["me"] == {"username": ADMIN}
