"""What was used."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import strawberry
from strawberry import relay

from auth.scopes import Scope
from gateway import usage
from gateway.generation import State
from gateway.streams import FinishReason
from gateway.usage import (
    Granularity,
    Measure,
    Times,
    UsageDimension,
    UsageOrder,
    UsagePage,
    UsageRequest,
    UsageSums,
)
from schema.access import requires
from schema.context import Info
from schema.cost import page_of
from schema.generation import Tag
from schema.generation_input import TagInput
from schema.identity import ApiKey, Group, User
from schema.limits import UsageCounts, costs_of, counts_of
from schema.node import MAX_PAGE, page_size, parse_uuid
from schema.scalars import SafeInt


@strawberry.input(description="Which generations to count. Each list names the values to include; null includes all.")
class UsageFilter:
    models: list[str] | None = strawberry.field(default=None, description="Names of models, as in `Model.name`.")
    api_key_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of API keys: generations that were started with one of them."
    )
    user_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of users; null for the caller only. Other users need USAGE_READ_ALL."
    )
    all_users: bool | None = strawberry.field(
        default=False, description="Count the generations of all users. Needs USAGE_READ_ALL."
    )
    backends: list[str] | None = strawberry.field(default=None, description="Names of backends.")
    states: list[State] | None = strawberry.field(
        default=None, description="States: COMPLETED, CANCELLED, FAILED. Only ended generations are counted."
    )
    finish_reasons: list[FinishReason] | None = strawberry.field(default=None, description="Finish reasons.")
    tags: list[TagInput] | None = strawberry.field(
        default=None,
        description="Tags: generations that have, for each name in the list, one of the values that the list has for "
        "it. Rows of TAG also show the other tags of these generations.",
    )
    end_users: list[str] | None = strawberry.field(
        default=None, description="End users, as in `GenerateInput.endUser`."
    )
    group_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="Ids of groups: generations whose user was in one of them when they started. Rows of GROUP also "
        "show the other groups of these users.",
    )

    def to_filter(self) -> usage.UsageFilter:
        """Give the gateway's filter. Raises InvalidInput for an id that is none."""
        return usage.UsageFilter(
            models=self.models,
            api_key_ids=_uuids(self.api_key_ids, "ApiKey", "input.filter.apiKeyIds"),
            user_ids=_uuids(self.user_ids, "User", "input.filter.userIds"),
            all_users=self.all_users or False,
            backends=self.backends,
            states=self.states,
            finish_reasons=self.finish_reasons,
            tags=None if self.tags is None else [(tag.name, tag.value) for tag in self.tags],
            end_users=self.end_users,
            group_ids=_uuids(self.group_ids, "Group", "input.filter.groupIds"),
        )


@strawberry.input(description="Which usage to report, and how to group it.")
class UsageInput:
    from_: datetime | None = strawberry.field(
        default=None, name="from", description="The start; null for 30 days before `to`."
    )
    to: datetime | None = strawberry.field(
        default=None, description="The end, not included; null for now. At most 366 days after `from`."
    )
    time_zone: str | None = strawberry.field(
        default=None,
        description="The time zone of hours, days, weeks and months: an IANA name, such as Europe/Berlin. Null is "
        "`User.timeZone` of the caller, or UTC if none is set.",
    )
    granularity: Granularity | None = strawberry.field(
        default=Granularity.DAY, description="How much time one row covers."
    )
    group_by: list[UsageDimension] | None = strawberry.field(
        default_factory=list, description="What else to group by, any combination. USER needs USAGE_READ_ALL."
    )
    filter: UsageFilter | None = strawberry.field(
        default=None, description="Which generations to count; null for all of the caller's own."
    )

    def to_request(self, *, percentiles: bool = False, previous: bool = False) -> UsageRequest:
        """Give what the gateway is asked, and whether percentiles and a comparison are. Raises InvalidInput."""
        return UsageRequest(
            start=self.from_,
            end=self.to,
            time_zone=self.time_zone,
            granularity=self.granularity or Granularity.DAY,
            group_by=self.group_by or (),
            filter=(self.filter or UsageFilter()).to_filter(),
            percentiles=percentiles,
            previous=previous,
        )


@strawberry.type(
    description="Values that so many percent of the generations did not exceed. They are read from a histogram, and "
    "differ from the exact values by at most 3.2 %."
)
class Percentiles:
    generations: SafeInt = strawberry.field(description="How many generations the value is known of.")
    p50: float = strawberry.field(description="The median.")
    p90: float = strawberry.field(description="What 90 % did not exceed.")
    p95: float = strawberry.field(description="What 95 % did not exceed.")
    p99: float = strawberry.field(description="What 99 % did not exceed.")

    @classmethod
    def of(cls, told: usage.Percentiles | None) -> Self | None:
        """Give the gateway's percentiles."""
        if told is None:
            return None
        return cls(generations=SafeInt(told.generations), p50=told.p50, p90=told.p90, p95=told.p95, p99=told.p99)


@strawberry.type(description="Sums over some generations, all of which have ended.")
class UsageTotals(UsageCounts):
    time_to_first_token_ms: Percentiles | None = strawberry.field(
        description="Time from the request to the first token; null if it is known of no generation, and in `previous`."
    )
    tokens_per_second: Percentiles | None = strawberry.field(
        description="Completion tokens per second, as in `Timings.tokensPerSecond`; null as `timeToFirstTokenMs`."
    )

    @classmethod
    def of(cls, sums: UsageSums, times: Times | None = None) -> Self:
        """Give the gateway's sums, and percentiles where there are some."""
        times = times or {}
        return cls(
            **counts_of(sums),
            costs=costs_of(sums.costs),
            time_to_first_token_ms=Percentiles.of(times.get(Measure.TIME_TO_FIRST_TOKEN)),
            tokens_per_second=Percentiles.of(times.get(Measure.TOKENS_PER_SECOND)),
        )


@strawberry.type(
    description="The usage of one hour, day, week or month, for one value of each dimension in `groupBy`. A "
    "dimension that is not in `groupBy` is null. Periods without usage have no row. With TAG or GROUP in `groupBy` a "
    "generation counts in one row for each of its tags or of the user's groups, so that rows may add up to more than "
    "`UsageReport.totals`.",
)
class UsageRow:
    api_key_uuid: strawberry.Private[UUID | None]
    user_uuid: strawberry.Private[UUID | None]
    group_uuid: strawberry.Private[UUID | None]
    start: datetime = strawberry.field(description="When the period starts. The first one starts at `from`.")
    end: datetime = strawberry.field(description="When the period ends, not included. The last one ends at `to`.")
    model: str | None = strawberry.field(description="The model's name. It may no longer be served.")
    backend: str | None = strawberry.field(description="The name of the backend that was asked first.")
    state: State | None = strawberry.field(description="For FINISH: how the generations ended.")
    finish_reason: FinishReason | None = strawberry.field(
        description="For FINISH: why they completed; null if they did not."
    )
    tag: Tag | None = strawberry.field(
        description="For TAG: a tag that the generations have; null for generations without tags."
    )
    end_user: str | None = strawberry.field(
        description="For END_USER: `endUser` of the requests; null for generations without one."
    )
    totals: UsageTotals = strawberry.field(description="The sums.")
    previous: UsageTotals | None = strawberry.field(
        description="The sums for the same dimensions in the period before the report: in its hour, day, week or month "
        "that has the same place."
    )

    @strawberry.field(description="The API key; null for generations without a key. Needs KEYS_READ.")
    @requires(Scope.KEYS_READ)
    async def api_key(self, info: Info) -> ApiKey | None:
        """All keys of a report are fetched in one statement."""
        if self.api_key_uuid is None:
            return None
        row = await info.context.loaders.visible_api_keys.load(self.api_key_uuid)
        return None if row is None else ApiKey.of(row)

    @strawberry.field(description="The user; null if the caller may not see that user. Needs PROFILE_READ.")
    @requires(Scope.PROFILE_READ)
    async def user(self, info: Info) -> User | None:
        """All users of a report are fetched in one statement."""
        if self.user_uuid is None:
            return None
        row = await info.context.loaders.visible_users.load(self.user_uuid)
        return None if row is None else User.of(row)

    @strawberry.field(
        description="For GROUP: a group that the user was in when the generations started; null for users without "
        "groups, and if the group was deleted or the caller may not see it. Needs PROFILE_READ."
    )
    @requires(Scope.PROFILE_READ)
    async def group(self, info: Info) -> Group | None:
        """All groups of a report are fetched in one statement."""
        if self.group_uuid is None:
            return None
        row = await info.context.loaders.visible_groups.load(self.group_uuid)
        return None if row is None else Group.of(row)

    @classmethod
    def of(cls, row: usage.UsageRow) -> Self:
        """Give the gateway's row."""
        known = row.finish_reason in set(FinishReason)
        return cls(
            api_key_uuid=row.api_key_id,
            user_uuid=row.user_id,
            group_uuid=row.group_id,
            start=row.start,
            end=row.end,
            model=row.model,
            backend=row.backend,
            state=None if row.state is None else State(row.state),
            finish_reason=FinishReason(row.finish_reason or "") if known else None,
            tag=None if row.tag_name is None else Tag(name=row.tag_name, value=row.tag_value or ""),
            end_user=row.end_user,
            totals=UsageTotals.of(row.sums, row.times),
            previous=None if row.previous is None else UsageTotals.of(row.previous),
        )


@strawberry.type(description="A row with its cursor.")
class UsageRowEdge:
    cursor: str = strawberry.field(description="Pass as `after` to get the rows after this one.")
    node: UsageRow = strawberry.field(description="The row.")


@strawberry.type(description="A page of rows.")
class UsageRowConnection:
    edges: list[UsageRowEdge] = strawberry.field(description="The rows with their cursors.")
    nodes: list[UsageRow] = strawberry.field(description="The rows.")
    page_info: relay.PageInfo = strawberry.field(description="How to get the next page.")

    @classmethod
    def of(cls, page: UsagePage, after: str | None) -> Self:
        """Give the gateway's page."""
        edges = [UsageRowEdge(cursor=cursor, node=UsageRow.of(row)) for cursor, row in page.rows]
        info = relay.PageInfo(
            has_next_page=page.has_more,
            has_previous_page=after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        )
        return cls(edges=edges, nodes=[edge.node for edge in edges], page_info=info)


@strawberry.type(description="The usage of the period before the one that was asked for.")
class PreviousUsage:
    from_: datetime = strawberry.field(
        name="from",
        description="The start. The period is as long as the report's, by the clock of the time zone; if the report "
        "covers whole months, it is as many months.",
    )
    to: datetime = strawberry.field(description="The end, not included: the report's start.")
    totals: UsageTotals = strawberry.field(description="The sums.")


@strawberry.type(description="The usage of a period.")
class UsageReport:
    report: strawberry.Private[usage.UsageReport]
    from_: datetime = strawberry.field(
        name="from", description="The start. Send it, and `to`, when asking for the next page."
    )
    to: datetime = strawberry.field(description="The end, not included.")

    @strawberry.field(
        description="The sums over all pages. Each generation counts once, also if it is in several rows."
    )
    def totals(self) -> UsageTotals:
        """Add up all rows."""
        return UsageTotals.of(self.report.totals, self.report.times)

    @strawberry.field(description="The period before, to compare with.")
    def previous(self) -> PreviousUsage | None:
        """Give what was read with the report, since it is selected."""
        before = self.report.previous
        if before is None:
            return None
        return PreviousUsage(from_=before.start, to=before.end, totals=UsageTotals.of(before.totals))

    @strawberry.field(
        description="The rows, by time and by the dimensions in `groupBy`.", directives=[page_of(MAX_PAGE)]
    )
    def rows(
        self,
        first: Annotated[int | None, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}.")] = MAX_PAGE,
        after: Annotated[
            str | None, strawberry.argument(description="A cursor, to get the rows after it in the same order.")
        ] = None,
        order_by: Annotated[
            UsageOrder | None, strawberry.argument(description="The order of the rows.")
        ] = UsageOrder.OLDEST_FIRST,
    ) -> UsageRowConnection:
        """Give one page."""
        page = self.report.page(order_by or UsageOrder.OLDEST_FIRST, page_size(first, MAX_PAGE), after)
        return UsageRowConnection.of(page, after)

    @classmethod
    def of(cls, report: usage.UsageReport) -> Self:
        """Give the gateway's report."""
        return cls(report=report, from_=report.start, to=report.end)


def _uuids(ids: list[strawberry.ID] | None, kind: str, field: str) -> list[UUID] | None:
    return None if ids is None else [parse_uuid(id, kind, f"{field}[{place}]") for place, id in enumerate(ids)]
