"""The character U+0000, which PostgreSQL stores in no text: whatever holds it is refused, or finds nothing."""

from schema.node import global_id
from tests.support.gateways import Json, RunningGateway

NUL = "a\0b"
SECOND = "{ __typename }"

ASKED: list[tuple[str, Json]] = [
    ("query($x: String!) { model(name: $x) { id } }", {"x": NUL}),
    ("query($x: String!) { models(filter: {nameContains: $x, backend: $x}) { id } }", {"x": NUL}),
    ("query($x: String!) { generations(filter: {model: $x}) { nodes { id } } }", {"x": NUL}),
    ("query($x: String!) { generations(after: $x) { nodes { id } } }", {"x": NUL}),
    ("query($x: ID!) { generation(id: $x) { id } }", {"x": NUL}),
    ("query($x: ID!) { node(id: $x) { id } nodes(ids: [$x]) { id } }", {"x": NUL}),
    ("query($x: String!) { usage(input: {filter: {models: [$x], backends: [$x]}}) { from } }", {"x": NUL}),
    ("query($x: String!) { usage(input: {timeZone: $x}) { totals { generations } } }", {"x": NUL}),
    ("mutation($x: String!) { login(input: {username: $x, password: $x}) { __typename } }", {"x": NUL}),
    ("mutation($x: String!) { createApiKey(input: {name: $x}) { __typename } }", {"x": NUL}),
    ("mutation($x: String!, $y: [String!]) "
     "{ createApiKey(input: {name: $x, models: $y, allowedOrigins: $y, allowedNetworks: $y}) { __typename } }",
     {"x": "k", "y": [NUL]}),
    ("query($x: String!) { apiKeys(filter: {search: $x}) { nodes { id } } }", {"x": NUL}),
    ("mutation($x: String!) { createServiceAccount(input: {username: $x, role: $x, displayName: $x}) { __typename } }",
     {"x": NUL}),
    ("mutation($x: ID!) { rotateApiKey(input: {id: $x}) { __typename } }", {"x": NUL}),
    ("mutation($x: ID!) { revokeApiKey(input: {id: $x}) { __typename } }", {"x": NUL}),
    ("mutation($x: ID!) { cancelGeneration(input: {id: $x}) { __typename } }", {"x": NUL}),
    ("query($x: String!) { users(filter: {search: $x}) { nodes { id } } groups(search: $x) { nodes { id } } }",
     {"x": NUL}),
    ("query($x: String!) { users(filter: {role: $x}) { nodes { id } } }", {"x": NUL}),
    ("query($x: String!) { users(after: $x) { nodes { id } } groups(after: $x) { nodes { id } } }", {"x": NUL}),
    ("query($x: String!) { users(after: $x) { nodes { id } } }", {"x": global_id("UserCursor", NUL)}),
    ("query($x: ID!) { user(id: $x) { id } group(id: $x) { id } }", {"x": NUL}),
    ("mutation($x: String!) { createUser(input: {username: $x, password: $x, role: $x, email: $x}) { __typename } }",
     {"x": NUL}),
    ("mutation($x: String!) { inviteUser(input: {username: \"ada\", role: $x}) { __typename } }", {"x": NUL}),
    ("mutation($x: String!) { createRole(input: {name: $x, description: $x, scopes: [USAGE_READ]}) { __typename } }",
     {"x": NUL}),
    ("mutation($x: String!) { deleteRole(input: {name: $x}) { __typename } }", {"x": NUL}),
    ("mutation($x: String!) { createGroup(input: {name: $x, description: $x, models: [$x]}) { __typename } }",
     {"x": NUL}),
    ("mutation($x: String!) { updateProfile(input: {displayName: $x, email: $x}) { __typename } }", {"x": NUL}),
    ("mutation($x: String!) { changePassword(input: {currentPassword: $x, newPassword: $x}) { __typename } }",
     {"x": NUL}),
    ("mutation($x: String!) { setPassword(input: {token: $x, password: $x}) { __typename } }", {"x": NUL}),
    ("mutation($i: GenerateInput!) { startGeneration(input: $i) { __typename } }",
     {"i": {"model": NUL, "prompt": {"text": "x"}}}),
    ("mutation($i: GenerateInput!) { startGeneration(input: $i) { __typename } }",
     {"i": {"model": "fake:count-3", "prompt": {"text": "x"}, "idempotencyKey": NUL, "endUser": NUL,
            "tags": [{"name": NUL, "value": NUL}], "options": {"stop": [NUL]}}}),
]  # fmt: skip


async def test_no_text_with_it_is_a_fault_of_the_gateway(gateway_on_each_database: RunningGateway):
    for query, variables in ASKED:
        answer = (await gateway_on_each_database.post(query, variables)).json()
        codes = {error["extensions"]["code"] for error in answer.get("errors", [])}
        assert not codes & {"INTERNAL_ERROR", "DATABASE_UNAVAILABLE"}, (query, answer)
        assert await gateway_on_each_database.run(SECOND) == {"__typename": "Query"}
