"""Tells others of what happens: limits that are nearly used up, in the audit log, to who follows, and by webhook."""

from gateway.notices.limit_notices import LimitFollower, LimitNotices
from gateway.notices.signature import WebhookSecretError, parse_webhook_secrets, signature
from gateway.notices.webhooks import Webhooks, WebhookTarget

__all__ = [
    "LimitFollower",
    "LimitNotices",
    "WebhookSecretError",
    "WebhookTarget",
    "Webhooks",
    "parse_webhook_secrets",
    "signature",
]
