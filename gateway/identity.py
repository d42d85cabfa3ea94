"""Who is asking: from credentials to principals, signing in, and the keys of each user."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from auth import api_keys
from auth.credentials import ApiKeySecret, Credentials
from auth.errors import ExpiredApiKey, InvalidApiKey, InvalidToken, RevokedApiKey
from auth.passwords import PasswordHasher, PasswordPolicyError, check_password_policy
from auth.principal import Principal
from auth.scopes import DEFAULT_KEY_SCOPES, Scope, scopes_of_key, scopes_of_user
from auth.tokens import IssuedToken, TokenSigner
from db import queries_identity
from db.engine import Database
from db.tables import ApiKey, User, new_id, now
from gateway.errors import AccountLocked, InvalidCredentials, InvalidInput, NotFound
from gateway.remembered import Remembered

USERNAME = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,62}[a-z0-9])?")
LAST_USED_RESOLUTION = timedelta(minutes=1)
MAX_KEY_NAME = 100


@dataclass(frozen=True, slots=True)
class LoginPolicy:
    """When a name is locked: after `failures` wrong passwords within `window`, for as long as `window`."""

    failures: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A sign-in that worked."""

    user: User
    token: IssuedToken


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made, with the secret that is shown this once."""

    key: ApiKey
    secret: str


class Identity:
    """The users and their credentials.

    Who was looked up is remembered for `remember_seconds`. What this process revokes or changes holds at once; what
    another one does, when that time is over.
    """

    def __init__(
        self,
        database: Database,
        passwords: PasswordHasher,
        tokens: TokenSigner,
        login_policy: LoginPolicy,
        remember_seconds: float = 0,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._login_policy = login_policy
        self._keys: Remembered[str, tuple[ApiKey, User]] = Remembered(remember_seconds)
        self._users: Remembered[UUID, User] = Remembered(remember_seconds)

    async def authenticate(self, credentials: Credentials) -> Principal:
        """The one way from credentials to a principal. Raises an AuthenticationError that says what is wrong."""
        if isinstance(credentials, ApiKeySecret):
            return await self._authenticate_key(credentials.secret)
        return await self._authenticate_token(credentials.token)

    async def login(self, username: str, password: str) -> SignedIn:
        """Check a password. Raises InvalidCredentials or AccountLocked.

        Both are the same, and take the same time, whether or not there is such a user.
        """
        username = _typed_name(username)
        async with self._database.reading() as session:
            attempts = await queries_identity.login_attempts(session, username)
            user = await queries_identity.user_by_name(session, username)
        if attempts is not None and attempts.locked_until is not None and attempts.locked_until > now():
            raise AccountLocked(attempts.locked_until)
        usable = user is not None and user.disabled_at is None
        verified = await self._passwords.verify(password, user.password_hash if user and usable else None)
        if user is None or not usable or not verified.ok:
            await self._count_failure(username)
            raise InvalidCredentials
        if attempts is not None or verified.new_hash is not None:
            async with self._database.transaction() as tx:
                await queries_identity.forget_failed_logins(tx, username)
                if verified.new_hash is not None:
                    await queries_identity.set_password_hash(tx, user.id, verified.new_hash)
        return SignedIn(user, self._tokens.issue(user.id))

    async def create_api_key(
        self,
        principal: Principal,
        name: str,
        expires_at: datetime | None = None,
        scopes: Sequence[Scope] | None = None,
    ) -> NewApiKey:
        """Make a key for the caller. Raises InvalidInput, also for a scope that the caller lacks."""
        name = name.strip()
        if not 1 <= len(name) <= MAX_KEY_NAME or not name.isprintable():
            raise InvalidInput("name", f"must have 1 to {MAX_KEY_NAME} printable characters.")
        if expires_at is not None and expires_at <= now():
            raise InvalidInput("expiresAt", "must be in the future.")
        granted = DEFAULT_KEY_SCOPES & principal.scopes if scopes is None else frozenset(scopes)
        if not granted:
            raise InvalidInput("scopes", "must name at least one scope.")
        if not granted <= principal.scopes:
            missing = ", ".join(sorted(granted - principal.scopes))
            raise InvalidInput("scopes", f"a key cannot do more than its maker, who lacks {missing}.")
        generated = api_keys.generate_api_key()
        key = ApiKey(
            id=new_id(),
            user_id=principal.user_id,
            name=name,
            prefix=generated.prefix,
            secret_hash=generated.secret_hash,
            scopes=sorted(granted),
            created_at=now(),
            expires_at=expires_at,
        )
        async with self._database.transaction() as tx:
            tx.add(key)
        return NewApiKey(key, generated.secret)

    async def revoke_api_key(self, principal: Principal, key_id: UUID) -> ApiKey:
        """End one of the caller's keys at once; an ended one stays as it is. Raises NotFound."""
        async with self._database.transaction() as tx:
            key = await queries_identity.revoke_api_key(tx, key_id, principal.user_id, now())
        self._keys.drop()
        if key is None:
            raise NotFound("You have no API key of this id.")
        return key

    async def create_user(self, username: str, password: str, *, is_admin: bool = False) -> User:
        """Make a user. Raises InvalidInput for a name that is taken or malformed, or a weak password."""
        username = username.strip().lower()
        if not USERNAME.fullmatch(username):
            raise InvalidInput(
                "username", "must have 1 to 64 letters, digits or . _ @ + - and begin and end with none of these signs."
            )
        try:
            check_password_policy(password)
        except PasswordPolicyError as error:
            raise InvalidInput("password", str(error)) from error
        password_hash = await self._passwords.hash(password)
        user = User(id=new_id(), username=username, password_hash=password_hash, is_admin=is_admin, created_at=now())
        try:
            async with self._database.transaction() as tx:
                tx.add(user)
        except IntegrityError as error:
            raise InvalidInput("username", f"{username!r} is taken.") from error
        return user

    async def principal_named(self, username: str) -> Principal:
        """A principal with all that this user may do, for the command line on the machine. Raises NotFound."""
        async with self._database.reading() as session:
            user = await queries_identity.user_by_name(session, username.strip().lower())
        if user is None:
            raise NotFound(f"There is no user {username!r}.")
        return Principal(user.id, user.username, scopes_of_user(is_admin=user.is_admin))

    async def any_user_exists(self) -> bool:
        """Whether this gateway has been set up."""
        async with self._database.reading() as session:
            return await queries_identity.any_user_exists(session)

    async def users_by_id(self, ids: Sequence[UUID]) -> list[User | None]:
        """Many users at once, in the order of the ids."""
        found = {user_id: user for user_id in ids if (user := self._users.get(user_id)) is not None}
        if len(found) < len(ids):
            moment = self._users.moment
            async with self._database.reading() as session:
                found |= await queries_identity.users_by_id(session, [id for id in ids if id not in found])
            for user_id, user in found.items():
                self._users.keep(user_id, user, moment)
        return [found.get(user_id) for user_id in ids]

    async def api_keys_by_id(self, ids: Sequence[UUID]) -> list[ApiKey | None]:
        """Many keys at once, in the order of the ids."""
        async with self._database.reading() as session:
            found = await queries_identity.api_keys_by_id(session, ids)
        return [found.get(key_id) for key_id in ids]

    async def api_keys_of_users(self, user_ids: Sequence[UUID]) -> list[list[ApiKey]]:
        """All keys of each of these users, newest first."""
        async with self._database.reading() as session:
            found = await queries_identity.api_keys_of_users(session, user_ids)
        return [found[user_id] for user_id in user_ids]

    async def _authenticate_key(self, secret: str) -> Principal:
        if not api_keys.is_well_formed(secret):
            raise InvalidApiKey
        key, user = await self._key_and_user(api_keys.hash_api_key(secret))
        moment = now()
        if key.revoked_at is not None:
            raise RevokedApiKey
        if key.expires_at is not None and key.expires_at <= moment:
            raise ExpiredApiKey
        if user.disabled_at is not None:
            raise InvalidApiKey
        if key.last_used_at is None or key.last_used_at < moment - LAST_USED_RESOLUTION:
            async with self._database.transaction() as tx:
                await queries_identity.touch_api_key(tx, key.id, moment, moment - LAST_USED_RESOLUTION)
            key.last_used_at = moment  # so that it is not written again for as long as the key is remembered
        scopes = scopes_of_key(key.scopes, is_admin=user.is_admin)
        return Principal(user.id, user.username, scopes, key.id, key.expires_at)

    async def _key_and_user(self, secret_hash: str) -> tuple[ApiKey, User]:
        known = self._keys.get(secret_hash)
        if known is not None:
            return known
        moment = self._keys.moment
        async with self._database.reading() as session:
            found = await queries_identity.api_key_by_hash(session, secret_hash)
        if found is None or not api_keys.same_hash(found[0].secret_hash, secret_hash):
            raise InvalidApiKey
        self._keys.keep(secret_hash, found, moment)
        self._users.keep(found[1].id, found[1], self._users.moment)
        return found

    async def _authenticate_token(self, token: str) -> Principal:
        claims = self._tokens.verify(token)
        [user] = await self.users_by_id([claims.user_id])
        if user is None or user.disabled_at is not None:
            raise InvalidToken
        scopes = scopes_of_user(is_admin=user.is_admin)
        return Principal(user.id, user.username, scopes, None, claims.expires_at)

    async def _count_failure(self, username: str) -> None:
        moment = now()
        policy = self._login_policy
        async with self._database.transaction() as tx:
            failures = await queries_identity.count_failed_login(tx, username, moment, moment - policy.window)
            if failures >= policy.failures:
                await queries_identity.lock_login(tx, username, moment + policy.window)


def _typed_name(username: str) -> str:
    """The name as it is looked up, and as failures are counted: PostgreSQL keeps no U+0000 in a text."""
    return username.strip().lower()[:64].replace("\0", "\N{REPLACEMENT CHARACTER}")
