"""Who asks: sign-in, users, API keys, and what each may do."""

from gateway.identity.accounts import Accounts
from gateway.identity.api_keys import ApiKeys, NewApiKey
from gateway.identity.audit import AuditChoice, AuditLog, AuditOutcome, Deed, Target, told, with_outcome
from gateway.identity.authentication import Authentication
from gateway.identity.identity import Identity
from gateway.identity.key_uses import KeyUses
from gateway.identity.known import KnownCallers
from gateway.identity.sign_in import LoginPolicy, SignedIn, SignIns

__all__ = [
    "Accounts",
    "ApiKeys",
    "AuditChoice",
    "AuditLog",
    "AuditOutcome",
    "Authentication",
    "Deed",
    "Identity",
    "KeyUses",
    "KnownCallers",
    "LoginPolicy",
    "NewApiKey",
    "SignIns",
    "SignedIn",
    "Target",
    "told",
    "with_outcome",
]
