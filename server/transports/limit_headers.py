"""How limits stand, as HTTP says it: `RateLimit-Policy` and `RateLimit`, and `Retry-After` where one refused.

After draft-ietf-httpapi-ratelimit-headers-11; structured fields are RFC 9651. Money is no number of units that the
draft knows, so limits on cost are told in `extensions` alone. Neither has a month a number of seconds.
"""

from base64 import b64encode
from math import ceil

from db.clock import now
from gateway.limits import LimitStatus, LimitsTold, LimitWindow, Measure, digest

_UNITS = {Measure.REQUESTS: "requests", Measure.PARALLEL: "concurrent-requests", Measure.TOKENS: "tokens"}
_SECONDS = {LimitWindow.MINUTE: 60, LimitWindow.DAY: 86_400}

MOST_LIMITS = 20
"""Limits in one head, the fullest first: proxies refuse heads of more than some kB."""


def limit_headers(told: LimitsTold) -> dict[str, str]:
    """Give the headers of a response that tell what `told` holds; none where it holds nothing."""
    headers: dict[str, str] = {}
    counted = sorted((it for it in told.statuses if it.measure in _UNITS), key=_left)[:MOST_LIMITS]
    if counted:
        headers["RateLimit-Policy"] = ", ".join(map(_policy, counted))
        headers["RateLimit"] = ", ".join(map(_state, counted))
    if told.retry_after_ms is not None:
        headers["Retry-After"] = str(ceil(told.retry_after_ms / 1000))
    return headers


def _left(status: LimitStatus) -> float:
    return status.remaining / status.limit if status.limit else 0


def _policy(status: LimitStatus) -> str:
    window = _SECONDS.get(status.window) if status.window else None
    seconds = "" if window is None else f";w={window}"
    return f'"{status.name}";q={status.limit};qu="{_UNITS[status.measure]}"{seconds}{_partition(status)}'


def _state(status: LimitStatus) -> str:
    resets_at = status.resets_at
    seconds = "" if resets_at is None else f";t={max(0, ceil((resets_at - now()).total_seconds()))}"
    return f'"{status.name}";r={status.remaining}{seconds}{_partition(status)}'


def _partition(status: LimitStatus) -> str:
    """Tell counters of one limit apart, as those of two groups of a user, and tell no ids."""
    return f";pk=:{b64encode(bytes.fromhex(digest(status.scope))[:9]).decode()}:" if status.scope else ""
