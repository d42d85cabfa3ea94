"""Limits as tests set them: straight into the database."""

from uuid import UUID

from db.clock import new_id
from db.engine import Database
from db.tables import Limit, LimitException
from gateway.limits import ExceptionKind, LimitDimension, LimitWindow, Measure


async def set_limit(
    database: Database,
    amount: int,
    measure: Measure = Measure.TOKENS,
    window: LimitWindow | None = LimitWindow.DAY,
    *each: LimitDimension,
    name: str = "limit",
    exceptions: dict[tuple[ExceptionKind, str], int | None] | None = None,
    **columns: object,
) -> UUID:
    """Set a limit, and give its id."""
    row = Limit(id=new_id(), name=name, measure=measure, window=window, amount=amount, each=list(each), **columns)
    async with database.transaction() as tx:
        tx.add(row)
        await tx.flush()
        for (kind, subject), other in (exceptions or {}).items():
            tx.add(LimitException(limit_id=row.id, kind=kind, subject=subject, amount=other))
    return row.id
