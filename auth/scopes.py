"""What a caller may do, as OAuth 2.0 scopes (RFC 6749 §3.3): `noun:verb`, and `admin` for what concerns everybody."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """One permission. Its value is what is stored with an API key and shown in the API."""

    MODELS_READ = "models:read"
    GENERATIONS_READ = "generations:read"
    GENERATIONS_WRITE = "generations:write"
    USAGE_READ = "usage:read"
    KEYS_WRITE = "keys:write"
    PROFILE_READ = "profile:read"
    ADMIN = "admin"

    @property
    def description(self) -> str:
        """One sentence for the person who grants it."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Scope.MODELS_READ: "See the models and their capabilities.",
    Scope.GENERATIONS_READ: "See and watch one's own generations.",
    Scope.GENERATIONS_WRITE: "Start generations, and cancel one's own.",
    Scope.USAGE_READ: "See one's own usage and limits.",
    Scope.KEYS_WRITE: "See, create and revoke one's own API keys.",
    Scope.PROFILE_READ: "See one's own name and permissions.",
    Scope.ADMIN: "Manage users, see everybody's usage, and administer the gateway.",
}

ADMIN_SCOPES = frozenset(Scope)
"""What an administrator may do: everything."""

USER_SCOPES = ADMIN_SCOPES - {Scope.ADMIN}
"""What every other signed-in user may do."""

DEFAULT_KEY_SCOPES = USER_SCOPES - {Scope.KEYS_WRITE}
"""What an app needs: all of its user's work, but no new keys, so that a leaked key cannot outlive its revocation."""


def scopes_of_user(*, is_admin: bool) -> frozenset[Scope]:
    """Give all a user may do when signed in; also the most that any key of theirs may do."""
    return ADMIN_SCOPES if is_admin else USER_SCOPES


def scopes_of_key(granted: Iterable[str], *, is_admin: bool) -> frozenset[Scope]:
    """Give what a key may do now: what it was granted, as far as its user still may do it.

    Words that this version does not know are left out: they grant nothing.
    """
    words = frozenset(granted)
    return frozenset(scope for scope in scopes_of_user(is_admin=is_admin) if scope.value in words)
