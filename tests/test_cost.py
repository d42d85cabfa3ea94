"""What operations cost: told with every answer, and refused where it is too much."""

from pathlib import Path

import pytest
from graphql import GraphQLObjectType

from resolvers.root import build_schema
from schema.identity import ASSUMED_API_KEYS
from schema.node import MAX_PAGE
from server.settings import Settings
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import GraphQLErrors, Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import COMPLETE, GENERATE, asking

PAGE = "query($first: Int = 7) { generations(first: $first) { nodes { id } } }"
NODES = 'query($ids: [ID!]! = ["a", "b", "c"]) { nodes(ids: $ids) { id } }'

COSTS: list[tuple[str, Json, int]] = [
    ("{ __typename }", {}, 0),
    ("{ me { username } }", {}, 1),
    ("{ me { groups { id members(first: 1) { nodes { id } } } } }", {}, 1 + 40 * (1 + 1 + 1)),
    ("{ users { nodes { groups { id } } } }", {}, 1 + 20 * (1 + 40)),
    ("{ me { id apiKeys { id user { id } } } }", {}, 1 + 100 * 2),
    ("{ models { name } }", {}, 50),
    ("{ a: models { deployments { backend } } b: models { deployments { loaded } } }", {}, 2 * 50 * (1 + 2)),
    ("{ generations { nodes { id } } }", {}, 1 + 20),
    ("{ generations(first: 3) { nodes { id } pageInfo { endCursor } } }", {}, 1 + 3 + 1),
    ("{ generations(first: 3) { edges { cursor node { id usage { source } } } } }", {}, 1 + 3 * 3),
    ("{ generations(first: 3) { ...A } } fragment A on GenerationConnection { nodes { user { id } } }", {}, 1 + 3 * 2),
    ("{ a: generations(first: 3) { ...A } b: generations(first: 5) { ...A } } "
     "fragment A on GenerationConnection { nodes { id } }", {}, 2 + 3 + 5),
    (PAGE, {}, 1 + 7),
    (PAGE, {"first": 9}, 1 + 9),
    ("{ node(id: \"x\") { ... on User { apiKeys { id } } } }", {}, 1 + 100),
    ("{ nodes(ids: [\"x\", \"y\"]) { id ... on ApiKey { user { id } } } }", {}, 2 * 2),
    (NODES, {"ids": ["x"] * 7}, 7),
    (NODES, {"ids": "x"}, 1),
    (NODES, {"ids": []}, 1),
    (NODES, {}, 3),
    ("{ usage { totals { generations } rows(first: 9) { nodes { totals { generations } } } } }", {}, 3 + 9 * 2),
    ("{ usage { rows { edges { node { model } } } } }", {}, 2 + 100 * 2),
    ("{ generations(first: 3) { nodes { text } } }", {}, 1 + 3 * (1 + 10)),
    ("{ __schema { types { name } } }", {}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("query", "variables", "cost"), COSTS)
async def test_an_answer_tells_what_it_cost(shared_gateway: RunningGateway, query: str, variables: Json, cost: int):
    response = (await shared_gateway.post(query, variables)).json()
    assert response["extensions"] == {"cost": {"requestedQueryCost": cost, "maximumAvailable": 1000}}


@pytest.mark.parametrize("inner", ["groups { id }", "groups { members(first: 1) { nodes { groups { id } } } }"])
async def test_groups_of_members_of_groups_cost_too_much(shared_gateway: RunningGateway, inner: str):
    with pytest.raises(GraphQLErrors) as refusal:
        await shared_gateway.run(f"{{ me {{ groups {{ members(first: 1) {{ nodes {{ {inner} }} }} }} }} }}")
    assert refusal.value.code == "LIMIT_EXCEEDED"


def test_every_page_is_counted_as_no_longer_than_its_field_allows():
    """What a field takes and what the cost assumes is one constant: each field that has pages names it."""
    paged = [
        (f"{kind.name}.{name}", field.args["first"])
        for kind in build_schema()._schema.type_map.values()
        if isinstance(kind, GraphQLObjectType)
        for name, field in kind.fields.items()
        if "first" in field.args
    ]
    assert {name for name, _ in paged} == {
        *("Query.apiKeys", "Query.auditLog", "Query.generations", "Query.users", "Query.groups"),
        "Query.prices",
        *("Group.members", "UsageReport.rows"),
    }
    for name, first in paged:
        assert str(first.description).startswith(f"How many, 1 to {MAX_PAGE}"), name
        assert 1 <= first.default_value <= MAX_PAGE, name


@pytest.mark.parametrize("first", [0, MAX_PAGE + 1])
@pytest.mark.parametrize(
    "query", ["generations(first: $first) { edges { cursor } }", "usage { rows(first: $first) { edges { cursor } } }"]
)
async def test_a_page_of_another_size_is_refused(shared_gateway: RunningGateway, query: str, first: int):
    with pytest.raises(GraphQLErrors, match=f"first: must be from 1 to {MAX_PAGE}") as refusal:
        await shared_gateway.run(f"query($first: Int) {{ {query} }}", {"first": first})
    assert refusal.value.code == "INVALID_INPUT"


async def test_null_is_the_usual_page(shared_gateway: RunningGateway):
    data = await shared_gateway.run("{ generations(first: null) { edges { cursor } } }")
    assert data["generations"] == {"edges": []}


async def test_the_same_document_costs_what_its_variables_make_it(shared_gateway: RunningGateway):
    costs = [
        (await shared_gateway.post(PAGE, {"first": first})).json()["extensions"]["cost"]["requestedQueryCost"]
        for first in (1, 100, 1)
    ]
    assert costs == [2, 101, 2]


async def test_a_generation_costs_a_hundred(gateway: RunningGateway):
    response = (await gateway.post(COMPLETE, asking("fake:count-3"))).json()
    assert response["extensions"]["cost"]["requestedQueryCost"] >= 100


def test_a_list_of_keys_costs_as_many_as_a_user_may_have_by_default():
    assert Settings.model_fields["max_api_keys_per_user"].default == ASSUMED_API_KEYS


async def test_a_list_of_keys_costs_more_where_a_user_may_have_more(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, max_api_keys_per_user=ASSUMED_API_KEYS + 50)
    async with running_gateway(settings, fake) as gateway:
        response = (await gateway.post("{ me { apiKeys { id } } }")).json()
    assert response["extensions"]["cost"]["requestedQueryCost"] == 1 + ASSUMED_API_KEYS + 50


COSTLY = "query($n: Int!) { generations(first: $n) { nodes { user { apiKeys { id } } } } }"


@pytest.mark.parametrize("first", [100, 10**9])
async def test_what_may_cost_too_much_is_refused_with_its_cost(shared_gateway: RunningGateway, first: int):
    with pytest.raises(GraphQLErrors) as refusal:
        await shared_gateway.run(COSTLY, {"n": first})
    extensions = refusal.value.errors[0]["extensions"]
    assert (refusal.value.code, extensions["limit"], extensions["cost"]) == ("LIMIT_EXCEEDED", 1000, 1 + 100 * 102)


@pytest.mark.parametrize("first", ["many", None, 1.5, [], -5])
async def test_a_page_that_is_no_number_is_refused_as_such(shared_gateway: RunningGateway, first: object):
    with pytest.raises(GraphQLErrors) as refusal:
        await shared_gateway.run("query($n: Int!) { generations(first: $n) { nodes { id } } }", {"n": first})
    assert refusal.value.code in {"GRAPHQL_VALIDATION_FAILED", "INVALID_INPUT"}


async def test_a_costly_subscription_is_an_error_of_its_own(shared_gateway: RunningGateway):
    query = GENERATE.replace(
        "state error", "user { apiKeys { user { apiKeys { user { apiKeys { id } } } } } } state error"
    )
    async with shared_gateway.connect() as socket:
        await socket.subscribe(query, asking("fake:count-3"))
        refusal = await socket.receive()
    assert (refusal["type"], refusal["payload"][0]["extensions"]["code"]) == ("error", "LIMIT_EXCEEDED")
