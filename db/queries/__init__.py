"""Every statement, in a module for each noun: `queries.generation`, `queries.usage`."""

from db.queries import blob, generation, idempotency, identity, replica, sign_in, transcript, usage
from db.queries.sign_in import Subject, Who
from db.queries.usage import BucketRun, UsageGroup, UsageSums

__all__ = [
    "BucketRun",
    "Subject",
    "UsageGroup",
    "UsageSums",
    "Who",
    "blob",
    "generation",
    "idempotency",
    "identity",
    "replica",
    "sign_in",
    "transcript",
    "usage",
]
