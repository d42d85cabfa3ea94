"""The root field of usage."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from resolvers.access import requires
from schema.context import Info
from schema.node import parse_uuid
from schema.usage import UsageInput, UsageReport


@strawberry.type
class UsageQuery:
    @strawberry.field(description="What the caller used; an administrator may ask for anyone's.")
    @requires(Scope.USAGE_READ)
    async def usage(
        self,
        info: Info,
        input: Annotated[
            UsageInput | None, strawberry.argument(description="Which; null for the caller's last 30 days.")
        ] = None,
    ) -> UsageReport | None:
        wanted = input or UsageInput()
        user_id = None if wanted.user_id is None else parse_uuid(wanted.user_id, "User", "input.userId")
        report = await info.context.gateway.usage.report(info.context.caller, user_id, wanted.from_, wanted.to)
        return UsageReport.of(report)
