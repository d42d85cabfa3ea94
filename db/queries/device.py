"""The statements about devices that wait for somebody to approve them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, select, update

from db.engine import ReadSession, WriteSession
from db.tables import DeviceCode, User


async def by_device_code(session: ReadSession, device_hash: str) -> DeviceCode | None:
    """Give the device with this code, whatever became of it."""
    return await session.scalar(select(DeviceCode).where(DeviceCode.device_hash == device_hash))


async def waiting(session: ReadSession, user_code_hash: str, at: datetime) -> DeviceCode | None:
    """Give the device that waits with this code for a person's decision."""
    return await session.scalar(select(DeviceCode).where(DeviceCode.user_code_hash == user_code_hash, _waits(at)))


async def count(session: ReadSession, at: datetime) -> int:
    """Count the devices whose codes have not expired."""
    return await session.scalar(select(func.count()).where(DeviceCode.expires_at > at)) or 0


async def lock(session: WriteSession, device_code_id: UUID) -> DeviceCode | None:
    """Give a device as it is now, locked until the transaction ends."""
    found = select(DeviceCode).where(DeviceCode.id == device_code_id).with_for_update()
    return await session.scalar(found.execution_options(populate_existing=True))


async def decide(
    session: WriteSession, device_code_id: UUID, user_id: UUID, at: datetime, *, approve: bool
) -> DeviceCode | None:
    """Write a person's decision, and give the device; None where it waits no more. One statement: one decision."""
    moment = {"approved_at": at} if approve else {"denied_at": at}
    decided = update(DeviceCode).where(DeviceCode.id == device_code_id, _waits(at)).values(user_id=user_id, **moment)
    return await session.scalar(decided.returning(DeviceCode).execution_options(populate_existing=True))


async def deny_approved(session: WriteSession, user_id: UUID, at: datetime) -> None:
    """Let no device sign in any more that this user has approved and that has not done so yet."""
    approved = and_(DeviceCode.user_id == user_id, DeviceCode.approved_at.is_not(None), DeviceCode.used_at.is_(None))
    await session.execute(update(DeviceCode).where(approved, DeviceCode.denied_at.is_(None)).values(denied_at=at))


async def approver(session: WriteSession, user_id: UUID) -> User | None:
    """Give a user who can sign in, as they are now, locked until the transaction ends; None for anybody else."""
    can_sign_in = User.disabled_at.is_(None), User.deleted_at.is_(None), User.kind == "PERSON"
    found = select(User).where(User.id == user_id, *can_sign_in).with_for_update(key_share=True)
    return await session.scalar(found.execution_options(populate_existing=True))


async def use(session: WriteSession, device_code_id: UUID, at: datetime) -> bool:
    """Use an approval up; False where it holds no more. Of several at once, one gets it."""
    approved = and_(DeviceCode.approved_at.is_not(None), DeviceCode.denied_at.is_(None), DeviceCode.used_at.is_(None))
    used = update(DeviceCode).where(DeviceCode.id == device_code_id, approved, DeviceCode.expires_at > at)
    return await session.scalar(used.values(used_at=at).returning(DeviceCode.id)) is not None


async def purge(session: WriteSession, expired_before: datetime) -> None:
    """Remove the devices whose codes expired before that moment."""
    await session.execute(delete(DeviceCode).where(stale(expired_before)))


def stale(expired_before: datetime) -> ColumnElement[bool]:
    """Give the condition of the devices whose codes expired before that moment."""
    return DeviceCode.expires_at < expired_before


def _waits(at: datetime) -> ColumnElement[bool]:
    return and_(
        DeviceCode.expires_at > at,
        DeviceCode.approved_at.is_(None),
        DeviceCode.denied_at.is_(None),
        DeviceCode.used_at.is_(None),
    )
