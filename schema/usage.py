"""What was used."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Self
from uuid import UUID

import strawberry

from auth.scopes import Scope
from gateway import usage
from gateway.usage import UsageBucket
from schema.context import Info
from schema.identity import ApiKey
from schema.scalars import SafeInt


@strawberry.input(description="Whose usage, and of which time.")
class UsageInput:
    from_: datetime | None = strawberry.field(
        default=None, name="from", description="From this moment on; null for 30 days before `to`."
    )
    to: datetime | None = strawberry.field(default=None, description="Up to, and without, this moment; null for now.")
    user_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose; null for one's own. Another's needs the ADMIN scope."
    )


@strawberry.type(description="Sums over some generations.")
class UsageTotals:
    generations: int = strawberry.field(description="How many generations ended.")
    prompt_tokens: SafeInt = strawberry.field(description="Tokens read by models, the cached ones included.")
    completion_tokens: SafeInt = strawberry.field(description="Tokens written by models.")
    cached_tokens: SafeInt = strawberry.field(description="Prompt tokens that a model had in its cache.")

    @classmethod
    def of(cls, buckets: Iterable[UsageBucket]) -> Self:
        """Add up."""
        sums = usage.totals(buckets)
        return cls(
            generations=sums.generations,
            prompt_tokens=SafeInt(sums.prompt_tokens),
            completion_tokens=SafeInt(sums.completion_tokens),
            cached_tokens=SafeInt(sums.cached_tokens),
        )


@strawberry.type(description="What was used with one model.")
class ModelUsage:
    model: str = strawberry.field(description="The model's name. It need not be served any more.")
    totals: UsageTotals = strawberry.field(description="The sums.")


@strawberry.type(description="What was used with one API key.")
class ApiKeyUsage:
    api_key_uuid: strawberry.Private[UUID | None]
    totals: UsageTotals = strawberry.field(description="The sums.")

    @strawberry.field(description="The key; null for what was done when signed in with a password. Needs KEYS_WRITE.")
    async def api_key(self, info: Info) -> ApiKey | None:
        """All keys of a report are fetched in one statement."""
        info.context.require(Scope.KEYS_WRITE)
        if self.api_key_uuid is None:
            return None
        row = await info.context.loaders.api_keys.load(self.api_key_uuid)
        return None if row is None else ApiKey.of(row)


@strawberry.interface(description="Usage in all, by model and by API key.")
class UsageBreakdown:
    buckets: strawberry.Private[Sequence[UsageBucket]]

    @strawberry.field(description="Everything.")
    def total(self) -> UsageTotals:
        """The sums of all buckets."""
        return UsageTotals.of(self.buckets)

    @strawberry.field(description="By model, in the order of their names.")
    def by_model(self) -> list[ModelUsage]:
        """One entry a model that was used."""
        groups = usage.by_model(self.buckets)
        return [ModelUsage(model=model, totals=UsageTotals.of(rows)) for model, rows in groups.items()]

    @strawberry.field(description="By API key, oldest first, then what was done without one.")
    def by_key(self) -> list[ApiKeyUsage]:
        """One entry a key that was used."""
        groups = usage.by_key(self.buckets)
        return [ApiKeyUsage(api_key_uuid=key, totals=UsageTotals.of(rows)) for key, rows in groups.items()]


@strawberry.type(description="Usage on one day.")
class UsageDay(UsageBreakdown):
    day: date = strawberry.field(description="The day, in UTC.")


@strawberry.type(description="What a user used in a time.")
class UsageReport(UsageBreakdown):
    from_: datetime = strawberry.field(name="from", description="Counted from this moment on.")
    to: datetime = strawberry.field(description="Counted up to, and without, this moment.")
    days: list[UsageDay] = strawberry.field(description="The days on which something was used, oldest first.")

    @classmethod
    def of(cls, report: usage.UsageReport) -> Self:
        """The report of the gateway."""
        return cls(
            buckets=report.buckets,
            from_=report.start,
            to=report.end,
            days=[UsageDay(buckets=rows, day=day) for day, rows in report.days.items()],
        )
