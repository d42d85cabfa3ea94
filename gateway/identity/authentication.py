"""Who is asking: the one way from credentials to a principal."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from auth import api_keys
from auth.addresses import shown
from auth.client import UNKNOWN_CLIENT, Client
from auth.credentials import ApiKeySecret, Credentials
from auth.errors import (
    AuthenticationError,
    ExpiredApiKey,
    ExpiredToken,
    InvalidApiKey,
    InvalidToken,
    RevokedApiKey,
    RevokedSession,
    RotatedApiKey,
)
from auth.key_limits import misplaced
from auth.principal import ContentPolicy, Principal
from auth.roles import common_scopes, known_scopes
from auth.scopes import Scope
from auth.tokens import TokenClaims, TokenSigner
from db.clock import now
from db.tables import ApiKey, Session
from gateway.identity.known import KnownCallers, KnownUser
from gateway.identity.uses import KeyUses, SessionUses

logger = logging.getLogger(__name__)

FORCED_CHANGE_SCOPES = frozenset({Scope.PROFILE_READ, Scope.PROFILE_WRITE})
"""What a session may do before its user has chosen a password of their own."""

OpenCredentials = ApiKeySecret | UUID
"""What keeps a connection open: an API key, or a session by its id, since that outlives its access tokens."""


class Authentication:
    """Tells who sent a request, and what they may do."""

    def __init__(self, known: KnownCallers, tokens: TokenSigner, key_uses: KeyUses, session_uses: SessionUses) -> None:
        self._known = known
        self._tokens = tokens
        self._key_uses = key_uses
        self._session_uses = session_uses

    async def authenticate(self, credentials: Credentials, client: Client = UNKNOWN_CLIENT) -> Principal:
        """Give the principal. Raises an AuthenticationError that says what is wrong."""
        [principal] = await self._find_all([(self._asked(credentials), client)])
        if isinstance(principal, AuthenticationError):
            raise principal
        return principal

    async def check_all(self, many: Sequence[tuple[OpenCredentials, Client]]) -> list[Principal | AuthenticationError]:
        """Look again at what keeps connections open, many at once in few statements; in their order.

        An access token is checked when an operation starts. What runs then may run on for as long as its session holds.
        """
        asked = [(it if isinstance(it, UUID) else self._asked(it), client) for it, client in many]
        return await self._find_all(asked)

    async def scopes_now(self, principal: Principal) -> frozenset[Scope]:
        """Give what remains of a caller's scopes: their role or key may have changed, or they were deactivated."""
        known = (await self._known.users([principal.user_id])).get(principal.user_id)
        if known is None or not known.is_active:
            return frozenset()
        if principal.api_key_id is not None:
            key = await self._known.key_of(principal.api_key_id)
            return principal.scopes & known.scopes & known_scopes(() if key is None else key.scopes)
        forced = known.user.must_change_password and principal.session_id is not None
        return principal.scopes & (known.scopes & FORCED_CHANGE_SCOPES if forced else known.scopes)

    def _asked(self, credentials: Credentials) -> str | TokenClaims | AuthenticationError:
        """Give what is to be looked up, the hash of a key or the claims of a token; or what is wrong with them."""
        if isinstance(credentials, ApiKeySecret):
            well_formed = api_keys.is_well_formed(credentials.secret)
            return api_keys.hash_api_key(credentials.secret) if well_formed else InvalidApiKey()
        try:
            claims = self._tokens.verify(credentials.token)
        except AuthenticationError as error:
            return error
        return InvalidToken() if claims.session_id is None else claims

    async def _find_all(
        self, asked: Sequence[tuple[str | UUID | TokenClaims | AuthenticationError, Client]]
    ) -> list[Principal | AuthenticationError]:
        """Give the principals of hashes of keys, of claims and of sessions; an error in the place of who has one."""
        keys = await self._known.keys([it for it, _ in asked if isinstance(it, str)])
        ids = {_session_id(it) for it, _ in asked if isinstance(it, UUID | TokenClaims)}
        sessions = await self._known.sessions([it for it in ids if it is not None])
        return [self._principal(it, client, keys, sessions) for it, client in asked]

    def _principal(
        self,
        asked: str | UUID | TokenClaims | AuthenticationError,
        client: Client,
        keys: Mapping[str, tuple[ApiKey, KnownUser]],
        sessions: Mapping[UUID, tuple[Session, KnownUser]],
    ) -> Principal | AuthenticationError:
        if isinstance(asked, AuthenticationError):
            return asked
        if isinstance(asked, str):
            found = keys.get(asked)
            return InvalidApiKey() if found is None else self._principal_of_key(asked, *found, client)
        session_id = _session_id(asked)
        known = sessions.get(session_id) if session_id else None
        if known is None or (isinstance(asked, TokenClaims) and known[0].user_id != asked.user_id):
            return InvalidToken()
        expires_at = asked.expires_at if isinstance(asked, TokenClaims) else known[0].expires_at
        return self._principal_of_session(*known, expires_at, client)

    def _principal_of_session(
        self, session: Session, known: KnownUser, expires_at: datetime, client: Client
    ) -> Principal | AuthenticationError:
        user, moment = known.user, now()
        if session.revoked_at is not None:
            return RevokedSession()
        if session.expires_at <= moment:
            return ExpiredToken()
        if not known.is_active:
            return InvalidToken()
        self._session_uses.note(session, client, moment)
        return Principal(
            user.id,
            user.username,
            known.scopes & FORCED_CHANGE_SCOPES if user.must_change_password else known.scopes,
            expires_at=expires_at,
            session_id=session.id,
            models=known.models,
            must_change_password=user.must_change_password,
            role=user.role,
            group_ids=known.group_ids,
            time_zone=user.time_zone,
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
            common_scopes(known_scopes(key.scopes), known.scopes),
            key.id,
            key.expires_at,
            models=known.models.narrowed(key.models),
            role=known.user.role,
            group_ids=known.group_ids,
            content_policy=ContentPolicy.read(key.content_policy),
            time_zone=known.user.time_zone,
        )


def _is_secret_of(secret_hash: str, key: ApiKey) -> tuple[bool, bool]:
    """Tell whether this is the secret of the key, and whether it was that before the last rotation."""
    return (
        api_keys.same_hash(key.secret_hash, secret_hash),
        key.previous_hash is not None and api_keys.same_hash(key.previous_hash, secret_hash),
    )


def _session_id(asked: UUID | TokenClaims) -> UUID | None:
    return asked.session_id if isinstance(asked, TokenClaims) else asked
