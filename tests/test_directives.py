"""What the printed schema promises with its directives is what the gateway enforces, field by field."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import anyio
import pytest
from graphql import (
    FieldDefinitionNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLObjectType,
    GraphQLSchema,
    InputValueDefinitionNode,
    OperationDefinitionNode,
    build_client_schema,
    get_named_type,
    get_nullable_type,
    introspection_from_schema,
    is_composite_type,
    parse,
    value_from_ast_untyped,
)
from graphql import build_schema as build_from_text

from auth.errors import MissingCredentials
from auth.principal import Principal
from auth.scopes import Scope
from resolvers.root import build_schema
from schema.context import Context
from server.graphql.cost import operation_cost
from server.graphql.document_limits import fragments_of

ROOT = Path(__file__).parent.parent

MAY_REQUIRE = {"access.py", "context.py", "node.py"}
"""Modules that may ask for a scope by a call: what `node` needs depends on the id, so no directive can say it."""

Field = tuple[str, GraphQLField]
Arguments = dict[str, Any]


@pytest.fixture(scope="module")
def printed() -> GraphQLSchema:
    """The schema as a client's tools build it from the file."""
    return build_from_text((ROOT / "schema.graphql").read_text())


@pytest.fixture(scope="module")
def enforced() -> GraphQLSchema:
    return build_schema()._schema


def fields(schema: GraphQLSchema) -> Iterator[tuple[str, str, GraphQLField]]:
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and not kind.name.startswith("__"):
            yield from ((kind.name, name, field) for name, field in kind.fields.items())


def directives(field: GraphQLField) -> dict[str, Arguments]:
    """The directives that are printed on a field, with their arguments."""
    nodes = cast("FieldDefinitionNode", field.ast_node).directives or ()
    return {
        node.name.value: {it.name.value: value_from_ast_untyped(it.value) for it in node.arguments or ()}
        for node in nodes
    }


GUARDS = {"requiresScopes", "authenticated"}

SOMEBODYS = {
    *("User", "UserConnection", "Group", "GroupConnection", "Session"),
    *("ApiKey", "Generation", "GenerationConnection", "UsageReport"),
}
"""The types that belong to a user."""

EVENTS = {"GenerationCompleted", "GenerationCancelled", "GenerationFailed", "GenerateFailure"}

PRIVATE = {("Generation", name) for name in ("text", "thinking", "toolCalls", "input")} | {
    ("User", name) for name in ("displayName", "email", "groups", "lastSignedInAt", "mustChangePassword")
}
"""Fields that hold what people said, or how to reach them."""


class WithoutLoaders(Context):
    """The context of a call that is refused before anything is loaded, so there needs to be no gateway."""

    def __post_init__(self) -> None:
        pass

    def _note_refusal(self, caller: Principal, wanted: str) -> None:
        pass


def refused(schema: GraphQLSchema, kind: str, name: str, principal: Principal | None) -> Exception:
    """What the resolver of a field raises for a caller; its other arguments are not looked at before that."""
    owner = schema.type_map[kind]
    assert isinstance(owner, GraphQLObjectType)
    resolver = owner.fields[name].extensions["strawberry-definition"].base_resolver.wrapped_func
    info = SimpleNamespace(context=WithoutLoaders(cast("Any", None), "id", principal))

    async def call() -> None:
        await resolver(None, info=info)

    with pytest.raises(Exception, match=r".") as found:
        anyio.run(call)
    return found.value


def test_each_field_refuses_whoever_lacks_the_scope_that_it_prints(printed: GraphQLSchema, enforced: GraphQLSchema):
    guarded = {
        (kind, name): directives(field)["requiresScopes"]["scopes"]
        for kind, name, field in fields(printed)
        if "requiresScopes" in directives(field)
    }
    assert {("Query", "models"), ("User", "apiKeys"), ("Subscription", "generate")} <= guarded.keys()
    for (kind, name), alternatives in guarded.items():
        scopes = {Scope[scope] for [scope] in alternatives}
        others = Principal(uuid4(), "ada", frozenset(set(Scope) - scopes))
        message = str(refused(enforced, kind, name, others))
        assert all(scope.name in message for scope in scopes), f"{kind}.{name}"


def test_each_field_that_leads_to_something_of_somebodys_declares_what_it_needs(printed: GraphQLSchema):
    """By whatever way it is reached; what a mutation or a stream answers with was guarded at its root."""
    answers = ("Success", "Connection", "Edge")
    leading = {
        (kind, name): directives(field)
        for kind, name, field in fields(printed)
        if get_named_type(field.type).name in SOMEBODYS and not kind.endswith(answers) and kind not in EVENTS
    }
    assert {("Generation", "user"), ("ApiKey", "user"), ("User", "apiKeys"), ("Query", "generations")} <= leading.keys()
    assert {where for where, found in leading.items() if found.keys().isdisjoint(GUARDS)} == set()


def test_each_field_that_tells_what_people_said_or_who_they_are_declares_what_it_needs(printed: GraphQLSchema):
    named = {(kind, name): directives(field) for kind, name, field in fields(printed) if (kind, name) in PRIVATE}
    assert named.keys() == PRIVATE
    assert {where for where, found in named.items() if found.keys().isdisjoint(GUARDS)} == set()


def test_each_field_that_asks_for_credentials_alone_prints_it(printed: GraphQLSchema, enforced: GraphQLSchema):
    found = [(kind, name) for kind, name, field in fields(printed) if "authenticated" in directives(field)]
    assert found
    assert {type(refused(enforced, kind, name, None)) for kind, name in found} == {MissingCredentials}


def test_no_field_asks_for_a_scope_that_it_does_not_print():
    asking = [
        f"{file.parent.name}/{file.name}"
        for folder in ("schema", "resolvers")
        for file in (ROOT / folder).rglob("*.py")
        if file.name not in MAY_REQUIRE
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"require", "has"}
    ]
    # Which scopes the credentials have is what `viewer` tells; nothing is refused by it.
    assert asking == ["identity/viewer.py"]


def test_each_scope_that_a_description_tells_is_printed(printed: GraphQLSchema):
    told = {
        f"{kind}.{name}": (found[1], directives(field).get("requiresScopes"))
        for kind, name, field in fields(printed)
        if (found := re.search(r"Needs ([A-Z_]+)\.$", field.description or ""))
    }
    assert len(told) > 5
    assert {name: it for name, it in told.items() if it[1] != {"scopes": [[it[0]]]}} == {}


def test_each_list_of_objects_prints_how_long_it_counts_as(printed: GraphQLSchema):
    sized = {
        (get_named_type(field.type).name, inner)
        for _, _, field in fields(printed)
        for inner in directives(field).get("listSize", {}).get("sizedFields", ())
    }
    for kind, name, field in fields(printed):
        is_list = isinstance(get_nullable_type(field.type), GraphQLList)
        if is_list and is_composite_type(get_named_type(field.type)):
            assert ("listSize" in directives(field)) != ((kind, name) in sized), f"{kind}.{name}"


def test_each_connection_prints_how_long_a_page_is(printed: GraphQLSchema):
    for kind, name, field in fields(printed):
        if get_named_type(field.type).name.endswith("Connection"):
            size = directives(field)["listSize"]
            assert size["slicingArguments"] == ["first"], f"{kind}.{name}"
            default = cast("InputValueDefinitionNode", field.args["first"].ast_node).default_value
            assert size["assumedSize"] == value_from_ast_untyped(default), f"{kind}.{name}"


def cost_of(schema: GraphQLSchema, selection: str) -> int:
    document = parse(selection)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    return operation_cost(schema, operation, fragments_of(document), {}, {}).cost


def test_each_field_costs_what_it_prints(printed: GraphQLSchema, enforced: GraphQLSchema):
    for kind, name, field in fields(printed):
        said, is_object = directives(field), is_composite_type(get_named_type(field.type))
        weight = int(said.get("cost", {}).get("weight", is_object))
        size = said.get("listSize", {})
        lists = size.get("sizedFields", ())
        inner = " ".join(f"{inner} {{ __typename }}" for inner in lists) or "__typename"
        for asked in (None, 7) if size.get("slicingArguments") else (None,):
            length = asked or size.get("assumedSize", 1)
            sliced = {"first": "first: 7", "ids": 'ids: ["1", "2", "3", "4", "5", "6", "7"]'}
            arguments = f"({sliced[size['slicingArguments'][0]]})" if asked else ""
            selection = f"{name}{arguments} {{ {inner} }}" if is_object else name
            found = cost_of(enforced, f"{{ node {{ ... on {kind} {{ {selection} }} }} }}") - 1
            assert found == (weight + len(lists) * length if lists else weight * length), f"{kind}.{name}"


@pytest.mark.parametrize("directive", ["requiresScopes", "authenticated", "cost", "listSize"])
def test_whoever_introspects_can_build_the_schema_and_learns_of_the_directives(enforced: GraphQLSchema, directive: str):
    built = build_client_schema(introspection_from_schema(enforced))
    found = built.get_directive(directive)
    assert found is not None
    assert found.description
    assert all(argument.description for argument in found.args.values())
