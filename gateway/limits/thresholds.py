"""Shares of a limit at which somebody is told that it is nearly used up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from auth.principal import Principal
from db.tables import LimitCrossing
from gateway.limits.rules import Asking, LimitDimension, LimitRule
from gateway.limits.status import LimitStatus

MOST_THRESHOLDS = 10

NONE = "off"


@dataclass(frozen=True, slots=True)
class LimitThreshold:
    """What a counter of a limit has used came to `threshold` percent of it, and stood so `at` that moment."""

    threshold: int
    limit: LimitStatus
    at: datetime


def parse_thresholds(text: str) -> tuple[int, ...]:
    """Parse `80,100`, or `off` for none. Raises ValueError with a sentence."""
    if text.strip().lower() == NONE:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) <= 3 and 1 <= int(part) <= 100 for part in parts):
        raise ValueError("must be percentages from 1 to 100, such as 80,100, or off")
    if len(parts) > MOST_THRESHOLDS:
        raise ValueError(f"may have at most {MOST_THRESHOLDS} percentages")
    return tuple(sorted({int(part) for part in parts}))


def thresholds_of(crossing: LimitCrossing, rule: LimitRule, thresholds: Sequence[int]) -> list[LimitThreshold]:
    """Give each threshold that a counter passed with one change, the lowest first."""
    status = LimitStatus(
        rule.name,
        rule.measure,
        rule.window,
        _scope(crossing),
        crossing.used,
        crossing.reserved,
        crossing.bound,
        crossing.window_end,
        rule.currency,
    )
    passed = [it for it in sorted(thresholds) if crossing.told_before < it <= crossing.told]
    return [LimitThreshold(it, status, crossing.at) for it in passed]


def is_seen_by(crossing: LimitCrossing, rule: LimitRule, principal: Principal) -> bool:
    """Tell whether the counter counts what a caller asks for, as `viewer { limits }` does for a model."""
    scope = _scope(crossing)
    tags = {rule.conditions.tag_name or "": scope[LimitDimension.TAG]} if LimitDimension.TAG in scope else {}
    asking = Asking.of(principal, scope.get(LimitDimension.MODEL), scope.get(LimitDimension.END_USER), tags)
    return rule.conditions.met_by(asking) and rule.bound(asking) is not None and scope in rule.subjects(asking)


def _scope(crossing: LimitCrossing) -> dict[LimitDimension, str]:
    return {LimitDimension(part): value for part, value in (crossing.scope or {}).items()}
