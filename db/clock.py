"""The one clock of the database layer, and the ids that sort by it."""

from datetime import UTC, datetime
from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """Give a fresh UUIDv7: unique, and later ones sort after earlier ones."""
    return uuid_utils.compat.uuid7()


def now() -> datetime:
    """Give the present moment in UTC. The one clock of the database layer."""
    return datetime.now(UTC)
