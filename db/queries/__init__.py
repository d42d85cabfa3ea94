"""Every statement, in a module for each noun: `queries.generation`, `queries.usage`."""

from db.queries import (
    api_key,
    audit,
    blob,
    generation,
    idempotency,
    identity,
    replica,
    session,
    sign_in,
    transcript,
    usage,
)
from db.queries.api_key import KeyUse
from db.queries.audit import AuditChoice
from db.queries.identity import Caller
from db.queries.session import SessionUse
from db.queries.sign_in import Subject, Who
from db.queries.usage import BucketRun, UsageGroup, UsageSums

__all__ = [
    "AuditChoice",
    "BucketRun",
    "Caller",
    "KeyUse",
    "SessionUse",
    "Subject",
    "UsageGroup",
    "UsageSums",
    "Who",
    "api_key",
    "audit",
    "blob",
    "generation",
    "idempotency",
    "identity",
    "replica",
    "session",
    "sign_in",
    "transcript",
    "usage",
]
