"""The root types put together, and the executable schema made of them."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from resolvers.catalog import CatalogQuery
from resolvers.generation import GenerationMutation, GenerationQuery, GenerationSubscription
from resolvers.identity import IdentityMutation, IdentityQuery
from resolvers.node import NodeQuery
from resolvers.usage import UsageQuery
from schema.errors import EXPECTED_ERRORS
from schema.events import EVENT_TYPES
from schema.scalars import SCALARS


@strawberry.type(description="What can be read.")
class Query(IdentityQuery, CatalogQuery, UsageQuery, GenerationQuery, NodeQuery):
    pass


@strawberry.type(description="What can be done.")
class Mutation(IdentityMutation, GenerationMutation):
    pass


@strawberry.type(description="What can be watched.")
class Subscription(GenerationSubscription):
    pass


def build_schema() -> strawberry.Schema:
    """The schema, ready to execute."""
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=EVENT_TYPES,
        exception_handlers=EXPECTED_ERRORS,
        config=StrawberryConfig(scalar_map=SCALARS),
    )
