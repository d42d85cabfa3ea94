"""The root field of limits that are nearly used up."""

from collections.abc import AsyncIterator
from typing import Annotated

import strawberry

from auth.scopes import Scope
from gateway.notices import LimitFollower
from schema.access import requires
from schema.context import Info
from schema.limits import LimitThreshold


@strawberry.type
class LimitSubscription:
    @strawberry.subscription(
        description="Limits of which a share is used up (`OLLAGRAPH_LIMIT_THRESHOLDS`), about a second after it was, "
        "once for each share in each window. Of the limits that count the caller, as in `viewer { limits }`."
    )
    @requires(Scope.USAGE_READ)
    async def limit_reached(
        self,
        info: Info,
        all_users: Annotated[
            bool | None,
            strawberry.argument(description="Of all limits, not only the caller's. Needs USAGE_READ_ALL."),
        ] = False,
    ) -> AsyncIterator[LimitThreshold]:
        return _Thresholds(info.context.gateway.limit_notices.follow(info.context.caller, all_users=all_users or False))


class _Thresholds(AsyncIterator[LimitThreshold]):
    """A follower's thresholds in the API's types."""

    def __init__(self, follower: LimitFollower) -> None:
        self._follower = follower

    async def __anext__(self) -> LimitThreshold:
        return LimitThreshold.of(await anext(self._follower))

    async def aclose(self) -> None:
        await self._follower.aclose()
