"""The root types put together, and the executable schema made of them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, cast

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    Undefined,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.schema_directive import StrawberrySchemaDirective

from gateway.errors import InternalError
from gateway.plugins import PluginFailed, PluginThread, UnusablePlugin
from resolvers.access import print_access
from resolvers.audit import audit_mutations
from resolvers.catalog import CatalogQuery
from resolvers.expected import EXPECTED_ERRORS
from resolvers.generation import GenerationMutation, GenerationQuery, GenerationSubscription
from resolvers.identity import IdentityMutation, IdentityQuery
from resolvers.limits import LimitMutation, LimitQuery, LimitSubscription, PriceMutation, PriceQuery
from resolvers.node import NodeQuery
from resolvers.server_info import ServerInfoQuery
from resolvers.usage import UsageQuery, UsageSubscription
from schema.access import Authenticated, RequiresScopes
from schema.events import EVENT_TYPES
from schema.scalars import SCALARS


@strawberry.type(description="Operations that read.")
class Query(
    IdentityQuery, CatalogQuery, UsageQuery, LimitQuery, PriceQuery, GenerationQuery, NodeQuery, ServerInfoQuery
):
    pass


@strawberry.type(description="Operations that change something.")
class Mutation(IdentityMutation, LimitMutation, PriceMutation, GenerationMutation):
    pass


@strawberry.type(description="Operations that send events as they happen.")
class Subscription(GenerationSubscription, UsageSubscription, LimitSubscription):
    pass


Resolver = Callable[..., Any]
"""What graphql-core calls for a field; it may give an awaitable."""


@cache
def build_schema() -> strawberry.Schema:
    """Give the schema, ready to execute. It holds nothing of an application, and is dear to make: all share one."""
    return _built(Query)


def build_extended_schema(plugins: Sequence[PluginThread]) -> strawberry.Schema:
    """Give the schema with what plugins add to `Query`. Raises UnusablePlugin, as where a field is there already."""
    query, owners = Query, dict[str, PluginThread | None]()
    for thread in plugins:
        try:
            kind = thread.plugin.query_type()
            added = [] if kind is None else _fields(kind)
        except (Exception, SystemExit) as error:
            told = f"{type(error).__name__}: {error}"
            raise UnusablePlugin(f"The plugin {thread.name!r} does not tell its fields: {told}") from error
        if kind is None:
            continue
        owners = owners or dict.fromkeys(_fields(Query))  # not where none adds anything: it is another schema
        for name in added:
            if name in owners:
                raise UnusablePlugin(f"The plugin {thread.name!r} adds the field {name!r}, which is there already.")
            owners[name] = thread
        query = strawberry.type(type("Query", (query, kind), {}), description="Operations that read.")
    if query is Query:
        return build_schema()
    schema = _built(query)
    for name, field in _query_fields(schema).items():
        if (thread := owners[name]) is not None:
            field.resolve = _in_thread(thread, name, cast("Resolver", field.resolve))
    return schema


def _fields(kind: type) -> list[str]:
    return list(_query_fields(strawberry.Schema(query=kind, config=StrawberryConfig(scalar_map=SCALARS))))


def _query_fields(schema: strawberry.Schema) -> Mapping[str, GraphQLField]:
    query = schema._schema.query_type  # pyright: ignore[reportPrivateUsage] - Strawberry has no other way to it
    return cast("Mapping[str, GraphQLField]", query.fields if query else {})


def _in_thread(thread: PluginThread, name: str, resolve: Resolver) -> Resolver:
    """Resolve a field where its plugin lives, for as long as a hook may take. Its failures are nobody else's."""

    async def resolver(source: Any, info: "GraphQLResolveInfo[Any]", **arguments: Any) -> Any:
        try:
            return await thread.run(f"the field {name}", partial(resolve, source, info, **arguments))
        except PluginFailed as error:
            raise InternalError() from error

    return resolver


def _built(query: type) -> strawberry.Schema:
    schema = strawberry.Schema(
        query=query,
        mutation=Mutation,
        subscription=Subscription,
        types=[*EVENT_TYPES, RequiresScopes, Authenticated],
        exception_handlers=EXPECTED_ERRORS,
        config=StrawberryConfig(scalar_map=SCALARS),
    )
    made = schema._schema  # pyright: ignore[reportPrivateUsage] - Strawberry has no other way to it
    _leave_out_null_defaults(made)
    print_access(made)
    audit_mutations(made)
    _describe_directives(made)
    return schema


def _leave_out_null_defaults(schema: GraphQLSchema) -> None:
    """Say nothing instead of `= null`, which Strawberry makes of every Python default None: it means the same."""
    optional: list[GraphQLArgument | GraphQLInputField] = []
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            optional += kind.fields.values()
        elif isinstance(kind, GraphQLObjectType):
            optional += [argument for field in kind.fields.values() for argument in field.args.values()]
    for value in optional:
        if value.default_value is None:
            value.default_value = Undefined


def _describe_directives(schema: GraphQLSchema) -> None:
    """Take over the descriptions of directives' arguments, which Strawberry leaves behind."""
    for directive in schema.directives:
        definition = directive.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if isinstance(definition, StrawberrySchemaDirective):
            for argument, field in zip(directive.args.values(), definition.fields, strict=True):
                argument.description = field.description
