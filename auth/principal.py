"""Who is asking, after the credentials were checked. It holds no secret, so it may be logged and passed around."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from auth.model_access import ALL_MODELS, ModelAccess
from auth.scopes import Scope


class AuthMethod(StrEnum):
    """What kind of credentials the caller sent."""

    ACCESS_TOKEN = "ACCESS_TOKEN"  # noqa: S105 - a kind of credentials, and none
    API_KEY = "API_KEY"
    COMMAND_LINE = "COMMAND_LINE"


class ContentPolicy(StrEnum):
    """What the database keeps of a generation beside its numbers, from the least to the most.

    The setting, the API key and the request each say how much: the least counts.
    """

    NOTHING = "NOTHING"
    ANSWERS = "ANSWERS"
    ALL = "ALL"

    @property
    def rank(self) -> int:
        """How much it keeps, beside the others."""
        return _RANKS[self]

    @classmethod
    def read(cls, word: str | None) -> "ContentPolicy":
        """Read what is stored: None sets no limit, and a word that this version does not know keeps nothing."""
        if word is None:
            return cls.ALL
        return cls(word) if word in set(cls) else cls.NOTHING


_RANKS = {policy: rank for rank, policy in enumerate(ContentPolicy)}


def strictest(policies: Iterable[ContentPolicy | None]) -> ContentPolicy:
    """Give the one that keeps the least; None sets no limit."""
    found = [policy for policy in policies if policy is not None]
    return min(found, key=lambda policy: policy.rank, default=ContentPolicy.ALL)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    `api_key_id` is None for a signed-in session, `session_id` for an API key, and both for the command line.
    `expires_at` is the moment (with zone) from which the credentials hold no longer; None for a key without an end.
    `models` are those that the caller may use, `role` is the name of their role, and `group_ids` are their groups. Who
    `must_change_password` has no scope but PROFILE_WRITE.
    `content_policy` is what may be kept at most of what they ask, as their API key says. `time_zone` is the user's
    own, a name of the IANA database; None is UTC.
    """

    user_id: UUID
    username: str
    scopes: frozenset[Scope]
    api_key_id: UUID | None = None
    expires_at: datetime | None = None
    session_id: UUID | None = None
    models: ModelAccess = ALL_MODELS
    must_change_password: bool = False
    role: str = ""
    group_ids: tuple[UUID, ...] = ()
    content_policy: ContentPolicy = ContentPolicy.ALL
    time_zone: str | None = None

    @property
    def method(self) -> AuthMethod:
        """Tell what kind of credentials the caller sent."""
        if self.api_key_id is not None:
            return AuthMethod.API_KEY
        return AuthMethod.COMMAND_LINE if self.expires_at is None else AuthMethod.ACCESS_TOKEN

    def has(self, scope: Scope) -> bool:
        """Tell whether the caller may do this."""
        return scope in self.scopes

    def may_see_of(self, user_id: UUID, everybodys: Scope) -> bool:
        """Tell whether the caller may see what belongs to this user: one's own, and with a scope everybody's."""
        return user_id == self.user_id or self.has(everybodys)

    def expired(self, now: datetime) -> bool:
        """Tell whether the credentials no longer hold at `now` (with zone)."""
        return self.expires_at is not None and now >= self.expires_at
