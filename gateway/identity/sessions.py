"""Sessions: what a sign-in begins, a refresh token keeps alive, and a sign-out ends.

    sign-in ──▶ session ──┬─▶ access token, for minutes, checked at the start of each operation
                          └─▶ refresh token, for one use ──▶ the next one, and a new access token

A refresh token that comes back after its use was stolen: nobody can tell which of the two who have it is the thief, so
the session ends for both (RFC 9700, section 4.14.2). Only a client that lost the answer, and so asks again within
`RETRY_TIME` and has not used the next token, gets the same next token once more.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from auth.client import UNKNOWN_CLIENT, Client
from auth.principal import Principal
from auth.providers import BuiltInPasswords
from auth.refresh_tokens import (
    generate_nonce,
    generate_refresh_token,
    hash_refresh_token,
    is_refresh_token,
    next_refresh_token,
)
from auth.scopes import Scope
from auth.tokens import IssuedToken, TokenSigner
from db import queries
from db.clock import new_id, now
from db.engine import Database, WriteSession
from db.queries import SessionUse
from db.tables import AuditEvent, RefreshToken, Session, User
from gateway.audit import NO_METHOD, AuditOutcome
from gateway.errors import InvalidCredentials, NotFound, SessionEnded, Unsupported
from gateway.identity.known import KnownCallers
from gateway.identity.uses import SessionUses, address_of
from gateway.tasks import purge_regularly

logger = logging.getLogger(__name__)

RETRY_TIME = timedelta(seconds=10)
"""How long after its use a refresh token gives the same answer again."""

KEPT_AFTER_END = timedelta(days=1)
"""How long the row of an ended session is kept, for whoever asks what became of it. Longer than an access token."""

PURGE_SECONDS = 3600

PASSWORD_PROVIDER = BuiltInPasswords.name

DEVICE_PROVIDER = "device"
"""What vouches for a device: another session of the same person."""


class EndReason(StrEnum):
    """Why a session ended before its time, as it is stored."""

    SIGNED_OUT = "SIGNED_OUT"
    REVOKED = "REVOKED"
    REUSED = "REUSED"
    LIMIT = "LIMIT"


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How long a session lasts without use and at most, and how many a user may have."""

    refresh_token_lifetime: timedelta
    session_lifetime: timedelta
    max_sessions_per_user: int


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session, just begun or carried on, with the tokens of its client."""

    user: User
    session: Session
    token: IssuedToken
    refresh_token: IssuedToken


class Sessions:
    """Begins sessions, carries them on, ends them, and tells which there are."""

    def __init__(
        self, database: Database, known: KnownCallers, tokens: TokenSigner, uses: SessionUses, policy: SessionPolicy
    ) -> None:
        self._database = database
        self._known = known
        self._tokens = tokens
        self._uses = uses
        self._policy = policy

    async def begin(self, user: User, client: Client, provider: str, provider_session: str | None = None) -> SignedIn:
        """Begin a session for a user whose identity was checked by `provider`, in a session there of this name.

        Always a new one, with secrets made here: nobody can have prepared it. Where the user has as many as one may
        have, the one that was used longest ago ends. Raises InvalidCredentials where the user was deactivated, or got
        another password, since they were looked up.
        """
        async with self._database.transaction() as tx:
            return await self.begin_within(tx, user, client, provider, provider_session)

    async def begin_within(
        self, tx: WriteSession, user: User, client: Client, provider: str, provider_session: str | None = None
    ) -> SignedIn:
        """Do what `begin` does, within a transaction that does more."""
        at = now()
        secret = generate_refresh_token()
        session = Session(
            id=new_id(),
            user_id=user.id,
            provider=provider,
            provider_session=provider_session,
            client=client.user_agent,
            address=address_of(client),
            created_at=at,
            last_used_at=at,
            expires_at=self._end(at, at),
        )
        kept = self._policy.max_sessions_per_user - 1
        # This locks the user's row: nobody else begins meanwhile.
        if not await queries.session.note_sign_in(tx, user, at):
            raise InvalidCredentials
        await queries.session.revoke_oldest_sessions(tx, user.id, at, EndReason.LIMIT, kept)
        tx.add(session)
        await tx.flush()
        tx.add(RefreshToken(secret_hash=hash_refresh_token(secret), session_id=session.id, created_at=at))
        return self._signed_in(user, session, secret)

    async def refresh(self, token: str, client: Client = UNKNOWN_CLIENT) -> SignedIn:
        """Exchange a refresh token for the next one and an access token. Raises SessionEnded."""
        if not is_refresh_token(token):
            raise SessionEnded
        async with self._database.reading() as session:  # made-up tokens must not keep the one writer of SQLite busy
            known = await queries.session.refresh_token(session, hash_refresh_token(token))
        if known is None:
            raise SessionEnded
        signed_in = await self._rotate(token, client)
        if signed_in is None:
            self._known.clear()
            raise SessionEnded("This refresh token was used before, so its session was ended. Sign in again.")
        return signed_in

    async def sign_out(self, principal: Principal, *, everywhere: bool = False) -> None:
        """End the caller's session, or all of the caller's. Raises Unsupported for a caller without a session.

        What a provider has to do with it is in `external/sign_outs.py`.
        """
        if principal.session_id is None:
            raise Unsupported("An API key has no session. Revoke the key with `revokeApiKey`.")
        async with self._database.transaction() as tx:
            if everywhere:
                await queries.session.revoke_sessions(tx, principal.user_id, now(), EndReason.SIGNED_OUT)
            else:
                await _end(tx, principal.session_id, EndReason.SIGNED_OUT)
        self._known.clear()

    async def revoke(self, principal: Principal, session_id: UUID) -> Session:
        """End a session of the caller's, or for who may change users, anybody's. Raises NotFound."""
        async with self._database.transaction() as tx:
            session = await queries.session.session_to_end(tx, session_id)
            if session is None or not _may_end(principal, session.user_id):
                raise NotFound("There is no session with this id, or it is not yours.", "Session", session_id)
            await _end(tx, session_id, EndReason.REVOKED)
        self._known.clear()
        return self._as_used(session)

    async def visible(self, principal: Principal, ids: Sequence[UUID]) -> list[Session | None]:
        """Give those of these sessions that the caller may see, in the order of the ids; None for the others."""
        async with self._database.reading() as session:
            found = await queries.session.sessions_by_id(session, ids)
        rows = [found.get(session_id) for session_id in ids]
        return [self._as_used(row) if row and _may_see(principal, row.user_id) else None for row in rows]

    async def of_users(self, principal: Principal, user_ids: Sequence[UUID]) -> list[list[Session]]:
        """Give the sessions of these users that hold, those used last first; none of whom the caller may not see."""
        asked = [user_id for user_id in user_ids if _may_see(principal, user_id)]
        most = self._policy.max_sessions_per_user
        async with self._database.reading() as session:
            found = await queries.session.sessions_of_users(session, asked, now(), most)
        return [[self._as_used(row) for row in found.get(user_id, [])] for user_id in user_ids]

    async def run(self) -> None:
        """Remove the sessions that ended some time ago, until cancelled."""
        await purge_regularly("sessions that ended", self._purge, PURGE_SECONDS)

    async def _purge(self) -> None:
        async with self._database.transaction() as tx:
            await queries.session.purge_sessions(tx, now() - KEPT_AFTER_END)

    async def _rotate(self, token: str, client: Client) -> SignedIn | None:
        """Use a token that is known, and give what follows; None where it was used before and its session ended now."""
        secret_hash = hash_refresh_token(token)
        async with self._database.transaction() as tx:
            at = now()
            used = await queries.session.use_refresh_token(tx, secret_hash, at, generate_nonce())
            is_first = used is not None
            used = used or await queries.session.refresh_token(tx, secret_hash)
            found = used and await queries.session.session_to_go_on(tx, used.session_id, at)
            if not used or not used.nonce or not found:
                raise SessionEnded
            session, user = found
            following = next_refresh_token(token, used.nonce)
            if is_first:
                await self._carry_on(tx, session, following, SessionUse(at, address_of(client)))
            elif not await _is_retry(tx, used, following, at):
                await _end_stolen(tx, session, user, client)
                return None
        return self._signed_in(user, session, following)

    async def _carry_on(self, tx: WriteSession, session: Session, following: str, use: SessionUse) -> None:
        expires_at = self._end(session.created_at, use.at)
        if not await queries.session.prolong_session(tx, session.id, expires_at, use):
            raise SessionEnded
        tx.add(RefreshToken(secret_hash=hash_refresh_token(following), session_id=session.id, created_at=use.at))

    def _end(self, created_at: datetime, used_at: datetime) -> datetime:
        """When a session ends that nobody uses after `used_at`."""
        policy = self._policy
        return min(created_at + policy.session_lifetime, used_at + policy.refresh_token_lifetime)

    def _signed_in(self, user: User, session: Session, secret: str) -> SignedIn:
        token = self._tokens.issue(user.id, session.id)
        return SignedIn(user, session, token, IssuedToken(secret, session.expires_at))

    def _as_used(self, session: Session) -> Session:
        session.last_used_at, session.address = self._uses.last(session)
        return session


async def _is_retry(tx: WriteSession, used: RefreshToken, following: str, at: datetime) -> bool:
    """Tell whether a used token comes from a client that lost the answer: soon, and the next one is unused."""
    if used.used_at is None or at - used.used_at > RETRY_TIME:
        return False
    unused = await queries.session.refresh_token(tx, hash_refresh_token(following))
    return unused is not None and unused.used_at is None


async def _end(tx: WriteSession, session_id: UUID, reason: EndReason) -> bool:
    """End a session; False for one that ended earlier, which keeps its date and its reason."""
    session = await queries.session.session_to_end(tx, session_id)
    if session is None or session.revoked_at is not None:
        return False
    session.revoked_at, session.revoke_reason = now(), reason
    return True


async def _end_stolen(tx: WriteSession, session: Session, user: User, client: Client) -> None:
    """End a session whose refresh token came back after its use, and leave a record of it."""
    if not await _end(tx, session.id, EndReason.REUSED):
        return
    logger.warning(
        "a refresh token of %s was used twice, the second time from %s: the session %s was ended",
        user.username,
        address_of(client),
        session.id,
    )
    tx.add(
        AuditEvent(
            actor_id=user.id,
            actor=user.username,
            method=NO_METHOD,
            session_id=session.id,
            action="refreshSession",
            outcome=AuditOutcome.REFUSED.value,
            code=EndReason.REUSED.value,
            target_type="Session",
            target_id=str(session.id),
            address=address_of(client),
            client=client.user_agent,
        )
    )


def _may_see(principal: Principal, user_id: UUID) -> bool:
    return principal.may_see_of(user_id, Scope.USERS_READ)


def _may_end(principal: Principal, user_id: UUID) -> bool:
    own = principal.user_id == user_id and principal.has(Scope.PROFILE_WRITE)
    return own or principal.has(Scope.USERS_WRITE)
