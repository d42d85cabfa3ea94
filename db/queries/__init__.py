"""Every statement, in a module for each noun: `queries.generation`, `queries.usage`."""

from db.queries import (
    api_key,
    audit,
    blob,
    care,
    demo,
    device,
    external,
    generation,
    group,
    idempotency,
    identity,
    limit,
    notice,
    one_time_link,
    price,
    replica,
    role,
    session,
    sign_in,
    transcript,
    usage,
    user,
)
from db.queries.api_key import KeyUse
from db.queries.audit import AuditChoice
from db.queries.care import Connections, Stale, TableShape
from db.queries.external import Pending
from db.queries.identity import Caller
from db.queries.limit import CounterKey, FullCounter, Level, Reserve, Settlement
from db.queries.price import PriceChoice
from db.queries.session import Elsewhere, SessionUse
from db.queries.sign_in import Subject, Who
from db.queries.usage import BucketRun, Month, Segment, Span, UsageChoice, UsageGroup, UsageSums, UsageValues
from db.queries.user import NO_PASSWORD, UserFilter

__all__ = [
    "NO_PASSWORD",
    "AuditChoice",
    "BucketRun",
    "Caller",
    "Connections",
    "CounterKey",
    "Elsewhere",
    "FullCounter",
    "KeyUse",
    "Level",
    "Month",
    "Pending",
    "PriceChoice",
    "Reserve",
    "Segment",
    "SessionUse",
    "Settlement",
    "Span",
    "Stale",
    "Subject",
    "TableShape",
    "UsageChoice",
    "UsageGroup",
    "UsageSums",
    "UsageValues",
    "UserFilter",
    "Who",
    "api_key",
    "audit",
    "blob",
    "care",
    "demo",
    "device",
    "external",
    "generation",
    "group",
    "idempotency",
    "identity",
    "limit",
    "notice",
    "one_time_link",
    "price",
    "replica",
    "role",
    "session",
    "sign_in",
    "transcript",
    "usage",
    "user",
]
