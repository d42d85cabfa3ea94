"""What limits refuse, as data."""

import strawberry

from schema.errors import UserError
from schema.limits.status import LimitStatus


@strawberry.type(description="A limit on a minute, or on what runs at once, has no room for the generation.")
class RateLimited(UserError):
    limit: LimitStatus = strawberry.field(description="Which limit, whose it is, and when it resets.")
    retry_after_ms: int | None = strawberry.field(
        description="How many milliseconds to wait before trying again; null if it never fits: ask for less."
    )


@strawberry.type(description="A limit on a day or a month has no room for the generation.")
class QuotaExceeded(UserError):
    limit: LimitStatus = strawberry.field(description="Which limit, whose it is, and when it resets.")
    retry_after_ms: int | None = strawberry.field(
        description="How many milliseconds to wait before trying again; null if it never fits: ask for less."
    )
