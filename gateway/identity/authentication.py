"""Who is asking: from credentials to principals, signing in, and the keys of each user."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import anyio
from sqlalchemy.exc import IntegrityError

from auth import api_keys
from auth.credentials import ApiKeySecret, Credentials
from auth.errors import AuthenticationError, ExpiredApiKey, InvalidApiKey, InvalidToken, RevokedApiKey
from auth.passwords import PasswordHasher, PasswordPolicyError, check_password_policy
from auth.principal import Principal
from auth.scopes import DEFAULT_KEY_SCOPES, Scope, scopes_of_key, scopes_of_user
from auth.tokens import TokenClaims, TokenSigner
from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.tables import ApiKey, User
from gateway.errors import InputIssues, InvalidInput, LimitExceeded, NotFound
from gateway.identity.cache import TtlCache
from gateway.identity.key_uses import KeyUses
from gateway.identity.sign_in import LoginPolicy, SignedIn, SignIns

USERNAME = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,62}[a-z0-9])?")
MAX_KEY_NAME = 100

_T = TypeVar("_T")

MOST_AT_ONCE = 500
"""Credentials looked up in one statement."""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made, with the secret that is shown this once."""

    key: ApiKey
    secret: str


class Identity:
    """The users and their credentials.

    Who was looked up is remembered for `identity_max_age`. What this process revokes or changes holds at once; what
    another one does, when that time is over.
    """

    def __init__(
        self,
        database: Database,
        passwords: PasswordHasher,
        tokens: TokenSigner,
        login_policy: LoginPolicy,
        *,
        identity_max_age: float,
        max_api_keys_per_user: int,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._max_api_keys_per_user = max_api_keys_per_user
        self._sign_ins = SignIns(database, passwords, tokens, login_policy)
        self._key_uses = KeyUses(database)
        self._keys: TtlCache[str, tuple[ApiKey, User]] = TtlCache(identity_max_age)
        self._users: TtlCache[UUID, User] = TtlCache(identity_max_age)

    async def run(self) -> None:
        """Write what no request waits for, until cancelled. To be started in the application's task group."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._key_uses.run)
            tasks.start_soon(self._sign_ins.run)

    async def authenticate(self, credentials: Credentials) -> Principal:
        """Give the one way from credentials to a principal. Raises an AuthenticationError that says what is wrong."""
        [principal] = await self.authenticate_all([credentials])
        if isinstance(principal, AuthenticationError):
            raise principal
        return principal

    async def authenticate_all(self, many: Sequence[Credentials]) -> list[Principal | AuthenticationError]:
        """Do the same for many at once, in few statements: in their order, an error in the place of who has one."""
        asked = [self._asked(credentials) for credentials in many]
        keys = await self._keys_by_hash([it for it in asked if isinstance(it, str)])
        ids = list({it.user_id for it in asked if isinstance(it, TokenClaims)})
        users = dict(zip(ids, await self.users_by_id(ids), strict=True))
        return [self._principal(it, keys, users) for it in asked]

    async def login(self, username: str, password: str, host: str | None = None) -> SignedIn:
        """Check a password of a client at `host`. Raises InvalidCredentials, AccountLocked or Overloaded."""
        return await self._sign_ins.sign_in(username, password, host)

    async def unlock(self, username: str) -> bool:
        """Open sign-in under a name again; tells whether anything had been counted against it."""
        return await self._sign_ins.unlock(username)

    async def create_api_key(
        self,
        principal: Principal,
        name: str,
        expires_at: datetime | None = None,
        scopes: Sequence[Scope] | None = None,
    ) -> NewApiKey:
        """Make a key for the caller; one made with a key holds for no longer than that, and can do no more.

        Raises InvalidInput, also for a scope that the caller lacks; LimitExceeded.
        """
        name = name.strip()
        issues = InputIssues()
        if not 1 <= len(name) <= MAX_KEY_NAME or not name.isprintable():
            issues.add("name", f"must have 1 to {MAX_KEY_NAME} printable characters.")
        if expires_at is not None and expires_at <= now():
            issues.add("expiresAt", "must be in the future.")
        if principal.api_key_id is not None and principal.expires_at is not None:
            expires_at = expires_at or principal.expires_at
            if expires_at > principal.expires_at:
                issues.add(
                    "expiresAt",
                    f"must not be later than the expiry of the key that creates it, {principal.expires_at}.",
                )
        granted = DEFAULT_KEY_SCOPES & principal.scopes if scopes is None else frozenset(scopes)
        if not granted:
            issues.add("scopes", "must name at least one scope.")
        if not granted <= principal.scopes:
            missing = ", ".join(sorted(granted - principal.scopes))
            issues.add("scopes", f"a key cannot have more scopes than its creator, who lacks {missing}.")
        issues.check()
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
            if await queries.identity.count_api_keys(tx, key.user_id, key.created_at) >= self._max_api_keys_per_user:
                limit = self._max_api_keys_per_user
                raise LimitExceeded(f"The limit of {limit} API keys is reached. Revoke one that is not needed.", limit)
            tx.add(key)
        return NewApiKey(key, generated.secret)

    async def revoke_api_key(self, principal: Principal, key_id: UUID) -> ApiKey:
        """End one of the caller's keys at once; an ended one stays as it is. Raises NotFound."""
        async with self._database.transaction() as tx:
            key = await queries.identity.revoke_api_key(tx, key_id, principal.user_id, now())
        self._keys.clear()
        if key is None:
            raise NotFound("You have no API key with this id.", "ApiKey", key_id)
        key.last_used_at = self._key_uses.last(key)
        return key

    async def create_user(self, username: str, password: str, *, is_admin: bool = False) -> User:
        """Make a user. Raises InvalidInput for a name that is taken or malformed, or a weak password."""
        username = username.strip().lower()
        issues = InputIssues()
        if not USERNAME.fullmatch(username):
            issues.add(
                "username", "must have 1 to 64 letters, digits or . _ @ + - and begin and end with none of these signs."
            )
        try:
            check_password_policy(password)
        except PasswordPolicyError as error:
            issues.add("password", str(error))
        issues.check()
        password_hash = await self._passwords.hash(password)
        user = User(id=new_id(), username=username, password_hash=password_hash, is_admin=is_admin, created_at=now())
        try:
            async with self._database.transaction() as tx:
                tx.add(user)
        except IntegrityError as error:
            raise InvalidInput("username", f"{username!r} is taken.") from error
        return user

    async def principal_named(self, username: str) -> Principal:
        """Give a principal with all that this user may do, for the command line on the machine. Raises NotFound."""
        async with self._database.reading() as session:
            user = await queries.identity.user_by_name(session, username.strip().lower())
        if user is None:
            raise NotFound(f"There is no user {username!r}.", "User", username)
        return Principal(user.id, user.username, scopes_of_user(is_admin=user.is_admin))

    async def any_user_exists(self) -> bool:
        """Tell whether this gateway has been set up."""
        async with self._database.reading() as session:
            return await queries.identity.any_user_exists(session)

    async def users_by_id(self, ids: Sequence[UUID]) -> list[User | None]:
        """Give many users at once, in the order of the ids."""
        found = {user_id: user for user_id in ids if (user := self._users.get(user_id)) is not None}
        for missing in _portions([user_id for user_id in ids if user_id not in found]):
            version = self._users.version
            async with self._database.reading() as session:
                users = await queries.identity.users_by_id(session, missing)
            for user_id, user in users.items():
                self._users.put(user_id, user, version)
            found |= users
        return [found.get(user_id) for user_id in ids]

    async def visible_users(self, principal: Principal, ids: Sequence[UUID]) -> list[User | None]:
        """Give those of these users that the caller may see, in the order of the ids; None for the others."""
        return [user if user and principal.may_see(user.id) else None for user in await self.users_by_id(ids)]

    async def visible_api_keys(self, principal: Principal, ids: Sequence[UUID]) -> list[ApiKey | None]:
        """Give those of these keys that the caller may see, in the order of the ids; None for the others."""
        return [key if key and principal.may_see(key.user_id) else None for key in await self.api_keys_by_id(ids)]

    async def api_keys_by_id(self, ids: Sequence[UUID]) -> list[ApiKey | None]:
        """Give many keys at once, in the order of the ids."""
        async with self._database.reading() as session:
            found = await queries.identity.api_keys_by_id(session, ids)
        for key in found.values():
            key.last_used_at = self._key_uses.last(key)
        return [found.get(key_id) for key_id in ids]

    async def api_keys_of_users(self, user_ids: Sequence[UUID]) -> list[list[ApiKey]]:
        """Give the keys of each of these users, newest first: as many as one may have, first of all those that hold."""
        async with self._database.reading() as session:
            found = await queries.identity.api_keys_of_users(session, user_ids, now(), self._max_api_keys_per_user)
        for key in (key for keys in found.values() for key in keys):
            key.last_used_at = self._key_uses.last(key)
        return [found[user_id] for user_id in user_ids]

    def _asked(self, credentials: Credentials) -> str | TokenClaims | AuthenticationError:
        """Give what is to be looked up, the hash of a key or the claims of a token; or what is wrong with them."""
        if isinstance(credentials, ApiKeySecret):
            well_formed = api_keys.is_well_formed(credentials.secret)
            return api_keys.hash_api_key(credentials.secret) if well_formed else InvalidApiKey()
        try:
            return self._tokens.verify(credentials.token)
        except AuthenticationError as error:
            return error

    def _principal(
        self,
        asked: str | TokenClaims | AuthenticationError,
        keys: Mapping[str, tuple[ApiKey, User]],
        users: Mapping[UUID, User | None],
    ) -> Principal | AuthenticationError:
        if isinstance(asked, AuthenticationError):
            return asked
        if isinstance(asked, str):
            found = keys.get(asked)
            if found is None or not api_keys.same_hash(found[0].secret_hash, asked):
                return InvalidApiKey()
            return self._principal_of_key(*found)
        user = users.get(asked.user_id)
        if user is None or user.disabled_at is not None:
            return InvalidToken()
        return Principal(user.id, user.username, scopes_of_user(is_admin=user.is_admin), None, asked.expires_at)

    def _principal_of_key(self, key: ApiKey, user: User) -> Principal | AuthenticationError:
        moment = now()
        if key.revoked_at is not None:
            return RevokedApiKey()
        if key.expires_at is not None and key.expires_at <= moment:
            return ExpiredApiKey()
        if user.disabled_at is not None:
            return InvalidApiKey()
        self._key_uses.note(key, moment)
        scopes = scopes_of_key(key.scopes, is_admin=user.is_admin)
        return Principal(user.id, user.username, scopes, key.id, key.expires_at)

    async def _keys_by_hash(self, hashes: Sequence[str]) -> dict[str, tuple[ApiKey, User]]:
        found = {it: known for it in hashes if (known := self._keys.get(it)) is not None}
        for missing in _portions([it for it in hashes if it not in found]):
            version, users_version = self._keys.version, self._users.version
            async with self._database.reading() as session:
                looked_up = await queries.identity.api_keys_by_hash(session, missing)
            for secret_hash, (key, user) in looked_up.items():
                self._keys.put(secret_hash, (key, user), version)
                self._users.put(user.id, user, users_version)
            found |= looked_up
        return found


def _portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """As many as go into one statement."""
    for first in range(0, len(values), MOST_AT_ONCE):
        yield values[first : first + MOST_AT_ONCE]
