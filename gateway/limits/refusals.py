"""What limits refuse."""

from math import ceil

from db.clock import now
from gateway.errors import LONGEST_RETRY_MS, RETRY_AFTER_SECONDS, ErrorCode, GatewayError
from gateway.limits.rules import LimitDimension, LimitRule, Measure
from gateway.limits.status import LimitStatus
from gateway.limits.windows import LimitWindow
from gateway.money import shown_money

_UNITS = {
    Measure.REQUESTS: ("request", "requests"),
    Measure.TOKENS: ("token", "tokens"),
    Measure.PARALLEL: ("generation at once", "generations at once"),
}


class LimitReached(GatewayError):
    """A limit has no room for a generation. `limit` tells which, whose it is, and when it resets.

    `asked` is how much of it was asked for. What is more than the whole limit is never let in: it cannot be retried.
    """

    def __init__(self, limit: LimitStatus, asked: int) -> None:
        self.limit = limit
        self.asked = asked
        self.retryable = asked <= limit.limit
        self.retry_after_ms = _retry_after_ms(limit) if self.retryable else None
        super().__init__(_told(limit, asked))


class RateLimited(LimitReached):
    """A limit on what runs at once, or in a minute."""

    code = ErrorCode.RATE_LIMITED


class QuotaExceeded(LimitReached):
    """A limit on a day or a month."""

    code = ErrorCode.QUOTA_EXCEEDED


def refused(limit: LimitStatus, asked: int) -> LimitReached:
    """Make the refusal that fits the limit's window."""
    kind = QuotaExceeded if limit.window in (LimitWindow.DAY, LimitWindow.MONTH) else RateLimited
    return kind(limit, asked)


def _retry_after_ms(limit: LimitStatus) -> int:
    if limit.resets_at is None:
        return RETRY_AFTER_SECONDS * 1000
    return max(1, min(ceil((limit.resets_at - now()).total_seconds() * 1000), LONGEST_RETRY_MS))


def _told(limit: LimitStatus, asked: int) -> str:
    allowed = f"{shown_amount(limit, limit.limit)}{'' if limit.window is None else f' a {limit.window.lower()}'}"
    whose = ", ".join(_WHOSE[dimension] for dimension in limit.scope) or "of all callers together"
    told = f"The limit {limit.name!r} of {allowed} ({whose}) is reached: "
    if asked > limit.limit:
        return (
            f"This may need {shown_amount(limit, asked)}, more than the limit {limit.name!r} of {allowed} ({whose}). "
            "Ask for fewer tokens (options.maxTokens) or shorten the prompt."
        )
    told += f"{shown_amount(limit, limit.used)} used, {shown_amount(limit, limit.reserved)} reserved"
    told += "." if asked <= 1 else f", {shown_amount(limit, asked)} more may be needed."
    if limit.resets_at is not None:
        return f"{told} It resets at {limit.resets_at:%Y-%m-%d %H:%M:%S} UTC."
    return f"{told} Try again when one has ended."


_WHOSE = {
    LimitDimension.USER: "yours",
    LimitDimension.GROUP: "of your group",
    LimitDimension.API_KEY: "of this API key",
    LimitDimension.MODEL: "of this model",
    LimitDimension.END_USER: "of this end user",
    LimitDimension.TAG: "of this tag",
}


def shown_amount(limit: LimitStatus | LimitRule, amount: int) -> str:
    """Write an amount of a limit with its unit, for people."""
    if limit.measure is not Measure.COST:
        one, many = _UNITS[limit.measure]
        return f"{amount:,} {one if amount == 1 else many}"
    return shown_money(amount, limit.currency or "")
