"""Who is asking: the one way from credentials to a principal."""

import logging
from collections.abc import Mapping, Sequence
from uuid import UUID

from auth import api_keys
from auth.addresses import shown
from auth.client import UNKNOWN_CLIENT, Client
from auth.credentials import ApiKeySecret, Credentials
from auth.errors import (
    AuthenticationError,
    ExpiredApiKey,
    InvalidApiKey,
    InvalidToken,
    RevokedApiKey,
    RotatedApiKey,
)
from auth.key_limits import misplaced
from auth.principal import Principal
from auth.roles import known_scopes
from auth.scopes import Scope
from auth.tokens import TokenClaims, TokenSigner
from db.clock import now
from db.tables import ApiKey
from gateway.identity.key_uses import KeyUses
from gateway.identity.known import KnownCallers, KnownUser

logger = logging.getLogger(__name__)

FORCED_CHANGE_SCOPES = frozenset({Scope.PROFILE_READ, Scope.PROFILE_WRITE})
"""What a session may do before its user has chosen a password of their own."""


class Authentication:
    """Tells who sent a request, and what they may do."""

    def __init__(self, known: KnownCallers, tokens: TokenSigner, key_uses: KeyUses) -> None:
        self._known = known
        self._tokens = tokens
        self._key_uses = key_uses

    async def authenticate(self, credentials: Credentials, client: Client = UNKNOWN_CLIENT) -> Principal:
        """Give the principal. Raises an AuthenticationError that says what is wrong."""
        [principal] = await self.authenticate_all([(credentials, client)])
        if isinstance(principal, AuthenticationError):
            raise principal
        return principal

    async def authenticate_all(
        self, many: Sequence[tuple[Credentials, Client]]
    ) -> list[Principal | AuthenticationError]:
        """Do the same for many at once, in few statements: in their order, an error in the place of who has one."""
        asked = [self._asked(credentials) for credentials, _ in many]
        keys = await self._known.keys([it for it in asked if isinstance(it, str)])
        users = await self._known.users(list({it.user_id for it in asked if isinstance(it, TokenClaims)}))
        return [self._principal(it, client, keys, users) for it, (_, client) in zip(asked, many, strict=True)]

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
        client: Client,
        keys: Mapping[str, tuple[ApiKey, KnownUser]],
        users: Mapping[UUID, KnownUser],
    ) -> Principal | AuthenticationError:
        if isinstance(asked, AuthenticationError):
            return asked
        if isinstance(asked, str):
            found = keys.get(asked)
            return InvalidApiKey() if found is None else self._principal_of_key(asked, *found, client)
        known = users.get(asked.user_id)
        if known is None or not known.is_active:
            return InvalidToken()
        return self._principal_of_session(asked, known)

    def _principal_of_session(self, claims: TokenClaims, known: KnownUser) -> Principal:
        user = known.user
        return Principal(
            user.id,
            user.username,
            known.scopes & FORCED_CHANGE_SCOPES if user.must_change_password else known.scopes,
            expires_at=claims.expires_at,
            models=known.models,
            must_change_password=user.must_change_password,
        )

    def _principal_of_key(
        self, secret_hash: str, key: ApiKey, known: KnownUser, client: Client
    ) -> Principal | AuthenticationError:
        moment = now()
        is_current, was_before = _is_secret_of(secret_hash, key)
        if not is_current and not was_before:
            return InvalidApiKey()
        if key.revoked_at is not None:
            return RevokedApiKey()
        if key.expires_at is not None and key.expires_at <= moment:
            return ExpiredApiKey()
        if not is_current and (key.previous_expires_at is None or key.previous_expires_at <= moment):
            return RotatedApiKey()
        if not known.is_active:
            return InvalidApiKey()
        if refusal := misplaced(client, key.networks, key.origins):
            logger.info("the API key %s was refused from %s: %s", key.prefix, shown(client.host), refusal.code)
            return refusal
        self._key_uses.note(key, moment, client.host)
        return Principal(
            known.user.id,
            known.user.username,
            known_scopes(key.scopes) & known.scopes,
            key.id,
            key.expires_at,
            models=known.models.narrowed(key.models),
        )


def _is_secret_of(secret_hash: str, key: ApiKey) -> tuple[bool, bool]:
    """Tell whether this is the secret of the key, and whether it was that before the last rotation."""
    return (
        api_keys.same_hash(key.secret_hash, secret_hash),
        key.previous_hash is not None and api_keys.same_hash(key.previous_hash, secret_hash),
    )
