"""The audit log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self
from uuid import UUID

import strawberry
from strawberry import relay
from strawberry.scalars import JSON

from auth.principal import AuthMethod
from auth.scopes import Scope
from db import tables
from gateway.audit import AuditChoice, AuditOutcome
from gateway.errors import InvalidInput
from schema.access import requires
from schema.context import Info
from schema.identity.api_key import ApiKey
from schema.identity.user import User
from schema.node import Node, global_id, page_info, parse_global_id, parse_uuid


@strawberry.type(description="Something that somebody did, or was refused.")
class AuditEvent(Node):
    row: strawberry.Private[tables.AuditEvent]
    at: datetime = strawberry.field(description="When.")
    action: str = strawberry.field(
        description="The name of the mutation, such as createApiKey; `use` for the use of anything without the needed "
        "scope; the name of the command on the command line."
    )
    outcome: AuditOutcome = strawberry.field(description="What came of it.")
    code: str | None = strawberry.field(description="Why it was refused or failed; null if it succeeded.")
    actor_name: str | None = strawberry.field(
        description="The user name of whoever did it, at that time. For a failed sign-in, the name that was typed. "
        "Null for a stranger."
    )
    method: AuthMethod | None = strawberry.field(description="The kind of credentials; null if there were none.")
    target_type: str | None = strawberry.field(description="The type of what it was done to, such as ApiKey.")
    target_id: strawberry.ID | None = strawberry.field(description="The id of what it was done to.")
    address: str | None = strawberry.field(description="The address of the client.")
    user_agent: str | None = strawberry.field(description="The User-Agent header of the client.")
    request_id: str | None = strawberry.field(description="The id of the request, as in the log and in X-Request-ID.")
    count: int = strawberry.field(
        description="How often. More than 1 only for refusals: equal ones within a minute are counted after the first."
    )
    details: JSON | None = strawberry.field(description="What was asked for: names and values, never a secret.")

    @strawberry.field(
        description="Who did it; null for a stranger, or if not visible to the caller. Needs PROFILE_READ."
    )
    @requires(Scope.PROFILE_READ)
    async def actor(self, info: Info) -> User | None:
        """All users of a page are fetched in one statement."""
        if self.row.actor_id is None:
            return None
        row = await info.context.loaders.visible_users.load(self.row.actor_id)
        return None if row is None else User.of(row)

    @strawberry.field(description="The API key used; null if none, or if not visible to the caller. Needs KEYS_READ.")
    @requires(Scope.KEYS_READ)
    async def api_key(self, info: Info) -> ApiKey | None:
        """All keys of a page are fetched in one statement."""
        if self.row.api_key_id is None:
            return None
        row = await info.context.loaders.visible_api_keys.load(self.row.api_key_id)
        return None if row is None else ApiKey.of(row)

    @classmethod
    def of(cls, row: tables.AuditEvent) -> Self:
        """Give the event of a row."""
        return cls(
            id=global_id("AuditEvent", row.id),
            row=row,
            at=row.at,
            action=row.action,
            outcome=AuditOutcome(row.outcome),
            code=row.code,
            actor_name=row.actor,
            method=AuthMethod(row.method) if row.method in set(AuthMethod) else None,
            target_type=row.target_type,
            target_id=None if row.target_id is None else global_id(row.target_type or "", row.target_id),
            address=row.address,
            user_agent=row.client,
            request_id=row.request_id,
            count=row.count,
            details=None if row.details is None else JSON(row.details),
        )


@strawberry.input(description="Which events to list. An event has to match every field that is set.")
class AuditFilter:
    actor_ids: list[strawberry.ID] | None = strawberry.field(default=None, description="Events of these users.")
    actions: list[str] | None = strawberry.field(default=None, description="Events of these actions.")
    outcomes: list[AuditOutcome] | None = strawberry.field(default=None, description="Events that came out like this.")
    target_id: strawberry.ID | None = strawberry.field(default=None, description="Events about the object of this id.")
    address: str | None = strawberry.field(default=None, description="Events from exactly this address.")
    since: datetime | None = strawberry.field(default=None, description="Events from this moment on.")
    until: datetime | None = strawberry.field(default=None, description="Events before this moment.")

    def to_choice(self) -> AuditChoice:
        """In the gateway's form. Raises InvalidInput for what is no id, and for what no text can hold."""
        for name, text in (("actions", "".join(self.actions or ())), ("address", self.address or "")):
            if "\0" in text:
                raise InvalidInput(f"filter.{name}", "may not hold the character U+0000.")
        return AuditChoice(
            actor_ids=_uuids(self.actor_ids),
            actions=self.actions,
            outcomes=self.outcomes,
            target_id=None if self.target_id is None else parse_global_id(self.target_id, "filter.targetId")[1],
            address=self.address,
            since=self.since,
            until=self.until,
        )


def _uuids(ids: Sequence[strawberry.ID] | None) -> list[UUID] | None:
    return None if ids is None else [parse_uuid(id, "User", "filter.actorIds") for id in ids]


@strawberry.type(description="An event in a page.")
class AuditEdge:
    cursor: str = strawberry.field(description="Pass as `after` to get the items after this one.")
    node: AuditEvent = strawberry.field(description="The event.")


@strawberry.type(description="A page of events, newest first.")
class AuditConnection:
    edges: list[AuditEdge] = strawberry.field(description="The events of this page with their cursors.")
    page_info: relay.PageInfo = strawberry.field(description="How to get the next page.")

    @strawberry.field(description="The events of this page.")
    def nodes(self) -> list[AuditEvent]:
        """For those who need no cursors."""
        return [edge.node for edge in self.edges]

    @classmethod
    def of(cls, rows: Sequence[tables.AuditEvent], *, has_more: bool, after: str | None) -> Self:
        """Give a page of rows. A cursor is the event's id: UUIDv7 sort by time."""
        edges = [AuditEdge(cursor=event.id, node=event) for event in map(AuditEvent.of, rows)]
        return cls(
            edges=edges,
            page_info=page_info([edge.cursor for edge in edges], has_more=has_more, after=after),
        )
