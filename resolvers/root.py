"""The root types put together, and the executable schema made of them."""

from functools import cache

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.schema_directive import StrawberrySchemaDirective

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


@cache
def build_schema() -> strawberry.Schema:
    """Give the schema, ready to execute. It holds nothing of an application, and is dear to make: all share one."""
    schema = strawberry.Schema(
        query=Query,
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
