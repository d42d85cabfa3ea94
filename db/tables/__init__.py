"""The tables, typed. Migrations in `alembic/` must give exactly these (a test compares them on both databases).

Keys are UUIDv7 (RFC 9562), so they sort by time of creation. Times are UTC with a zone on every database.
"""

from db.tables.audit import AuditEvent
from db.tables.blob import Blob, BlobChunk
from db.tables.generation import Generation, GenerationAttempt, IdempotencyKey, Transcript
from db.tables.identity import ApiKey, ExternalAccount, Group, GroupMember, Role, User
from db.tables.limit import Limit, LimitCounter, LimitException, Reservation
from db.tables.notice import LimitCrossing, WebhookMessage
from db.tables.price import Price
from db.tables.replica import Replica
from db.tables.session import OneTimeLink, RefreshToken, Session
from db.tables.sign_in import DeviceCode, KnownAddress, LoginAttempts, LoginFlow
from db.tables.table import Table
from db.tables.usage import UsageBin, UsageDetails, UsageKey, UsageMonth, UsageRecord, UsageRollup

__all__ = [
    "ApiKey",
    "AuditEvent",
    "Blob",
    "BlobChunk",
    "DeviceCode",
    "ExternalAccount",
    "Generation",
    "GenerationAttempt",
    "Group",
    "GroupMember",
    "IdempotencyKey",
    "KnownAddress",
    "Limit",
    "LimitCounter",
    "LimitCrossing",
    "LimitException",
    "LoginAttempts",
    "LoginFlow",
    "OneTimeLink",
    "Price",
    "RefreshToken",
    "Replica",
    "Reservation",
    "Role",
    "Session",
    "Table",
    "Transcript",
    "UsageBin",
    "UsageDetails",
    "UsageKey",
    "UsageMonth",
    "UsageRecord",
    "UsageRollup",
    "User",
    "WebhookMessage",
]
