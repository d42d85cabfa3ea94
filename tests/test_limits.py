"""Documents that ask for too much are refused, each with its limit, before anything is validated or run."""

import pytest
from graphql import get_introspection_query

from server.execution import document_limits
from server.settings import Settings
from tests.support.gateways import GraphQLErrors, RunningGateway


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


LIMITS = document_limits(Settings(_env_file=None))

DEEP = "{ me { apiKeys { user { apiKeys { user { apiKeys { user { apiKeys { user { apiKeys { id } } } } } } } } } } }"
BOMB = "{ ...F0 } " + " ".join(
    f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40)
) + " fragment F40 on Query { a: me { id } }"  # fmt: skip
HOSTILE = {
    "characters": "{ me { id } } " + "#" * LIMITS.length,
    "tokens": "{ " + "me " * LIMITS.tokens + "}",
    "levels": DEEP,
    "levels of nesting": "{ me " * 300 + "}" * 300,
    "aliases": "{ " + " ".join(f"a{n}: me {{ id }}" for n in range(LIMITS.aliases + 1)) + " }",
    "aliases in fragments": BOMB,
    "aliases of __typename": "{ me { " + " ".join(f"a{n}: __typename" for n in range(61)) + " } }",
    "root fields": "{ " + "__typename " * (LIMITS.root_fields + 1) + "}",
    "directives": "{ __typename " + "@include(if: true) " * (LIMITS.directives + 1) + "}",
    "fragments": "{ me { ...F0 } } " + " ".join(f"fragment F{n} on User {{ id }}" for n in range(LIMITS.fragments + 1)),
    "levels of introspection": "{ __schema { types " + "{ ofType " * 25 + "{ name }" + " }" * 26 + "}",
    "login fields": 'mutation { a: login(input: {username: "a", password: "b"}) { __typename } '
    'b: login(input: {username: "a", password: "c"}) { __typename } }',
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_document_is_refused_over_http(gateway: RunningGateway, kind: str):
    with pytest.raises(GraphQLErrors) as refusal:
        await gateway.run(HOSTILE[kind])
    assert (refusal.value.code, len(refusal.value.errors)) == ("LIMIT_EXCEEDED", 1)
    assert f"too many {kind.split(' in ')[0].split(' of nest')[0]}" in refusal.value.errors[0]["message"]


async def test_a_hostile_document_is_refused_over_websocket_and_the_socket_lives(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe(BOMB)
        refusal = await socket.receive()
        assert refusal["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        await socket.subscribe("{ me { username } }")
        assert [event async for event in socket.events()] == [{"username": "admin"}]


async def test_a_fragment_that_spreads_itself_is_refused(gateway: RunningGateway):
    with pytest.raises(GraphQLErrors) as refusal:
        await gateway.run("{ ...A } fragment A on Query { ...B } fragment B on Query { me { id } ...A }")
    assert refusal.value.code == "GRAPHQL_VALIDATION_FAILED"


async def test_the_usual_introspection_query_is_answered(gateway: RunningGateway):
    assert (await gateway.run(get_introspection_query()))["__schema"]["queryType"]["name"] == "Query"


async def test_relays_compiler_may_write_one_typename_for_each_refinement(gateway: RunningGateway):
    selected = " ".join(f"... on Node {{ __isNode{n}: __typename }}" for n in range(40))
    assert len((await gateway.run("{ me { id " + selected + " } }"))["me"]) == 41
