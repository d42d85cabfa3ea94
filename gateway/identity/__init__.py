"""Who asks: sign-in, users, API keys, and what each may do."""

from gateway.identity.accounts import Accounts
from gateway.identity.api_keys import UNCHANGED, ApiKeys, KeyChanges, KeyFilter, KeyRequest, NewApiKey, Unchanged
from gateway.identity.audit import AuditChoice, AuditLog, AuditOutcome, Deed, Target, told, with_outcome
from gateway.identity.authentication import Authentication, OpenCredentials
from gateway.identity.identity import Identity
from gateway.identity.key_uses import KeyUses
from gateway.identity.known import KnownCallers
from gateway.identity.rotations import DEFAULT_GRACE, MAX_GRACE, Rotations
from gateway.identity.service_accounts import ServiceAccounts
from gateway.identity.session_uses import SessionUses
from gateway.identity.sessions import SessionPolicy, Sessions, SignedIn
from gateway.identity.sign_in import LoginPolicy, SignIns

__all__ = [
    "DEFAULT_GRACE",
    "MAX_GRACE",
    "UNCHANGED",
    "Accounts",
    "ApiKeys",
    "AuditChoice",
    "AuditLog",
    "AuditOutcome",
    "Authentication",
    "Deed",
    "Identity",
    "KeyChanges",
    "KeyFilter",
    "KeyRequest",
    "KeyUses",
    "KnownCallers",
    "LoginPolicy",
    "NewApiKey",
    "OpenCredentials",
    "Rotations",
    "ServiceAccounts",
    "SessionPolicy",
    "SessionUses",
    "Sessions",
    "SignIns",
    "SignedIn",
    "Target",
    "Unchanged",
    "told",
    "with_outcome",
]
