"""What of a limit is used and left."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from db.queries import Level
from db.tables import LimitCounter
from gateway.limits.rules import Claim, LimitDimension, Measure
from gateway.limits.windows import LimitWindow


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """One limit as it stands for somebody. `scope` is whose counter it is; empty: that of all together.

    `resets_at` is when what was used counts no longer; None where nothing has begun to count, and for what runs at
    once. Amounts of COST are in 1e-9 of the `currency`.
    """

    name: str
    measure: Measure
    window: LimitWindow | None
    scope: Mapping[LimitDimension, str]
    used: int
    reserved: int
    limit: int
    resets_at: datetime | None
    currency: str | None = None

    @property
    def remaining(self) -> int:
        """What is left, never less than nothing."""
        return max(0, self.limit - self.used - self.reserved)


def status_of(claim: Claim, counter: LimitCounter | Level | None, at: datetime) -> LimitStatus:
    """Tell how a limit stands. A window that is over has nothing in it."""
    rule = claim.rule
    is_over = counter is not None and counter.window_end is not None and counter.window_end <= at
    if counter is None or is_over:
        used, reserved = 0, 0
        calendar = rule.window not in (None, LimitWindow.MINUTE)
        resets_at = claim.reserve.end_after(counter and counter.window_end) if calendar else None
    else:
        used, reserved, resets_at = counter.used, counter.reserved, counter.window_end
    return LimitStatus(
        rule.name, rule.measure, rule.window, claim.subject, used, reserved, claim.bound, resets_at, rule.currency
    )
