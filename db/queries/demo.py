"""The statements that write sample data."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Table, exists, func, insert, select

from db.engine import ReadSession, WriteSession
from db.tables import ApiKey, Generation, Group, Price, Transcript, UsageRecord, User

MOST_USERS = 1
"""In a new database there is the first administrator."""

_USED = (ApiKey, Generation, Group, Price, UsageRecord)


async def is_new(session: ReadSession) -> bool:
    """Tell whether nobody has used the database: it has one user at most, and nothing that belongs to any."""
    users = await session.scalar(select(func.count()).select_from(User)) or 0
    found = [await session.scalar(select(exists().select_from(table))) for table in _USED]
    return users <= MOST_USERS and not any(found)


async def add_usage(session: WriteSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the ledger: columns by name."""
    connection = await session.connection()
    await connection.execute(insert(cast("Table", UsageRecord.__table__)), rows)


async def add_generations(
    session: WriteSession, rows: Sequence[Mapping[str, Any]], transcripts: Sequence[Mapping[str, Any]]
) -> None:
    """Write generations that have ended, and what was said in some: columns by name."""
    connection = await session.connection()
    for table, some in ((Generation.__table__, rows), (Transcript.__table__, transcripts)):
        if some:
            await connection.execute(insert(cast("Table", table)), some)
