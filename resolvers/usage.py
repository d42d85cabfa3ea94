"""The root field of usage."""

from collections.abc import AsyncIterator
from typing import Annotated

import strawberry

from auth.scopes import Scope
from gateway.usage import UsageFollower
from schema.access import requires
from schema.context import Info
from schema.limits import UsageUpdate
from schema.selection import selects_within
from schema.usage import UsageInput, UsageReport


@strawberry.type
class UsageQuery:
    @strawberry.field(
        description="How many tokens and generations the caller used. Administrators may also ask for other users."
    )
    @requires(Scope.USAGE_READ)
    async def usage(
        self,
        info: Info,
        input: Annotated[
            UsageInput | None,
            strawberry.argument(
                description="Which usage to report; null for the caller's own in the last 30 days, by day."
            ),
        ] = None,
    ) -> UsageReport | None:
        percentiles = any(selects_within(info, name) for name in ("timeToFirstTokenMs", "tokensPerSecond"))
        request = (input or UsageInput()).to_request(percentiles=percentiles, previous=selects_within(info, "previous"))
        return UsageReport.of(await info.context.gateway.usage.report(info.context.caller, request))


@strawberry.type
class UsageSubscription:
    @strawberry.subscription(
        description="What is used, as generations end: sums of those that ended since the event before, at most four "
        "events a second. For dashboards: subscribe, read `usage`, and add. A replica that is cut off from the others "
        "tells only what ends there; `usage` has it all. It ends with FORBIDDEN when the caller loses the scope."
    )
    @requires(Scope.USAGE_READ)
    async def usage_updated(
        self,
        info: Info,
        all_users: Annotated[
            bool | None,
            strawberry.argument(description="Of all users, not only the caller. Needs USAGE_READ_ALL."),
        ] = False,
    ) -> AsyncIterator[UsageUpdate]:
        return _Updates(info.context.gateway.usage_feed.follow(info.context.caller, all_users=all_users or False))


class _Updates(AsyncIterator[UsageUpdate]):
    """A follower's updates in the API's types."""

    def __init__(self, follower: UsageFollower) -> None:
        self._follower = follower

    async def __anext__(self) -> UsageUpdate:
        return UsageUpdate.of(await anext(self._follower))

    async def aclose(self) -> None:
        await self._follower.aclose()
