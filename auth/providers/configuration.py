"""What is configured of each provider that comes with the gateway. Frozen values; checked when they are made."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from auth.providers.errors import InvalidProviderConfig
from auth.providers.roles import RoleMapping

NO_ROLES = RoleMapping()
"""A provider that says nothing of roles."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts to which nothing leaves the machine, so that TLS may be left out."""

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key. None with a shared secret is among them: a secret that is also sent about is no key."""


@dataclass(frozen=True, slots=True)
class LdapConfig:
    """A directory (OpenLDAP, Active Directory, FreeIPA …).

    Two ways to find the person. With `user_dn`, such as `uid={username},ou=people,dc=example,dc=org`, the gateway binds
    as them at once. Without, it searches `base` with `user_filter`, as `bind_dn` or anonymously, and binds as what it
    found. `group_base` makes it search for groups, too; otherwise `member_of` of the person's entry lists them.
    """

    url: str
    base: str
    bind_dn: str | None = None
    bind_password: str | None = field(default=None, repr=False)
    user_dn: str | None = None
    user_filter: str = "(uid={username})"
    subject_attribute: str = "entryUUID"
    username_attribute: str = "uid"
    email_attribute: str = "mail"
    email_is_verified: bool = False
    display_name_attribute: str = "displayName"
    member_of_attribute: str = "memberOf"
    group_base: str | None = None
    group_filter: str = "(|(member={dn})(uniqueMember={dn}))"
    group_name_attribute: str = "cn"
    roles: RoleMapping = NO_ROLES
    starttls: bool = False
    ca_file: Path | None = None
    timeout: float = 5.0
    """Seconds for each step: connecting, a bind, a search."""
    max_connections: int = 4
    name: str = "ldap"
    label: str = "LDAP"

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"ldap", "ldaps"} or not _names_host(self.url) or parts.path.strip("/") or parts.query:
            raise InvalidProviderConfig(f"{self.name}: url must be ldap://host:port or ldaps://host:port.")
        if parts.scheme == "ldaps" and self.starttls:
            raise InvalidProviderConfig(f"{self.name}: ldaps:// is encrypted already; set starttls to false.")
        if parts.scheme == "ldap" and not self.starttls and parts.hostname not in LOOPBACK:
            raise InvalidProviderConfig(
                f"{self.name}: passwords would cross the network unencrypted. Use ldaps:// or set starttls to true."
            )
        _placeholder(self.name, "user_filter", self.user_filter, "{username}")
        if self.user_dn is not None:
            _placeholder(self.name, "user_dn", self.user_dn, "{username}")
        if (self.bind_dn is None) != (not self.bind_password):
            raise InvalidProviderConfig(f"{self.name}: bind_dn and a bind_password that is not empty go together.")
        if self.timeout <= 0 or self.max_connections < 1:
            raise InvalidProviderConfig(f"{self.name}: timeout and max_connections must be positive.")
        _readable(self.name, self.ca_file)


@dataclass(frozen=True, slots=True)
class OidcConfig:
    """A provider that speaks OpenID Connect (Keycloak, Entra ID, Google, Authentik, Dex …)."""

    issuer: str
    """Exactly as the provider writes it, with or without the slash at the end."""
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    username_claim: str = "preferred_username"
    groups_claim: str = "groups"
    """A name, or a path such as `realm_access.roles`."""
    roles: RoleMapping = NO_ROLES
    algorithms: tuple[str, ...] = ALGORITHMS
    logout: bool = True
    """Whether signing out here leads to the provider, to sign out there, too."""
    ca_file: Path | None = None
    timeout: float = 10.0
    """Seconds for one request to the provider, from connecting to the last byte."""
    name: str = "oidc"
    label: str = "Single sign-on"

    def __post_init__(self) -> None:
        if not is_protected(self.issuer) or urlsplit(self.issuer).query or urlsplit(self.issuer).fragment:
            raise InvalidProviderConfig(f"{self.name}: issuer must be an https:// URL without a query or fragment.")
        if not self.client_id:
            raise InvalidProviderConfig(f"{self.name}: client_id is missing. The provider gives it for this gateway.")
        if "openid" not in self.scopes:
            raise InvalidProviderConfig(f"{self.name}: scopes must include openid.")
        if not self.algorithms or not set(self.algorithms) <= set(ALGORITHMS):
            raise InvalidProviderConfig(f"{self.name}: algorithms may be {', '.join(ALGORITHMS)}.")
        if self.timeout <= 0:
            raise InvalidProviderConfig(f"{self.name}: timeout must be positive.")
        _readable(self.name, self.ca_file)


@dataclass(frozen=True, slots=True)
class GitHubConfig:
    """GitHub, or a GitHub Enterprise Server at `url`. Its groups are `organization` and `organization/team`."""

    client_id: str
    client_secret: str = field(repr=False)
    url: str = "https://github.com"
    roles: RoleMapping = NO_ROLES
    ca_file: Path | None = None
    timeout: float = 10.0
    """Seconds for one request to GitHub, from connecting to the last byte."""
    name: str = "github"
    label: str = "GitHub"

    def __post_init__(self) -> None:
        if not self.client_id or not self.client_secret:
            raise InvalidProviderConfig(f"{self.name}: client_id and client_secret are both needed.")
        if not is_protected(self.url) or urlsplit(self.url).query or urlsplit(self.url).fragment:
            raise InvalidProviderConfig(f"{self.name}: url must be an https:// URL.")
        if self.timeout <= 0:
            raise InvalidProviderConfig(f"{self.name}: timeout must be positive.")
        _readable(self.name, self.ca_file)


ProviderConfig = LdapConfig | OidcConfig | GitHubConfig


def is_protected(url: str) -> bool:
    """Tell whether a URL is https, or leads to this machine."""
    if not _names_host(url):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _names_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:  # the port is no number, or out of range
        return False


def _placeholder(name: str, option: str, value: str, placeholder: str) -> None:
    if placeholder not in value:
        raise InvalidProviderConfig(f"{name}: {option} must contain {placeholder}.")


def _readable(name: str, ca_file: Path | None) -> None:
    if ca_file is None:
        return
    try:
        ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise InvalidProviderConfig(f"{name}: ca_file {ca_file} is no readable file of PEM certificates.") from None
