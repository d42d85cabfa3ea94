"""Users, their API keys and signing in."""

from schema.identity.api_key import (
    ApiKey,
    CreateApiKeyInput,
    CreateApiKeyResult,
    CreateApiKeySuccess,
    RevokeApiKeyInput,
    RevokeApiKeyResult,
    RevokeApiKeySuccess,
)
from schema.identity.audit import AuditConnection, AuditEvent, AuditFilter
from schema.identity.sign_in import LoginInput, LoginResult, LoginSuccess
from schema.identity.user import ASSUMED_API_KEYS, User
from schema.identity.viewer import Viewer

__all__ = [
    "ASSUMED_API_KEYS",
    "ApiKey",
    "AuditConnection",
    "AuditEvent",
    "AuditFilter",
    "CreateApiKeyInput",
    "CreateApiKeyResult",
    "CreateApiKeySuccess",
    "LoginInput",
    "LoginResult",
    "LoginSuccess",
    "RevokeApiKeyInput",
    "RevokeApiKeyResult",
    "RevokeApiKeySuccess",
    "User",
    "Viewer",
]
