"""Prices of models."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

import strawberry
from strawberry import relay

from auth.scopes import Scope
from db import tables
from gateway.limits import MAX_PATTERNS, NewPrice, PricesWanted
from gateway.money import decimal_of
from schema.access import requires
from schema.context import Info
from schema.errors import InvalidInput, LimitExceeded
from schema.identity import User
from schema.node import Node, global_id, page_info

MODELS = (
    "A pattern of model names, in which `*` stands for any characters and case does not count, such as `llama3*`. "
    "Of several patterns that match a model, the most specific one with a price counts: a whole name, then the one "
    "with the most characters besides stars."
)
CACHED = "Per million prompt tokens that the model had in its cache; null: the same as other prompt tokens."


@strawberry.type(
    description="The price of models from a moment on. Prices are never changed: to correct one, set another one with "
    "the same `model`."
)
class Price(Node):
    row: strawberry.Private[tables.Price]
    model: str = strawberry.field(description=MODELS)
    currency: str = strawberry.field(description="The currency, a code of ISO 4217 such as EUR.")
    prompt_per_million: Decimal = strawberry.field(description="Per million prompt tokens.")
    cached_per_million: Decimal | None = strawberry.field(description=CACHED)
    completion_per_million: Decimal = strawberry.field(
        description="Per million completion tokens, including the model's thinking."
    )
    valid_from: datetime = strawberry.field(
        description="From when it holds: for generations that end then or later, until the next price with the same "
        "`model`. Of two with the same `validFrom`, the one that was set later holds."
    )
    created_at: datetime = strawberry.field(description="When it was set.")

    @strawberry.field(
        description="Who set it; null for the command line, or if not visible to the caller. Needs PROFILE_READ."
    )
    @requires(Scope.PROFILE_READ)
    async def set_by(self, info: Info) -> User | None:
        """All users of a page are fetched in one statement."""
        if self.row.set_by is None:
            return None
        row = await info.context.loaders.visible_users.load(self.row.set_by)
        return None if row is None else User.of(row)

    @classmethod
    def of(cls, row: tables.Price) -> Self:
        """Give the price of a row."""
        return cls(
            id=global_id("Price", row.id),
            row=row,
            model=row.model,
            currency=row.currency,
            prompt_per_million=decimal_of(row.prompt_nano),
            cached_per_million=None if row.cached_nano is None else decimal_of(row.cached_nano),
            completion_per_million=decimal_of(row.completion_nano),
            valid_from=row.valid_from,
            created_at=row.created_at,
        )


@strawberry.input(description="Which prices to list. A price has to match every field that is set.")
class PriceFilter:
    model: str | None = strawberry.field(
        default=None, description="The name of a model: prices whose pattern matches it."
    )
    since: datetime | None = strawberry.field(default=None, description="Prices with this `validFrom` or a later one.")
    until: datetime | None = strawberry.field(default=None, description="Prices with an earlier `validFrom`.")

    def to_wanted(self) -> PricesWanted:
        """In the gateway's form."""
        return PricesWanted(self.model, self.since, self.until)


@strawberry.type(description="A price in a page.")
class PriceEdge:
    cursor: str = strawberry.field(description="Pass as `after` to get the items after this one.")
    node: Price = strawberry.field(description="The price.")


@strawberry.type(description="A page of prices, the last one set first.")
class PriceConnection:
    edges: list[PriceEdge] = strawberry.field(description="The prices of this page with their cursors.")
    page_info: relay.PageInfo = strawberry.field(description="How to get the next page.")

    @strawberry.field(description="The prices of this page.")
    def nodes(self) -> list[Price]:
        """For those who need no cursors."""
        return [edge.node for edge in self.edges]

    @classmethod
    def of(cls, rows: Sequence[tables.Price], *, has_more: bool, after: str | None) -> Self:
        """Give a page of rows. A cursor is the price's id: UUIDv7 sort by time."""
        edges = [PriceEdge(cursor=price.id, node=price) for price in map(Price.of, rows)]
        return cls(
            edges=edges,
            page_info=page_info([edge.cursor for edge in edges], has_more=has_more, after=after),
        )


@strawberry.input(
    description=f"A price to set, in units of the currency. At most {MAX_PATTERNS:,} patterns can have prices."
)
class SetPriceInput:
    model: str = strawberry.field(description=MODELS)
    currency: str = strawberry.field(description="The currency, a code of ISO 4217 such as EUR.")
    prompt_per_million: Decimal = strawberry.field(
        description="Per million prompt tokens, from 0 to 1,000,000,000, with at most 9 decimal places."
    )
    completion_per_million: Decimal = strawberry.field(description="Per million completion tokens, in the same range.")
    cached_per_million: Decimal | None = strawberry.field(default=None, description=CACHED)
    valid_from: datetime | None = strawberry.field(
        default=None,
        description="From when it holds; null for now. What has ended keeps its cost, whatever this says.",
    )

    def to_price(self) -> NewPrice:
        """In the gateway's form."""
        return NewPrice(
            self.model,
            self.currency,
            self.prompt_per_million,
            self.completion_per_million,
            self.cached_per_million,
            self.valid_from,
        )


@strawberry.type(description="The price was set.")
class SetPriceSuccess:
    price: Price = strawberry.field(description="The price.")


SetPriceResult = Annotated[
    SetPriceSuccess | InvalidInput | LimitExceeded,
    strawberry.union("SetPriceResult", description="The result of `setPrice`."),
]
