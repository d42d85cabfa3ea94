"""The parts that limit what is used and what is sent, and tell of it."""

from server.limits.wiring import make_limits, make_request_limits, make_webhooks

__all__ = ["make_limits", "make_request_limits", "make_webhooks"]
