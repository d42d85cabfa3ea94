"""Who has no valid credentials may sign in and little else, and learns that before anything dear is done for them."""

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.support.gateways import GraphQLErrors, Json, RunningGateway
from tests.support.generations import GENERATE
from tests.support.http_streams import EVENT_STREAM, MULTIPART

NEW = "application/graphql-response+json"
NO_SENSE = {"input": {"nothing": "of the kind"}}
"""Variables that coercion refuses, for whom it is done."""

INVALID = "mutation($input: GenerateInput!) { generate(input: $input) { nothing } }"
"""A document that validation refuses, for whom it is done."""

LOGIN = "mutation($input: LoginInput!) { login(input: $input) { __typename } }"
CREDENTIALS = {"missing": {}, "invalid": {"Authorization": "Bearer olg_nonsense"}, "malformed": {"X-API-Key": "x"}}


async def ask(gateway: RunningGateway, query: str, variables: Json | None = None, **headers: str) -> httpx.Response:
    body = {"query": query, "variables": variables or {}}
    return await gateway.client.post("/graphql", json=body, headers=headers)


def codes(response: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json()["errors"]]


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (INVALID, {}),
        ("mutation($input: GenerateInput!) { generate(input: $input) { __typename } }", NO_SENSE),
        ("{ me { id } models { name } }", {}),
        ("{ me { id } ...F } fragment F on Query { ... { usage { totals { generations } } } }", {}),
        ('{ node(id: "x") { id } }', {}),
        ('query A { me { id } } query B { a: generation(id: "x") { id } }', {}),
    ],
)
async def test_other_root_fields_are_refused_before_anything_is_checked(
    shared_gateway: RunningGateway, credentials: str, query: str, variables: Json
):
    body = {"query": query, "variables": variables, "operationName": "B" if "query B" in query else None}
    response = await shared_gateway.client.post("/graphql", json=body, headers=CREDENTIALS[credentials])
    assert codes(response) == ["UNAUTHENTICATED"]
    assert response.json()["data"] is None


@pytest.mark.parametrize("accept", [EVENT_STREAM, MULTIPART])
async def test_a_stream_is_refused_before_its_variables_are_read(shared_gateway: RunningGateway, accept: str):
    response = await ask(shared_gateway, GENERATE, NO_SENSE, Accept=accept)
    assert response.headers["content-type"].startswith(accept.split(";")[0])
    assert "UNAUTHENTICATED" in response.text
    assert "VALIDATION" not in response.text


async def test_an_operation_on_a_socket_is_refused_before_its_variables_are_read(shared_gateway: RunningGateway):
    async with shared_gateway.connect(init={}) as socket:
        await socket.subscribe(GENERATE, NO_SENSE)
        refusal = await socket.receive()
    assert (refusal["type"], refusal["payload"][0]["extensions"]["code"]) == ("error", "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ me { nothing } }", "GRAPHQL_VALIDATION_FAILED"),
        ("query A { me { id } } query B { me { id } }", "GRAPHQL_VALIDATION_FAILED"),
        (LOGIN, "GRAPHQL_VALIDATION_FAILED"),
        ("{ me { " + "id " * 11 + "} }", "LIMIT_EXCEEDED"),
    ],
)
async def test_what_is_wrong_with_a_document_is_told_to_everybody(
    shared_gateway: RunningGateway, query: str, code: str
):
    response = await ask(shared_gateway, query, Accept=NEW)
    assert (response.status_code, codes(response)) == (400, [code])


@pytest.mark.parametrize(
    "query", ["{ me { id } __typename }", "{ __schema { queryType { name } } }", "mutation { __typename }"]
)
async def test_what_needs_no_credentials_is_answered(shared_gateway: RunningGateway, query: str):
    assert "errors" not in (await ask(shared_gateway, query)).json()


async def test_a_document_that_somebody_else_sent_before_is_still_refused(shared_gateway: RunningGateway):
    query = "{ models { name } } # known"
    assert (await shared_gateway.run(query))["models"]
    assert codes(await ask(shared_gateway, query)) == ["UNAUTHENTICATED"]


async def test_credentials_that_cannot_be_checked_are_no_reason_to_read_on(gateway: RunningGateway):
    gateway.token = (await gateway.make_key())["secret"]
    async with gateway.database.transaction() as tx:
        await tx.execute(text("DROP TABLE api_keys"))
    response = await ask(gateway, INVALID, **gateway.headers())
    assert codes(response) == ["INTERNAL_ERROR"]


def large(gateway: RunningGateway) -> bytes:
    """A body over the limit for those whom nobody knows."""
    size = gateway.settings.max_anonymous_body_size + 1
    return json.dumps({"query": "{ me { id } }", "variables": {"x": "y" * size}}).encode()


async def pieces(body: bytes) -> Any:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_without_credentials_is_413_and_names_the_setting(
    shared_gateway: RunningGateway, chunked: bool
):
    body = large(shared_gateway)
    headers = {"Content-Type": "application/json"}
    content = pieces(body) if chunked else body
    response = await shared_gateway.client.post("/graphql", content=content, headers=headers)
    assert (response.status_code, codes(response)) == (413, ["LIMIT_EXCEEDED"])
    assert "OLLAGRAPH_MAX_ANONYMOUS_BODY_SIZE" in response.text


async def test_a_large_body_with_credentials_that_do_not_hold_is_401_and_tells_why(shared_gateway: RunningGateway):
    headers = {"Content-Type": "application/json", **CREDENTIALS["invalid"]}
    response = await shared_gateway.client.post("/graphql", content=large(shared_gateway), headers=headers)
    assert (response.status_code, codes(response)) == (401, ["UNAUTHENTICATED"])
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_large_query_string_without_credentials_is_refused_too(shared_gateway: RunningGateway):
    params = {"query": "{ me { id } }", "variables": json.dumps({"x": "y" * 20_000})}
    response = await shared_gateway.client.get("/graphql", params=params)
    assert (response.status_code, codes(response)) == (413, ["LIMIT_EXCEEDED"])


async def test_a_large_body_of_a_known_caller_is_taken(shared_gateway: RunningGateway):
    headers = {"Content-Type": "application/json", **shared_gateway.headers()}
    response = await shared_gateway.client.post("/graphql", content=large(shared_gateway), headers=headers)
    assert response.json()["data"]["me"]


LISTS: dict[str, Any] = {
    "messages": {"prompt": {"messages": [{"role": "USER"}] * 12_500}},
    "within a message": {"prompt": {"messages": [{"role": "USER", "parts": [{"text": "x"}] * 501}]}},
    "within JSON": {"tools": [{"name": "t", "parameters": {"enum": [1] * 501}}]},
    "all together": {"prompt": {"messages": [{"role": "USER", "parts": [{"text": "x"}] * 100}] * 300}},
    "keys": {f"key{number}": 1 for number in range(10_001)},
}


@pytest.mark.parametrize("kind", LISTS)
async def test_variables_that_are_too_many_are_refused_before_they_are_coerced(
    shared_gateway: RunningGateway, kind: str
):
    query = "mutation($input: GenerateInput!) { generate(input: $input) { __typename } }"
    with pytest.raises(GraphQLErrors) as refusal:
        await shared_gateway.run(query, {"input": LISTS[kind]})
    assert refusal.value.code == "LIMIT_EXCEEDED"
    assert "OLLAGRAPH_MAX_" in refusal.value.errors[0]["message"]


async def test_variables_that_no_operation_declares_count_too(shared_gateway: RunningGateway):
    with pytest.raises(GraphQLErrors, match="LIMIT_EXCEEDED"):
        await shared_gateway.run("{ me { id } }", {"x": [1] * 501})


async def test_a_conversation_within_the_limits_is_answered(gateway: RunningGateway):
    messages = [{"role": "USER", "text": "x"}] * 500
    [*_, last] = await gateway.events(GENERATE, {"input": {"model": "fake:count-3", "prompt": {"messages": messages}}})
    assert last["__typename"] == "GenerationCompleted"
    assert len((await gateway.fake.request()).body["messages"]) == 500


SECRET = "hunter2 is nobody's business"
REPEATING = [
    (LOGIN, {"input": {"username": "a", "password": {"x": SECRET}}}),
    (LOGIN, {"input": {"username": "a", "password": [SECRET]}}),
    (LOGIN, {"input": {"password": SECRET}}),
    (LOGIN, {"input": {"username": "a", "password": SECRET, "usernam": "a"}}),
    (LOGIN, {"input": SECRET}),
    (LOGIN, {"input": [SECRET]}),
    (f'mutation {{ login(input: {{password: "{SECRET}"}}) {{ __typename }} }}', {}),
    (f'mutation {{ login(input: {{username: 5, password: "{SECRET}", x: 1}}) {{ __typename }} }}', {}),
    (f'mutation {{ login(input: "{SECRET}") {{ __typename }} }}', {}),
    (f'mutation {{ login(input: {{username: "a", password: {{x: "{SECRET}"}}}}) {{ __typename }} }}', {}),
    (f'mutation {{ login(input: {{username: "a", password "{SECRET}"}}) {{ __typename }} }}', {}),
    (f'mutation {{ login(input: """{SECRET}""" """x""") {{ __typename }} }}', {}),
    (f'{{ me @include(if: "{SECRET}") {{ id }} }}', {}),
    (f'{{ __type(name: {{x: "{SECRET}"}}) {{ name }} }}', {}),
    ("query($x: Boolean!) { me @include(if: $x) { id } }", {"x": SECRET}),
    ("query($x: Boolean!) { me @include(if: $x) { id } }", {"x": {"x": SECRET}}),
    (f'query($x: Int = "{SECRET}") {{ me {{ id }} }}', {}),
]


@pytest.mark.parametrize(("query", "variables"), REPEATING)
async def test_no_error_repeats_a_value_that_was_sent(shared_gateway: RunningGateway, query: str, variables: Json):
    response = await ask(shared_gateway, query, variables)
    assert response.json()["errors"]
    assert "hunter2" not in response.text


@pytest.mark.parametrize(
    "query",
    [
        "{ me { " + "a" * 10_000 + " } }",
        "{ me { ..." + "a" * 10_000 + " } }",
        "query " + "a" * 10_000 + " { me { id } } query b { nothing }",
        "{ generations(first: " + "9" * 5_000 + ") { __typename } }",
    ],
)
async def test_no_error_is_as_long_as_what_was_sent(shared_gateway: RunningGateway, query: str):
    response = await ask(shared_gateway, query, **shared_gateway.headers())
    assert response.json()["errors"]
    assert len(response.text) < 3_000
    assert "4300" not in response.text


async def test_an_unknown_operation_name_is_repeated_in_part_only(shared_gateway: RunningGateway):
    body = {"query": "{ me { id } }", "operationName": "x" * 5_000}
    response = await shared_gateway.client.post("/graphql", json=body)
    assert len(response.text) < 1_000
