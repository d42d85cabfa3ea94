"""The root field of the audit log."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
from schema.cost import page_of
from schema.identity import AuditConnection, AuditFilter
from schema.node import DEFAULT_PAGE, MAX_PAGE, page_size, parse_uuid


@strawberry.type
class AuditQuery:
    @strawberry.field(
        description="Who did what, newest first: all mutations (those that start a generation are in `generations`), "
        "all refused sign-ins, and all uses without the needed scope.",
        directives=[page_of(DEFAULT_PAGE)],
    )
    @requires(Scope.AUDIT_READ)
    async def audit_log(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}; null means {DEFAULT_PAGE}.")
        ] = DEFAULT_PAGE,
        after: Annotated[str | None, strawberry.argument(description="A cursor, to get the events after it.")] = None,
        filter: Annotated[
            AuditFilter | None, strawberry.argument(description="Which events to list; null for all.")
        ] = None,
    ) -> AuditConnection | None:
        size = page_size(first, DEFAULT_PAGE)
        before = None if after is None else parse_uuid(after, "AuditEvent", "after")
        wanted = (filter or AuditFilter()).to_choice()
        rows, has_more = await info.context.gateway.identity.audit.page(wanted, size, before)
        return AuditConnection.of(rows, has_more=has_more, after=after)
