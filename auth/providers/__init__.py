"""Identity providers: who may say that a person is who they claim to be. ARCHITECTURE.md says where this stands.

Two Protocols, by the way a person proves it. A `PasswordProvider` is given a name and a password; a `RedirectProvider`
sends the browser away and reads what comes back. Both end in an `ExternalIdentity`, and neither knows of accounts:
whoever calls links an identity to an account by `provider` and `subject`, never by e-mail or user name.

`build_providers` makes the `Providers` of a gateway out of configurations and of the entry points of other packages.
This is the one place of `auth` that uses the network.
"""

from auth.providers.configuration import GitHubConfig, LdapConfig, OidcConfig, ProviderConfig
from auth.providers.errors import (
    InvalidProviderConfig,
    ProviderError,
    ProviderUnavailable,
    RefusalReason,
    SignInRefused,
    UnknownProvider,
)
from auth.providers.password import BuiltInPasswords, StoredPassword
from auth.providers.protocol import (
    EndedElsewhere,
    ExternalIdentity,
    PasswordProvider,
    PendingSignIn,
    RedirectProvider,
    Started,
    TellsOfSignOuts,
)
from auth.providers.registry import ENTRY_POINT_GROUP, Providers, build_providers
from auth.providers.roles import RoleMapping

__all__ = [
    "ENTRY_POINT_GROUP",
    "BuiltInPasswords",
    "EndedElsewhere",
    "ExternalIdentity",
    "GitHubConfig",
    "InvalidProviderConfig",
    "LdapConfig",
    "OidcConfig",
    "PasswordProvider",
    "PendingSignIn",
    "ProviderConfig",
    "ProviderError",
    "ProviderUnavailable",
    "Providers",
    "RedirectProvider",
    "RefusalReason",
    "RoleMapping",
    "SignInRefused",
    "Started",
    "StoredPassword",
    "TellsOfSignOuts",
    "UnknownProvider",
    "build_providers",
]
