"""The statements about sign-ins: what failed under which names and from where, and which addresses are known."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, delete, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from db.engine import ReadSession, WriteSession
from db.tables import KnownAddress, LoginAttempts, User


class Subject(NamedTuple):
    """What failures are counted by: a name, an address, or both. See `LoginAttempts` for what stands for neither."""

    username: str
    address: str


class Who(NamedTuple):
    """Who wants to sign in from an address: whether that user, and whether anybody, has signed in from there."""

    user: User | None
    known: bool
    address_known: bool


async def who_signs_in(session: ReadSession, username: str, address: str, since: datetime) -> Who:
    """Look up a name and an address in one statement, which is the same whether or not there is such a user."""
    lately = and_(KnownAddress.address == address, KnownAddress.signed_in_at > since)
    here = select(KnownAddress.user_id).where(lately, KnownAddress.user_id == User.id).exists()
    user = select(User, here.label("known")).where(User.username == username)
    row = (await session.execute(user)).one_or_none()
    anybody = await session.scalar(select(KnownAddress.user_id).where(lately).limit(1)) is not None
    return Who(None, False, anybody) if row is None else Who(row[0], row[1], anybody)


async def locks(session: ReadSession, subjects: Sequence[Subject], at: datetime) -> list[datetime]:
    """Until when these are locked, as far as they are at `at`."""
    found = await session.scalars(
        select(LoginAttempts.locked_until).where(_among(subjects), LoginAttempts.locked_until > at)
    )
    return [until for until in found if until is not None]


async def count_sign_ins(
    session: WriteSession, subjects: Sequence[Subject], at: datetime, window_start: datetime
) -> dict[Subject, int]:
    """Count one more sign-in by each subject that is not locked, and give the counts; what is missing is locked.

    One statement, so that of sign-ins made at once each sees those before. What failed before `window_start` is
    forgotten. Every caller gives the subjects in the same order of kinds, so that none waits for another in a circle.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    failures = case((LoginAttempts.last_failed_at < window_start, 1), else_=LoginAttempts.failures + 1)
    rows = await session.execute(
        insert(LoginAttempts)
        .values(
            [
                {"username": subject.username, "address": subject.address, "failures": 1, "last_failed_at": at}
                for subject in subjects
            ]
        )
        .on_conflict_do_update(
            index_elements=[LoginAttempts.username, LoginAttempts.address],
            set_={"failures": failures, "last_failed_at": at, "locked_until": None},
            where=or_(LoginAttempts.locked_until.is_(None), LoginAttempts.locked_until <= at),
        )
        .returning(LoginAttempts.username, LoginAttempts.address, LoginAttempts.failures)
    )
    return {Subject(username, address): failures for username, address, failures in rows}


async def lock_sign_in(session: WriteSession, subject: Subject, until: datetime) -> None:
    """Close sign-in by this subject for a time."""
    await session.execute(update(LoginAttempts).where(_among([subject])).values(locked_until=until))


async def take_back(session: WriteSession, subject: Subject, limit: int) -> None:
    """Count one less, and open what is closed only because of that one."""
    await session.execute(
        update(LoginAttempts)
        .where(_among([subject]), LoginAttempts.failures > 0)
        .values(
            failures=LoginAttempts.failures - 1,
            locked_until=case((LoginAttempts.failures <= limit, None), else_=LoginAttempts.locked_until),
        )
    )


async def forget_sign_ins(session: WriteSession, subject: Subject) -> None:
    """Start counting anew."""
    await session.execute(delete(LoginAttempts).where(_among([subject])))


async def cut_locks(session: WriteSession, at: datetime, latest: datetime) -> None:
    """End no lock later than that: one that does was set by a clock that ran ahead."""
    await session.execute(
        update(LoginAttempts)
        .where(LoginAttempts.locked_until > latest)
        .values(
            locked_until=latest,
            last_failed_at=case((LoginAttempts.last_failed_at > at, at), else_=LoginAttempts.last_failed_at),
        )
    )


async def unlock_name(session: WriteSession, username: str, any_name: str) -> int:
    """Forget what failed under a name, and from the addresses that tried it; gives how many rows that were."""
    tried = select(LoginAttempts.address).where(LoginAttempts.username == username)
    addresses = [address for address in await session.scalars(tried) if address]
    by_address = and_(LoginAttempts.username == any_name, LoginAttempts.address.in_(addresses))
    forgotten = await session.execute(
        delete(LoginAttempts)
        .where(or_(LoginAttempts.username == username, by_address))
        .returning(LoginAttempts.username)
    )
    return len(forgotten.all())


async def note_address(session: WriteSession, user_id: UUID, address: str, at: datetime) -> None:
    """Note that a user has signed in from there."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    await session.execute(
        insert(KnownAddress)
        .values(user_id=user_id, address=address, signed_in_at=at)
        .on_conflict_do_update(index_elements=[KnownAddress.user_id, KnownAddress.address], set_={"signed_in_at": at})
    )


async def purge_sign_ins(session: WriteSession, failed_before: datetime, signed_in_before: datetime) -> None:
    """Remove what is too old to count. A row that somebody is writing is left: waiting for several could deadlock."""
    attempt = LoginAttempts.username, LoginAttempts.address
    old = select(*attempt).where(stale_attempts(failed_before)).with_for_update(skip_locked=True)
    await session.execute(delete(LoginAttempts).where(tuple_(*attempt).in_(old)))
    await session.execute(delete(KnownAddress).where(stale_addresses(signed_in_before)))


def stale_attempts(before: datetime) -> ColumnElement[bool]:
    """Give the condition of what has not failed since then."""
    return LoginAttempts.last_failed_at < before


def stale_addresses(before: datetime) -> ColumnElement[bool]:
    """Give the condition of addresses at which nobody has signed in since then."""
    return KnownAddress.signed_in_at < before


def _among(subjects: Sequence[Subject]) -> ColumnElement[bool]:
    return or_(
        *(
            and_(LoginAttempts.username == subject.username, LoginAttempts.address == subject.address)
            for subject in subjects
        )
    )
