"""What is reached over another object needs what reading it directly needs: no way round a scope."""

from typing import Any

import pytest
from graphql import GraphQLInterfaceType, GraphQLObjectType, GraphQLSchema, get_named_type

from resolvers.root import build_schema
from tests.support.gateways import Json, RunningGateway
from tests.support.generations import COMPLETE, START, asking
from tests.support.http_streams import http_stream


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


NEEDED = {"User": "PROFILE_READ", "ApiKey": "KEYS_READ", "Model": "MODELS_READ"}
"""The types that have a scope of their own, and which. A Generation is given only to who may read it, or began or
ended it."""

ROOTS = {"Query", "Mutation", "Subscription"}

EDGES: dict[str, tuple[list[str], str]] = {
    "Generation.user": (["GENERATIONS_READ"], "{ generations { nodes { id user { id } } } }"),
    "Generation.apiKey": (["GENERATIONS_READ"], "{ generations { nodes { id apiKey { id } } } }"),
    "Generation.model": (["GENERATIONS_READ"], "{ generations { nodes { id model { id } } } }"),
    "GenerationStarted.model": (
        ["GENERATIONS_WRITE"],
        'subscription { generate(input: {model: "fake:count-3", prompt: {text: "x"}}) {'
        " ... on GenerationStarted { model { id } } } }",
    ),
    "UsageRow.apiKey": (
        ["USAGE_READ"],
        "{ usage(input: {groupBy: [API_KEY]}) { rows { nodes { apiKey { id } totals { generations } } } } }",
    ),
    "UsageRow.user": (["USAGE_READ"], "{ usage { rows { nodes { user { id } totals { generations } } } } }"),
    "AuditEvent.actor": (["AUDIT_READ"], "{ auditLog { nodes { id actor { id } } } }"),
    "AuditEvent.apiKey": (["AUDIT_READ"], "{ auditLog { nodes { id apiKey { id } } } }"),
    "Viewer.user": (["MODELS_READ"], "{ viewer { user { id } } }"),
    "User.apiKeys": (["PROFILE_READ"], "{ me { apiKeys { id } } }"),
    "Price.setBy": (
        ["LIMITS_WRITE"],
        'mutation { setPrice(input: {model: "fake:*", currency: "EUR", promptPerMillion: 1, completionPerMillion: 2}) {'
        " ... on SetPriceSuccess { price { setBy { id } } } } }",
    ),
    "ApiKey.user": (
        ["KEYS_WRITE"],
        'mutation { createApiKey(input: {name: "x", scopes: [KEYS_WRITE]}) {'
        " ... on CreateApiKeySuccess { apiKey { user { id } } } } }",
    ),
}
"""Each edge to such a type, with scopes that reach it and do not suffice, and a query that goes over it."""

GIVEN = {
    "Viewer.apiKey": "it is the key that asks, which may describe itself",
    "LoginSuccess.user": "who signs in has no scopes yet, and is told who they are",
    "DeviceSignInSuccess.user": "as above",
    "LinkProviderSuccess.user": "its mutation needs PROFILE_WRITE, and it is the caller",
    "UnlinkProviderSuccess.user": "its mutation needs PROFILE_WRITE, and to see others USERS_READ",
    "CreateApiKeySuccess.apiKey": "its mutation needs KEYS_WRITE, or USERS_WRITE",
    "UpdateApiKeySuccess.apiKey": "as above",
    "RotateApiKeySuccess.apiKey": "as above",
    "RevokeApiKeySuccess.apiKey": "as above",
    "ApiKeyConnection.nodes": "its query needs KEYS_READ, or USERS_READ",
    "ApiKeyEdge.node": "as above",
    "CreateServiceAccountSuccess.user": "its mutation needs USERS_WRITE",
    "UserEdge.node": "its list needs USERS_READ",
    "UserConnection.nodes": "its list needs USERS_READ",
    "ChangePasswordSuccess.user": "its mutation needs PROFILE_WRITE, and it is the caller",
    "UpdateProfileSuccess.user": "its mutation needs PROFILE_WRITE, and it is the caller",
    **{
        f"{name}Success.user": "its mutation needs USERS_WRITE, and to see others USERS_READ"
        for name in (
            *("CreateUser", "InviteUser", "UpdateUser", "DeactivateUser", "ReactivateUser", "DeleteUser"),
            "CreatePasswordReset",
        )
    },
}
"""The edges that are no way round anything, and why."""


def edges(schema: GraphQLSchema) -> set[str]:
    """Every field of every type that leads to one of these types."""
    return {
        f"{kind.name}.{name}"
        for kind in schema.type_map.values()
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and kind.name not in ROOTS
        for name, field in kind.fields.items()
        if get_named_type(field.type).name in NEEDED
    }


def test_every_edge_to_a_type_with_a_scope_is_tried_here():
    assert edges(build_schema()._schema) == EDGES.keys() | GIVEN.keys()


async def over(gateway: RunningGateway, scopes: list[str], query: str) -> Json:
    """The whole response to a query that is sent with a key of these scopes, which has generated something."""
    asked = await gateway.make_key(scopes=["GENERATIONS_WRITE"])
    session, gateway.token = gateway.token, asked["secret"]
    await gateway.run(COMPLETE, asking("fake:count-3"))
    gateway.token = session
    gateway.token = (await gateway.make_key(scopes=scopes))["secret"]
    if not query.startswith("subscription"):
        return (await gateway.post(query)).json()
    async with http_stream(gateway, "text/event-stream", query) as stream:
        payloads = [block["payload"] async for block in stream.blocks if "payload" in block]
    return next((payload for payload in payloads if "errors" in payload), payloads[0])


@pytest.mark.parametrize("edge", EDGES)
async def test_an_edge_without_its_scope_is_forbidden(gateway: RunningGateway, edge: str):
    scopes, query = EDGES[edge]
    response = await over(gateway, scopes, query)
    kind = edge.rpartition(".")[2]
    needed = {"actor": "User", "user": "User", "setBy": "User", "model": "Model"}.get(kind, "ApiKey")
    assert {error["extensions"]["code"] for error in response["errors"]} == {"FORBIDDEN"}
    assert NEEDED[needed] in response["errors"][0]["message"]
    assert response["errors"][0]["path"][-1] == kind


@pytest.mark.parametrize("edge", EDGES)
async def test_with_the_scope_it_is_there(gateway: RunningGateway, edge: str):
    scopes, query = EDGES[edge]
    more = ["PROFILE_READ", "KEYS_READ", "MODELS_READ"]
    response = await over(gateway, [*scopes, *(scope for scope in more if scope not in scopes)], query)
    assert "errors" not in response


@pytest.mark.parametrize(
    "query", ["{ generations { nodes { id user { id } } } }", "{ generations { nodes { id apiKey { id } } } }"]
)
async def test_what_stands_beside_a_forbidden_edge_is_there(own_gateway: RunningGateway, query: str):
    response: dict[str, Any] = await over(own_gateway, ["GENERATIONS_READ"], query)
    [node] = response["data"]["generations"]["nodes"]
    assert node["id"]


async def test_a_key_that_may_only_ask_gets_its_answer(gateway: RunningGateway):
    gateway.token = (await gateway.make_key(scopes=["GENERATIONS_WRITE"]))["secret"]
    assert (await gateway.run(START, asking("fake:count-3")))["startGeneration"]["generation"]["id"]
