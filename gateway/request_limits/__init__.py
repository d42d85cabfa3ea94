"""Limits on how many requests an address may send, whoever sends them: for strangers, and for signing in."""

from gateway.request_limits.request_limits import (
    RequestBucket,
    RequestLimits,
    RequestRule,
    TooManyRequests,
    parse_request_rules,
)

__all__ = ["RequestBucket", "RequestLimits", "RequestRule", "TooManyRequests", "parse_request_rules"]
