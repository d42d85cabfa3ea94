"""What a caller may do, as OAuth 2.0 scopes (RFC 6749 §3.3): `noun:verb`.

Those of the first part are about what is one's own; those of the second about everybody's, for administrators.
"""

from enum import StrEnum


class Scope(StrEnum):
    """One permission. Its value is what is stored with an API key and shown in the API."""

    MODELS_READ = "models:read"
    GENERATIONS_READ = "generations:read"
    GENERATIONS_WRITE = "generations:write"
    USAGE_READ = "usage:read"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    PROFILE_READ = "profile:read"
    PROFILE_WRITE = "profile:write"

    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    GENERATIONS_READ_ALL = "generations:read_all"
    USAGE_READ_ALL = "usage:read_all"
    FLEET_WRITE = "fleet:write"
    LIMITS_WRITE = "limits:write"
    AUDIT_READ = "audit:read"
    SETTINGS_READ = "settings:read"

    @property
    def description(self) -> str:
        """One sentence for the person who grants it."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Scope.MODELS_READ: "See the models and their capabilities.",
    Scope.GENERATIONS_READ: "See and watch one's own generations, with their prompts and answers.",
    Scope.GENERATIONS_WRITE: "Start generations, and cancel one's own.",
    Scope.USAGE_READ: "See one's own usage and limits.",
    Scope.KEYS_READ: "See one's own API keys, but not their secrets.",
    Scope.KEYS_WRITE: "Create, change, rotate and revoke one's own API keys.",
    Scope.PROFILE_READ: "See one's own name, e-mail address, groups and sessions.",
    Scope.PROFILE_WRITE: "Change one's own password and profile, and end one's own sessions.",
    Scope.USERS_READ: "See all users, groups and roles, their API keys and their sessions.",
    Scope.USERS_WRITE: "Create, change and delete users, groups and roles; revoke their API keys and sessions.",
    Scope.GENERATIONS_READ_ALL: "See everybody's generations, with their prompts and answers.",
    Scope.USAGE_READ_ALL: "See everybody's usage.",
    Scope.FLEET_WRITE: "Manage model servers and their models.",
    Scope.LIMITS_WRITE: "Set limits and prices.",
    Scope.AUDIT_READ: "Read the audit log.",
    Scope.SETTINGS_READ: "See the settings of the gateway, without secrets.",
}

ALL_SCOPES = frozenset(Scope)

READ_ONLY_SCOPES = frozenset(
    {Scope.MODELS_READ, Scope.GENERATIONS_READ, Scope.USAGE_READ, Scope.KEYS_READ, Scope.PROFILE_READ}
)
"""See what is one's own, and change nothing."""

USER_SCOPES = READ_ONLY_SCOPES | {Scope.GENERATIONS_WRITE, Scope.PROFILE_WRITE}
"""Use models."""

DEVELOPER_SCOPES = USER_SCOPES | {Scope.KEYS_WRITE}
"""Use models, and make API keys for programs."""

DEFAULT_KEY_SCOPES = DEVELOPER_SCOPES - {Scope.KEYS_READ, Scope.KEYS_WRITE, Scope.PROFILE_WRITE}
"""What an app needs: all of its user's work, but no new keys, so that a leaked key cannot outlive its revocation."""
