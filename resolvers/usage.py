"""The root field of usage."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
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
        request = (input or UsageInput()).to_request()
        return UsageReport.of(await info.context.gateway.usage.report(info.context.caller, request))
