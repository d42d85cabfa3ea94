"""The statements about accounts at identity providers, and about sign-ins that wait there."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select

from db.engine import ReadSession, WriteSession
from db.tables import ExternalAccount, LoginFlow, Role, User


async def external_account(session: WriteSession, provider: str, subject: str) -> tuple[ExternalAccount, User] | None:
    """Give an account at a provider and the user whom it signs in, both locked until the transaction ends."""
    rows = await session.execute(
        select(ExternalAccount, User)
        .join(User, User.id == ExternalAccount.user_id)
        .where(ExternalAccount.provider == provider, ExternalAccount.subject == subject)
        .with_for_update()
    )
    found = rows.one_or_none()
    return None if found is None else (found[0], found[1])


async def linked_accounts(session: ReadSession, user_id: UUID, providers: Sequence[str]) -> list[ExternalAccount]:
    """Give the accounts of a user at these providers."""
    held = select(ExternalAccount).where(
        ExternalAccount.user_id == user_id, ExternalAccount.provider.in_(list(providers))
    )
    return list(await session.scalars(held))


async def accounts_of_users(session: ReadSession, user_ids: Sequence[UUID]) -> dict[UUID, list[ExternalAccount]]:
    """Give the accounts at providers of each of these users, those linked first before the others."""
    held = select(ExternalAccount).where(ExternalAccount.user_id.in_(list(user_ids)))
    found: dict[UUID, list[ExternalAccount]] = {user_id: [] for user_id in user_ids}
    for account in await session.scalars(held.order_by(ExternalAccount.linked_at, ExternalAccount.provider)):
        found[account.user_id].append(account)
    return found


async def account_by_subject(session: ReadSession, provider: str, subject: str) -> ExternalAccount | None:
    """Give an account at a provider, whoever it belongs to."""
    return await session.get(ExternalAccount, (provider, subject))


async def unlink(session: WriteSession, user_id: UUID, provider: str) -> None:
    """Remove the account of a user at a provider."""
    await session.execute(
        delete(ExternalAccount).where(ExternalAccount.user_id == user_id, ExternalAccount.provider == provider)
    )


async def taken_usernames(session: ReadSession, usernames: Sequence[str]) -> set[str]:
    """Give those of these names that belong to a user."""
    return set(await session.scalars(select(User.username).where(User.username.in_(list(usernames)))))


async def role_exists(session: ReadSession, name: str) -> bool:
    """Tell whether there is a role of this name beside those that are built in."""
    return await session.get(Role, name) is not None


class Pending(NamedTuple):
    """Sign-ins that wait at identity providers: how many, and when the first of them is over."""

    number: int
    first_ends_at: datetime | None


async def login_flows_pending(session: ReadSession, at: datetime, address: str | None = None) -> Pending:
    """Count the sign-ins that wait at identity providers: all, or those that were begun at an address."""
    waiting = select(func.count(), func.min(LoginFlow.expires_at)).where(LoginFlow.expires_at > at)
    if address is not None:
        waiting = waiting.where(LoginFlow.address == address)
    number, first = (await session.execute(waiting)).one()
    return Pending(number, first)


async def take_login_flow(session: WriteSession, state_hash: str) -> LoginFlow | None:
    """Remove a sign-in that was begun, and give it: of several who ask at once, one gets it."""
    return await session.scalar(delete(LoginFlow).where(LoginFlow.state_hash == state_hash).returning(LoginFlow))


async def purge_login_flows(session: WriteSession, before: datetime) -> None:
    """Remove the sign-ins whose time was over before a moment."""
    await session.execute(delete(LoginFlow).where(stale(before)))


def stale(before: datetime) -> ColumnElement[bool]:
    """Give the condition of the sign-ins whose time was over before a moment."""
    return LoginFlow.expires_at < before
