"""Users, their API keys and signing in."""

from schema.identity.api_key import ApiKey, ApiKeyConnection, ApiKeyFilterInput
from schema.identity.api_key_changes import (
    CreateApiKeyInput,
    CreateApiKeyResult,
    CreateApiKeySuccess,
    RevokeApiKeyInput,
    RevokeApiKeyResult,
    RevokeApiKeySuccess,
    RotateApiKeyInput,
    RotateApiKeyResult,
    RotateApiKeySuccess,
    UpdateApiKeyInput,
    UpdateApiKeyResult,
    UpdateApiKeySuccess,
)
from schema.identity.audit import AuditConnection, AuditEvent, AuditFilter
from schema.identity.service_account import (
    CreateServiceAccountInput,
    CreateServiceAccountResult,
    CreateServiceAccountSuccess,
)
from schema.identity.session import (
    LogoutInput,
    LogoutResult,
    LogoutSuccess,
    RefreshSessionInput,
    RefreshSessionResult,
    RefreshSessionSuccess,
    RefreshTokenIn,
    RevokeSessionInput,
    RevokeSessionResult,
    RevokeSessionSuccess,
    Session,
)
from schema.identity.sign_in import LoginInput, LoginResult, LoginSuccess
from schema.identity.user import ASSUMED_API_KEYS, User
from schema.identity.viewer import Viewer

__all__ = [
    "ASSUMED_API_KEYS",
    "ApiKey",
    "ApiKeyConnection",
    "ApiKeyFilterInput",
    "AuditConnection",
    "AuditEvent",
    "AuditFilter",
    "CreateApiKeyInput",
    "CreateApiKeyResult",
    "CreateApiKeySuccess",
    "CreateServiceAccountInput",
    "CreateServiceAccountResult",
    "CreateServiceAccountSuccess",
    "LoginInput",
    "LoginResult",
    "LoginSuccess",
    "LogoutInput",
    "LogoutResult",
    "LogoutSuccess",
    "RefreshSessionInput",
    "RefreshSessionResult",
    "RefreshSessionSuccess",
    "RefreshTokenIn",
    "RevokeApiKeyInput",
    "RevokeApiKeyResult",
    "RevokeApiKeySuccess",
    "RevokeSessionInput",
    "RevokeSessionResult",
    "RevokeSessionSuccess",
    "RotateApiKeyInput",
    "RotateApiKeyResult",
    "RotateApiKeySuccess",
    "Session",
    "UpdateApiKeyInput",
    "UpdateApiKeyResult",
    "UpdateApiKeySuccess",
    "User",
    "Viewer",
]
