"""The root fields of limits."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
from schema.cost import list_of
from schema.limits import ASSUMED_LIMITS_OF_ALL, Limit, RemoveLimitInput, SetLimitInput
from schema.results import RemoveLimitResult, RemoveLimitSuccess, SetLimitResult, SetLimitSuccess


@strawberry.type
class LimitQuery:
    @strawberry.field(
        description="All limits, by name. What applies to the caller is in `viewer { limits }`.",
        directives=[list_of(ASSUMED_LIMITS_OF_ALL)],
    )
    @requires(Scope.LIMITS_WRITE)
    async def limits(self, info: Info) -> list[Limit] | None:
        return [Limit.of(rule) for rule in await info.context.gateway.limit_administration.all()]


@strawberry.type
class LimitMutation:
    @strawberry.mutation(
        description="Make a limit, or replace the one of this name as a whole. Where nothing changes but amounts, what "
        "was counted still counts; otherwise counting begins anew."
    )
    @requires(Scope.LIMITS_WRITE)
    async def set_limit(
        self, info: Info, input: Annotated[SetLimitInput, strawberry.argument(description="The limit.")]
    ) -> SetLimitResult | None:
        return SetLimitSuccess(limit=Limit.of(await info.context.gateway.limit_administration.set(input.to_limit())))

    @strawberry.mutation(description="Remove a limit, with all that was counted for it.")
    @requires(Scope.LIMITS_WRITE)
    async def remove_limit(
        self, info: Info, input: Annotated[RemoveLimitInput, strawberry.argument(description="The limit to remove.")]
    ) -> RemoveLimitResult | None:
        return RemoveLimitSuccess(name=(await info.context.gateway.limit_administration.remove(input.name)).name)
