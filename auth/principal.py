"""Who is asking, after the credentials were checked. It holds no secret, so it may be logged and passed around."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from auth.scopes import Scope


class AuthMethod(StrEnum):
    """What kind of credentials the caller sent."""

    ACCESS_TOKEN = "ACCESS_TOKEN"  # noqa: S105 - a kind of credentials, and none
    API_KEY = "API_KEY"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    `api_key_id` is None for a signed-in session. `expires_at` is the moment (with zone) from which the credentials
    hold no longer; None for a key without an end. A long subscription looks at it while it runs.
    """

    user_id: UUID
    username: str
    scopes: frozenset[Scope]
    api_key_id: UUID | None = None
    expires_at: datetime | None = None

    @property
    def method(self) -> AuthMethod:
        """Tell what kind of credentials the caller sent."""
        return AuthMethod.ACCESS_TOKEN if self.api_key_id is None else AuthMethod.API_KEY

    def has(self, scope: Scope) -> bool:
        """Tell whether the caller may do this."""
        return scope in self.scopes

    def may_see(self, user_id: UUID) -> bool:
        """Tell whether the caller may see what belongs to this user: everybody's own, and all for an administrator."""
        return user_id == self.user_id or self.has(Scope.ADMIN)

    def expired(self, now: datetime) -> bool:
        """Tell whether the credentials no longer hold at `now` (with zone)."""
        return self.expires_at is not None and now >= self.expires_at
