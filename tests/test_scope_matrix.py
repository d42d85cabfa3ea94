"""What each scope shows of somebody else: every root field asked for all that it leads to, with real requests.

That a field refuses whoever lacks its scope is tested in `test_directives`. This is about whose data comes back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    value_from_ast_untyped,
)

from auth.scopes import DEVELOPER_SCOPES, Scope
from tests.support.gateways import PASSWORD, RunningGateway
from tests.support.generations import GENERATE, asking
from tests.test_accounts import make, mutate

NAME, KEY, GROUP = "mark-name", "mark-key", "mark-group"
PROMPT, TAG, END_USER, CLIENT = "mark-prompt", "mark-tag", "mark-end-user", "mark-client"

PEOPLE = {NAME, KEY, GROUP, CLIENT}
SHOWN: Mapping[Scope | None, set[str]] = {
    None: set(),
    Scope.USERS_READ: PEOPLE,
    Scope.USERS_WRITE: set(),
    Scope.GENERATIONS_READ_ALL: {PROMPT, TAG, END_USER},
    Scope.USAGE_READ_ALL: {TAG, END_USER},
    Scope.FLEET_WRITE: set(),
    Scope.LIMITS_WRITE: set(),
    Scope.AUDIT_READ: {NAME, KEY, CLIENT},  # the log tells what somebody did, and called things
    Scope.SETTINGS_READ: set(),
}
DEPTH = 3


@dataclass(frozen=True)
class Marked:
    """A user who has one of everything, with the ids of it."""

    ids: Mapping[str, str]
    blob: str

    def arguments(self, root: str) -> list[str]:
        """Give the arguments with which a root field is asked for what is theirs; "" asks without any."""
        user = self.ids["User"]
        if root in {"user", "group", "generation"}:
            return [f'(id: "{id}")' for id in self.ids.values()]
        return {
            "users": [f'(first: 1, filter: {{search: "{NAME}"}})'],
            "groups": [f'(first: 1, search: "{GROUP}")'],
            "apiKeys": ["(first: 2)", f'(first: 2, filter: {{userId: "{user}"}})'],
            "auditLog": [f'(first: 2, filter: {{actorIds: ["{user}"]}})'],
            "generations": ["(first: 2)"],
            "deviceSignInRequest": ['(userCode: "BCDF-GHJK")'],
            "prices": ["(first: 2)"],
            "model": ['(name: "fake:count-3")'],
            "usage": [
                "(input: {groupBy: [API_KEY, TAG, END_USER]})",
                f'(input: {{groupBy: [USER, TAG, END_USER], filter: {{userIds: ["{user}"]}}}})',
                f'(input: {{groupBy: [TAG, END_USER], filter: {{apiKeyIds: ["{self.ids["ApiKey"]}"]}}}})',
                "(input: {groupBy: [USER, API_KEY, TAG, END_USER], filter: {allUsers: true}})",
            ],
        }.get(root, [""])


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return build_schema((Path(__file__).parent.parent / "schema.graphql").read_text())


@pytest.fixture
async def marked(used_gateway: RunningGateway) -> Marked:
    gateway, admin = used_gateway, used_gateway.token
    gateway.client.headers["User-Agent"] = CLIENT
    user = await make(gateway, NAME)
    group = (await mutate(gateway, "createGroup", "group", name=GROUP))["group"]["id"]
    await mutate(gateway, "addGroupMembers", "group", groupId=group, userIds=[user])
    await gateway.sign_in(NAME, PASSWORD)
    session = (await gateway.run("{ viewer { session { id } } }"))["viewer"]["session"]["id"]
    blob = await gateway.client.post("/blobs", content=b"%PDF-1.4", headers=gateway.headers())
    key = await gateway.make_key(KEY)
    gateway.token = key["secret"]
    asked = asking("fake:echo", PROMPT, tags=[{"name": "t", "value": TAG}], endUser=END_USER)
    generation = (await gateway.events(GENERATE, asked))[0]["generationId"]
    gateway.token = admin
    gateway.client.headers["User-Agent"] = "somebody else"
    log = "query($id: ID!) { auditLog(first: 1, filter: {actorIds: [$id]}) { nodes { id } } }"
    [event] = (await gateway.run(log, {"id": user}))["auditLog"]["nodes"]
    ids = {"User": user, "Group": group, "Session": session, "ApiKey": key["apiKey"]["id"], "Generation": generation}
    return Marked({**ids, "AuditEvent": event["id"]}, blob.json()["id"])


def documents(schema: GraphQLSchema, scopes: frozenset[Scope], marked: Marked) -> Iterator[str]:
    """Give queries that ask each root field that these scopes may ask for all that they may ask of it."""
    assert schema.query_type is not None
    for root, field in schema.query_type.fields.items():
        kind = get_named_type(field.type)
        if not _allowed(field, scopes):
            continue
        if kind.name != "Node":
            for arguments in marked.arguments(root):
                yield f"{{ {root}{arguments} {{ {_selection(schema, kind, scopes, DEPTH)} }} }}"
            continue
        for name, id in marked.ids.items():
            given = f'(id: "{id}")' if root == "node" else f'(ids: ["{id}"])'
            below = _selection(schema, schema.type_map[name], scopes, DEPTH - 1)
            yield f"{{ {root}{given} {{ ... on {name} {{ {below} }} }} }}"


def _selection(
    schema: GraphQLSchema, kind: GraphQLNamedType, scopes: frozenset[Scope], depth: int, within: tuple[str, ...] = ()
) -> str:
    if not isinstance(kind, GraphQLObjectType):
        return "__typename"
    found = ["__typename"]
    for name, field in kind.fields.items():
        below = get_named_type(field.type)
        if not _allowed(field, scopes) or any(map(is_required_argument, field.args.values())):
            continue
        if is_leaf_type(below):
            found.append(name)
        elif depth and below.name not in (*within, kind.name) and name != "edges":
            page = "(first: 2)" if "first" in field.args else ""
            found.append(f"{name}{page} {{ {_selection(schema, below, scopes, depth - 1, (*within, kind.name))} }}")
    return " ".join(found)


def _allowed(field: GraphQLField, scopes: frozenset[Scope]) -> bool:
    directives = (field.ast_node and field.ast_node.directives) or ()
    needed: list[list[list[str]]] = [
        value_from_ast_untyped(argument.value)
        for directive in directives
        for argument in directive.arguments or ()
        if directive.name.value == "requiresScopes"
    ]
    names = {scope.name for scope in scopes}
    return all(any(names >= {*alternative} for alternative in alternatives) for alternatives in needed)


def _marks(answer: Any) -> set[str]:
    text = str(answer)
    return {mark for mark in (*PEOPLE, PROMPT, TAG, END_USER) if mark in text}


async def test_each_scope_shows_of_somebody_else_what_it_is_for_and_nothing_more(
    used_gateway: RunningGateway, schema: GraphQLSchema, marked: Marked
):
    session, shown = used_gateway.token, dict[Scope | None, set[str]]()
    for scope in SHOWN:
        scopes = DEVELOPER_SCOPES | ({scope} if scope else set())
        used_gateway.token = session
        key = await used_gateway.make_key("mine", scopes=[it.name for it in scopes])
        used_gateway.token = key["secret"]
        shown[scope] = set()
        for document in documents(schema, scopes, marked):
            answer = (await used_gateway.post(document)).json()
            codes = {error["extensions"]["code"] for error in answer.get("errors", [])}
            assert codes <= {"FORBIDDEN", "INVALID_INPUT", "NOT_FOUND"}, (document, answer)
            shown[scope] |= _marks(answer.get("data"))
        watching = "subscription($id: ID!) { generation(id: $id) { ... on TextDelta { text } } }"
        watched = await used_gateway.post(watching, {"id": marked.ids["Generation"]}, Accept="text/event-stream")
        shown[scope] |= _marks(watched.text)
        blob = await used_gateway.client.get(f"/blobs/{marked.blob}", headers=used_gateway.headers())
        assert blob.status_code == 404
    assert shown == SHOWN
    assert set(SHOWN) == {None, *(set(Scope) - DEVELOPER_SCOPES)}
