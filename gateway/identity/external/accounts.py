"""From an identity that a provider vouches for to the user whom it signs in.

    (provider, subject) ──┬── linked ───▶ its user: the provider's role again, refused if disabled
                          └── unknown ──▶ a new user, if people may sign up: a free name, the provider's role

Nothing else links the two. An e-mail address or a user name may be given to somebody else at the provider, and whoever
chooses theirs there would choose whose account they take over here.
"""

import logging
import re
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from auth.providers import ExternalIdentity
from auth.roles import BUILT_IN_ROLES, BuiltInRole
from db import queries
from db.clock import new_id, now
from db.engine import Database, WriteSession
from db.queries import NO_PASSWORD
from db.tables import ExternalAccount, User
from gateway.identity.external.refusals import ExternalSignInRefused, SignInProblem
from gateway.identity.known import KnownCallers

logger = logging.getLogger(__name__)

MAX_SUBJECT = 255
MAX_USERNAME = 64
MAX_EMAIL = 254
MAX_DISPLAY_NAME = 100
MAX_EXTERNAL_NAME = 255

NAMES_TRIED = 100
"""`ada`, `ada-2` … that are looked up at once for a free one."""

ATTEMPTS = 5
"""Transactions for one sign-in: another that makes the same user, or takes the same name, sends it back to start."""

_OTHERS = re.compile(r"[^a-z0-9._@+-]+")
_EDGES = "._@+-"


@dataclass(frozen=True, slots=True)
class SignUp:
    """Whether unknown people get an account, and the role of those of whom the provider says nothing."""

    enabled: bool
    role: str


class ExternalAccounts:
    """Finds or makes the users of people whom identity providers vouch for."""

    def __init__(self, database: Database, known: KnownCallers, sign_up: SignUp) -> None:
        self._database = database
        self._known = known
        self._sign_up = sign_up

    async def user_of(self, identity: ExternalIdentity) -> User:
        """Give the user of an identity, made now where it is unknown. Raises ExternalSignInRefused.

        Of several first sign-ins at once, one makes the user: the others fail on its key, and find it.
        """
        for attempt in range(ATTEMPTS):
            try:
                async with self._database.transaction() as tx:
                    user, changed = await self._found_or_made(tx, identity)
            except IntegrityError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                if changed:
                    self._known.clear()
                return user
        raise AssertionError("unreachable")

    async def _found_or_made(self, tx: WriteSession, identity: ExternalIdentity) -> tuple[User, bool]:
        """Give the user, and whether their role is another one now."""
        role = await _role_of(tx, identity)
        # Administrators are locked before the user, as wherever else a role is taken away: no two wait in a circle.
        demotes = role is not None and role != BuiltInRole.ADMIN
        administrators = await queries.user.lock_administrators(tx, BuiltInRole.ADMIN) if demotes else set[UUID]()
        subject = stored_subject(identity.subject)
        found = await queries.external.external_account(tx, identity.provider, subject)
        if found is None:
            return await self._made(tx, identity, subject, role), False
        account, user = found
        if user.disabled_at is not None or user.deleted_at is not None:
            raise ExternalSignInRefused(SignInProblem.DISABLED)
        account.username, account.last_signed_in_at = identity.username[:MAX_EXTERNAL_NAME], now()
        if role is None or role == user.role:
            return user, False
        if administrators == {user.id}:
            logger.warning("%s stays an administrator, being the last one; the provider says %s", user.username, role)
            return user, False
        logger.info("the role of %s is now %s, by the provider %s", user.username, role, identity.provider)
        user.role = role
        return user, True

    async def _made(self, tx: WriteSession, identity: ExternalIdentity, subject: str, role: str | None) -> User:
        if not self._sign_up.enabled:
            raise ExternalSignInRefused(SignInProblem.NO_ACCOUNT)
        email = identity.email if identity.email_verified and len(identity.email or "") <= MAX_EMAIL else None
        at = now()
        user = User(
            id=new_id(),
            username=await _free_name(tx, identity.username),
            password_hash=NO_PASSWORD,
            role=role or self._sign_up.role,
            email=email,
            display_name=(identity.display_name or "").strip()[:MAX_DISPLAY_NAME] or None,
            created_at=at,
        )
        tx.add(user)
        await tx.flush()
        tx.add(_account(identity, subject, user.id))
        await tx.flush()
        logger.info("made the user %s for a person of the provider %s", user.username, identity.provider)
        return user


def stored_subject(subject: str) -> str:
    """Give the subject as it is stored: one that is too long for the column by its SHA-256."""
    return subject if len(subject) <= MAX_SUBJECT else f"sha256:{sha256(subject.encode()).hexdigest()}"


def username_from(name: str) -> str:
    """Make a user name of what a provider calls somebody: lower case, and the characters that a name may have."""
    return _OTHERS.sub("-", name.lower())[:MAX_USERNAME].strip(_EDGES) or "user"


async def _free_name(tx: WriteSession, name: str) -> str:
    base = username_from(name)
    endings = ["", *(f"-{number}" for number in range(2, NAMES_TRIED + 1)), f"-{new_id().hex[-12:]}"]
    names = [base[: MAX_USERNAME - len(ending)].rstrip(_EDGES) + ending for ending in endings]
    taken = await queries.external.taken_usernames(tx, names)
    return next(name for name in names if name not in taken)


async def _role_of(tx: WriteSession, identity: ExternalIdentity) -> str | None:
    """Give the role that the provider says. Raises ExternalSignInRefused where there is none of this name."""
    role = identity.role
    if role is None or role in BUILT_IN_ROLES or await queries.external.role_exists(tx, role):
        return role
    logger.error("the provider %s gives the role %r, and there is none of this name", identity.provider, role[:64])
    raise ExternalSignInRefused(SignInProblem.NO_ROLE)


def _account(identity: ExternalIdentity, subject: str, user_id: UUID) -> ExternalAccount:
    at = now()
    return ExternalAccount(
        provider=identity.provider,
        subject=subject,
        user_id=user_id,
        username=identity.username[:MAX_EXTERNAL_NAME],
        linked_at=at,
        last_signed_in_at=at,
    )
