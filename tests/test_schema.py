"""The published schema: the file is what the gateway serves, nothing in it is unexplained, and no door is unguarded."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import cast

import pytest
import strawberry
from click.testing import CliRunner
from graphql import (
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    OverlappingFieldsCanBeMergedRule,
    get_named_type,
    is_composite_type,
    parse,
    validate,
)
from strawberry.types.base import StrawberryObjectDefinition

from auth import errors as auth_errors
from auth.scopes import Scope
from gateway import errors
from gateway.codes import ErrorCode, TransportErrorCode
from gateway.errors import GatewayError
from gateway.failures import BackendFailure, RecordedError
from gateway.identity import Conflict
from gateway.limits import LimitReached
from gateway.request_limits import TooManyRequests
from gateway.usage.reading import TooManyRows
from resolvers.root import build_schema
from schema.access import SIGNED_IN
from server.cli import main
from tests.support.gateways import RunningGateway

ROOT = Path(__file__).parent.parent

WITHOUT_CREDENTIALS = {
    "me",
    "viewer",
    "login",
    "start_device_sign_in",
    "device_sign_in",
    "refresh_session",
    "register_user",
    "set_password",
    "sign_in_options",
}
WITHOUT_A_SCOPE = {"server_info", "logout", "device_sign_in_request", "approve_device", "deny_device"}


@pytest.fixture(scope="module")
def built() -> strawberry.Schema:
    return build_schema()


@pytest.fixture(scope="module")
def schema(built: strawberry.Schema) -> GraphQLSchema:
    return built._schema


def own_types(schema: GraphQLSchema) -> list[GraphQLNamedType]:
    """The types of the API; those of introspection are the specification's."""
    return [kind for name, kind in schema.type_map.items() if not name.startswith("__")]


def descriptions(schema: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    """Everything that can have a description, by its coordinate (GraphQL specification, section 3.14)."""
    for kind in own_types(schema):
        yield kind.name, kind.description
        if isinstance(kind, GraphQLEnumType):
            yield from ((f"{kind.name}.{name}", value.description) for name, value in kind.values.items())
        if isinstance(kind, GraphQLInputObjectType):
            yield from ((f"{kind.name}.{name}", field.description) for name, field in kind.fields.items())
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in kind.fields.items():
                yield f"{kind.name}.{name}", field.description
                for argument, definition in field.args.items():
                    yield f"{kind.name}.{name}({argument}:)", definition.description


def root_fields(schema: strawberry.Schema) -> Iterator[tuple[str, object]]:
    """The root fields with the functions that resolve them."""
    for root in (schema.query, schema.mutation, schema.subscription):
        definition = cast("StrawberryObjectDefinition", root.__strawberry_definition__)  # pyright: ignore
        for field in definition.fields:
            assert field.base_resolver is not None, f"{field.python_name} has no resolver"
            yield field.graphql_name or field.python_name, field.base_resolver.wrapped_func


def subclasses(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_the_checked_in_schema_is_what_the_gateway_serves():
    exported = CliRunner().invoke(main, ["export-schema"], catch_exceptions=False)
    assert (ROOT / "schema.graphql").read_text() == exported.output, (
        "run: python -m server export-schema > schema.graphql"
    )


def test_everything_in_the_schema_has_a_description(schema: GraphQLSchema):
    missing = [name for name, description in descriptions(schema) if not (description or "").strip()]
    assert missing == []


@pytest.mark.parametrize("name", ["Query.model(name:)", "ErrorCode.NOT_FOUND", "LoginInput.password", "Node.id"])
def test_the_search_for_descriptions_reaches_every_kind_of_thing(schema: GraphQLSchema, name: str):
    assert name in dict(descriptions(schema))


def test_descriptions_are_sentences(schema: GraphQLSchema):
    specified = {"Boolean", "Float", "ID", "Int", "String", "Date", "JSON", "PageInfo"}
    wrong = [
        name
        for name, description in descriptions(schema)
        if name.split(".")[0] not in specified and not (description or "").rstrip().endswith((".", "…`."))
    ]
    assert wrong == []


def test_every_root_field_declares_the_scope_that_it_needs(built: strawberry.Schema):
    unmarked = [name for name, resolver in root_fields(built) if not hasattr(resolver, "needs")]
    assert unmarked == []


def test_only_sign_in_and_me_are_open_to_anybody(built: strawberry.Schema):
    public = {name for name, resolver in root_fields(built) if resolver.is_public}  # pyright: ignore
    assert public == WITHOUT_CREDENTIALS


def test_every_other_root_field_needs_a_known_scope(built: strawberry.Schema):
    needs = {name: resolver.needs for name, resolver in root_fields(built)}  # pyright: ignore
    assert {name for name, needed in needs.items() if SIGNED_IN in needed} == WITHOUT_A_SCOPE
    others = needs.keys() - WITHOUT_CREDENTIALS - WITHOUT_A_SCOPE
    assert all(needs[name] and all(isinstance(it, Scope) for it in needs[name]) for name in others)


def test_the_walk_over_the_root_fields_sees_all_that_the_schema_has(built: strawberry.Schema, schema: GraphQLSchema):
    roots = [schema.query_type, schema.mutation_type, schema.subscription_type]
    assert len(list(root_fields(built))) == sum(len(root.fields) for root in roots if root)


def test_each_member_of_a_result_is_its_success_or_an_error(schema: GraphQLSchema):
    unions = [kind for kind in own_types(schema) if isinstance(kind, GraphQLUnionType) and kind.name != "GenerateEvent"]
    assert unions
    for union in unions:
        assert union.name.endswith("Result")
        wanted = union.name.removesuffix("Result") + "Success"
        errors = [member for member in union.types if member.name != wanted]
        assert len(errors) == len(union.types) - 1, f"{union.name} has no {wanted}"
        assert all("UserError" in {interface.name for interface in member.interfaces} for member in errors)


def test_what_generate_sends_is_an_event_of_a_generation_or_the_refusal(schema: GraphQLSchema):
    union, interface = schema.type_map["GenerateEvent"], schema.type_map["GenerationEvent"]
    assert isinstance(union, GraphQLUnionType)
    assert isinstance(interface, GraphQLInterfaceType)
    events = {kind.name for kind in schema.get_implementations(interface).objects}
    assert {kind.name for kind in union.types} == events | {"GenerationRefused"}


def test_all_that_a_field_may_give_can_be_selected_at_once(schema: GraphQLSchema):
    """Fields of one name have one type in all members: else every client has to write aliases."""

    def fields(kind: GraphQLObjectType) -> str:
        names = (
            f"{name} {{ __typename }}" if is_composite_type(get_named_type(field.type)) else name
            for name, field in kind.fields.items()
            if not field.args
        )
        return f"... on {kind.name} {{ {' '.join(names)} }}"

    for root, keyword in ((schema.mutation_type, "mutation"), (schema.subscription_type, "subscription")):
        assert root is not None
        for name, field in root.fields.items():
            members = schema.get_possible_types(cast("GraphQLAbstractType", get_named_type(field.type)))
            document = parse(f"{keyword} {{ {name} {{ {' '.join(map(fields, members))} }} }}")
            assert validate(schema, document, [OverlappingFieldsCanBeMergedRule]) == []


def test_every_mutation_gives_a_result_union(schema: GraphQLSchema):
    assert schema.mutation_type is not None
    for name, field in schema.mutation_type.fields.items():
        assert str(field.type).lower() == f"{name}Result".lower()


def test_one_field_that_fails_takes_no_other_away(schema: GraphQLSchema):
    """What fails in a field that is not nullable takes the whole of `data` away.

    `serverInfo` asks nothing of anybody, and each of `nodes` fails by itself.
    """
    for root in (schema.query_type, schema.mutation_type):
        assert root is not None
        strict = {name for name, field in root.fields.items() if isinstance(field.type, GraphQLNonNull)}
        assert strict <= {"nodes", "serverInfo"}


def test_every_error_of_the_gateway_has_a_code_of_its_own():
    kinds = set(subclasses(GatewayError)) - {
        Conflict,
        BackendFailure,
        errors.InternalError,
        errors.LimitExceeded,
        RecordedError,
        LimitReached,
        TooManyRequests,  # is never data, where RateLimited always is
        TooManyRows,
    }
    codes = [kind.transport_code or kind.code for kind in kinds]  # pyright: ignore
    assert ErrorCode.INTERNAL_ERROR not in codes
    assert len(set(codes)) == len(codes)


@cache
def attributes_used() -> set[tuple[str, str]]:
    """Give each name of the gateway and the server with an attribute that is asked of it."""
    return {
        (node.value.id, node.attr)
        for folder in ("gateway", "server")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


@pytest.mark.parametrize("codes", [ErrorCode, TransportErrorCode])
def test_every_error_code_is_used_somewhere(codes: type[ErrorCode | TransportErrorCode]):
    used = {attribute for name, attribute in attributes_used() if name == codes.__name__}
    assert used == {code.name for code in codes}


def test_the_codes_at_the_top_level_are_documented():
    codes, _, reasons = (ROOT / "docs" / "errors.md").read_text().partition("| `extensions.reason` |")
    assert re.findall(r"^\| `([A-Z_]+)` \|", codes, re.MULTILINE) == list(TransportErrorCode)
    kinds = {kind.code for kind in auth_errors.AuthenticationError.__subclasses__()}
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", reasons, re.MULTILINE)) == kinds


def test_the_codes_in_the_schema_are_those_of_the_gateway(schema: GraphQLSchema):
    published = schema.type_map["ErrorCode"]
    assert isinstance(published, GraphQLEnumType)
    assert set(published.values) == {code.value for code in ErrorCode}


async def test_the_schema_can_be_fetched_by_whoever_may_introspect(shared_gateway: RunningGateway):
    response = await shared_gateway.client.get("/schema.graphql")
    assert (response.status_code, response.text) == (200, (ROOT / "schema.graphql").read_text())
    assert response.headers["content-type"].startswith("text/plain")
