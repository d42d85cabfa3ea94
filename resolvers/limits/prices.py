"""The root fields of prices."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
from schema.cost import page_of
from schema.node import DEFAULT_PAGE, MAX_PAGE, page_size, parse_uuid
from schema.prices import Price, PriceConnection, PriceFilter, SetPriceInput, SetPriceResult, SetPriceSuccess


@strawberry.type
class PriceQuery:
    @strawberry.field(
        description="All prices, those that hold no longer too, the last one set first.",
        directives=[page_of(DEFAULT_PAGE)],
    )
    @requires(Scope.LIMITS_WRITE, Scope.USAGE_READ_ALL)
    async def prices(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}; null means {DEFAULT_PAGE}.")
        ] = DEFAULT_PAGE,
        after: Annotated[str | None, strawberry.argument(description="A cursor, to get the prices after it.")] = None,
        filter: Annotated[
            PriceFilter | None, strawberry.argument(description="Which prices to list; null for all.")
        ] = None,
    ) -> PriceConnection | None:
        size = page_size(first, DEFAULT_PAGE)
        before = None if after is None else parse_uuid(after, "Price", "after")
        wanted = (filter or PriceFilter()).to_wanted()
        rows, has_more = await info.context.gateway.prices.page(wanted, size, before)
        return PriceConnection.of(rows, has_more=has_more, after=after)


@strawberry.type
class PriceMutation:
    @strawberry.mutation(
        description="Set the price of models. Generations that end from `validFrom` on cost it; what has ended keeps "
        "its cost. Other replicas use it after `OLLAGRAPH_IDENTITY_MAX_AGE` seconds at the latest: a price that holds "
        "from a later moment is exact everywhere."
    )
    @requires(Scope.LIMITS_WRITE)
    async def set_price(
        self, info: Info, input: Annotated[SetPriceInput, strawberry.argument(description="The price to set.")]
    ) -> SetPriceResult | None:
        return SetPriceSuccess(
            price=Price.of(await info.context.gateway.prices.set(info.context.caller, input.to_price()))
        )
