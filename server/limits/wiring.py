"""The parts that limit and tell of limits, made as the settings ask for them."""

from db.engine import Database
from gateway.limits import Limits, parse_thresholds
from gateway.notices import Webhooks, WebhookTarget, parse_webhook_secrets
from gateway.request_limits import RequestBucket, RequestLimits, parse_request_rules
from gateway.streams import RequestCounts
from server.settings import Settings


def make_limits(settings: Settings, database: Database) -> Limits:
    """Make what holds the limits, as the settings ask for it."""
    return Limits(
        database,
        enabled=settings.rate_limit_enabled,
        identity_max_age=settings.identity_max_age,
        limit_wait_time=settings.limit_wait_time,
        thresholds=parse_thresholds(settings.limit_thresholds),
    )


def make_webhooks(settings: Settings, database: Database) -> Webhooks:
    """Make what delivers webhooks, if the settings name a receiver."""
    if settings.webhook_url is None or settings.webhook_secret is None:
        return Webhooks(database, None)
    target = WebhookTarget(
        settings.webhook_url.get_secret_value(),
        parse_webhook_secrets(settings.webhook_secret.get_secret_value()),
        settings.webhook_timeout,
        settings.webhook_retry_time,
    )
    return Webhooks(database, target)


def make_request_limits(settings: Settings) -> RequestLimits:
    """Make what counts requests by address, together with the other gateways where the settings name a Valkey."""
    if not settings.rate_limit_enabled:
        return RequestLimits({})
    rules = {
        RequestBucket.ANONYMOUS: parse_request_rules(settings.rate_limit_anonymous),
        RequestBucket.SIGN_IN: parse_request_rules(settings.rate_limit_sign_in),
    }
    shared = None if settings.redis_url is None else RequestCounts(settings.redis_url.get_secret_value())
    return RequestLimits(rules, shared)
