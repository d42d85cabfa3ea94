"""The identity providers that the settings ask for."""

from collections.abc import Callable, Iterator, Mapping

from pydantic import SecretStr

from auth.providers import (
    GitHubConfig,
    InvalidProviderConfig,
    LdapConfig,
    OidcConfig,
    ProviderConfig,
    Providers,
    RoleMapping,
    build_providers,
)
from auth.roles import ROLE_NAME
from gateway.identity import BUILT_IN_PROVIDERS, SignUp
from server.settings import PREFIX, ProviderSettings, Settings, SettingsError
from server.sign_in.provider_file import read_provider_file


def make_providers(settings: Settings) -> Providers:
    """Make the providers. Raises SettingsError with a sentence for each that cannot work."""
    configs: list[ProviderConfig] = []
    mistakes: list[str] = []
    for kind, place, options, name in _wanted(settings):
        try:
            configs.append(_MAKERS[kind](options, name))
        except InvalidProviderConfig as error:
            mistakes.append(f"{place}: {error}")
    mistakes += _at_odds(settings)
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    try:
        providers = build_providers(configs, plugins=settings.providers)
    except InvalidProviderConfig as error:
        raise SettingsError(f"{error} See docs/identity-providers.md.") from error
    for provider in (*providers.passwords, *providers.redirects):
        if provider.name in BUILT_IN_PROVIDERS:
            raise SettingsError(
                f"No identity provider may be named {provider.name!r}: the gateway's own has this name."
            )
    return providers


def sign_up(settings: Settings) -> SignUp:
    """Give who gets an account. Raises SettingsError."""
    if not ROLE_NAME.fullmatch(settings.provider_default_role):
        raise SettingsError(f"{PREFIX}PROVIDER_DEFAULT_ROLE: {settings.provider_default_role[:64]!r} cannot be a role.")
    return SignUp(settings.provider_sign_up, settings.provider_default_role)


def _wanted(settings: Settings) -> Iterator[tuple[str, str, ProviderSettings, str]]:
    """Give the kind, the place for messages, the options and the name of each provider."""
    if settings.ldap_url is not None:
        yield "ldap", f"{PREFIX}LDAP_…", settings, "ldap"
    if settings.oidc_issuer is not None:
        yield "oidc", f"{PREFIX}OIDC_…", settings, settings.oidc_name
    if settings.github_client_id is not None:
        yield "github", f"{PREFIX}GITHUB_…", settings, "github"
    if settings.providers_file is not None:
        for entry in read_provider_file(settings.providers_file, settings.provider_default_role):
            yield entry.kind, entry.where, entry.options, entry.name


def _at_odds(settings: Settings) -> Iterator[str]:
    """Tell which settings have no effect without another one: a provider that was meant would be missing."""
    for needed, given in (
        ("oidc_issuer", settings.oidc_client_id),
        ("github_client_id", settings.github_client_secret),
        ("ldap_url", settings.ldap_base),
    ):
        if given and getattr(settings, needed) is None:
            yield f"set {PREFIX}{needed.upper()}, or leave out the other settings of this identity provider"


def _oidc(settings: ProviderSettings, name: str) -> OidcConfig:
    return OidcConfig(
        issuer=settings.oidc_issuer or "",
        client_id=settings.oidc_client_id,
        client_secret=_secret(settings.oidc_client_secret),
        scopes=tuple(settings.oidc_scopes.split()),
        username_claim=settings.oidc_username_claim,
        groups_claim=settings.oidc_groups_claim,
        roles=_mapping(settings, settings.oidc_roles, required=settings.oidc_role_required),
        logout=settings.oidc_logout,
        ca_file=settings.oidc_ca_file,
        timeout=settings.oidc_timeout,
        name=name,
        label=settings.oidc_label,
    )


def _github(settings: ProviderSettings, name: str) -> GitHubConfig:
    return GitHubConfig(
        client_id=settings.github_client_id or "",
        client_secret=_secret(settings.github_client_secret) or "",
        url=settings.github_url,
        roles=_mapping(settings, settings.github_roles, required=settings.github_role_required),
        name=name,
        label=settings.github_label,
    )


def _ldap(settings: ProviderSettings, name: str) -> LdapConfig:
    return LdapConfig(
        url=settings.ldap_url or "",
        base=settings.ldap_base,
        bind_dn=settings.ldap_bind_dn,
        bind_password=_secret(settings.ldap_bind_password),
        user_dn=settings.ldap_user_dn,
        user_filter=settings.ldap_user_filter,
        subject_attribute=settings.ldap_subject_attribute,
        username_attribute=settings.ldap_username_attribute,
        email_attribute=settings.ldap_email_attribute,
        email_is_verified=settings.ldap_email_is_verified,
        display_name_attribute=settings.ldap_display_name_attribute,
        member_of_attribute=settings.ldap_member_of_attribute,
        group_base=settings.ldap_group_base,
        group_filter=settings.ldap_group_filter,
        group_name_attribute=settings.ldap_group_name_attribute,
        roles=_mapping(settings, settings.ldap_roles, required=settings.ldap_role_required),
        starttls=settings.ldap_starttls,
        ca_file=settings.ldap_ca_file,
        timeout=settings.ldap_timeout,
        max_connections=settings.ldap_max_connections,
        name=name,
        label=settings.ldap_label,
    )


_MAKERS: Mapping[str, Callable[[ProviderSettings, str], ProviderConfig]] = {
    "ldap": _ldap,
    "oidc": _oidc,
    "github": _github,
}


def _mapping(settings: ProviderSettings, rules: Mapping[str, str], *, required: bool) -> RoleMapping:
    """Give the mapping. Without rules the provider says nothing of roles; with rules, it decides at each sign-in.

    So whoever leaves the group of administrators is none any more, and gets the default role.
    """
    if required:
        return RoleMapping(tuple(rules.items()), required=True)
    return RoleMapping(tuple(rules.items()), settings.provider_default_role) if rules else RoleMapping()


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()
