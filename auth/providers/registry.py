"""Which providers there are: the built-in one, those that are configured, and those of other packages."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from auth.providers.configuration import GitHubConfig, LdapConfig, OidcConfig, ProviderConfig
from auth.providers.errors import InvalidProviderConfig, UnknownProvider
from auth.providers.guard import GuardedPasswords, GuardedRedirects, close
from auth.providers.protocol import PasswordProvider, RedirectProvider

ENTRY_POINT_GROUP = "ollagraph.providers"
"""A package adds a provider with an entry point of this group: a callable that takes the provider's own settings as a
Mapping[str, str] and returns a PasswordProvider or a RedirectProvider. The entry point's name is the provider's."""

_P = TypeVar("_P", PasswordProvider, RedirectProvider)

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Providers:
    """The providers of a gateway, in the order in which they are asked and shown."""

    passwords: tuple[PasswordProvider, ...] = ()
    redirects: tuple[RedirectProvider, ...] = ()

    def password(self, name: str) -> PasswordProvider:
        """Give a password provider by its name. Raises UnknownProvider."""
        return _named(self.passwords, name)

    def redirect(self, name: str) -> RedirectProvider:
        """Give a redirect provider by its name. Raises UnknownProvider."""
        return _named(self.redirects, name)

    async def aclose(self) -> None:
        """Close all of them."""
        for provider in (*self.passwords, *self.redirects):
            await close(provider)


def build_providers(
    configs: Iterable[ProviderConfig] = (),
    *,
    built_in: PasswordProvider | None = None,
    plugins: Mapping[str, Mapping[str, str]] | None = None,
) -> Providers:
    """Build the providers of a gateway.

    `plugins` names the entry points to use, with the settings of each: that a package is installed alone opens no door.
    Raises InvalidProviderConfig, with a sentence that says what to change.
    """
    made: list[PasswordProvider | RedirectProvider] = [] if built_in is None else [built_in]
    made += [_guarded(_from_config(config)) for config in configs]
    made += [_guarded(_from_entry_point(name, settings)) for name, settings in (plugins or {}).items()]
    seen: set[str] = set()
    for provider in made:
        if not _NAME.fullmatch(provider.name):
            raise InvalidProviderConfig(
                f"The name of an identity provider, {provider.name!r}, must begin with a lower-case letter, followed by"
                " up to 31 lower-case letters, digits and hyphens."
            )
        if provider.name in seen:
            raise InvalidProviderConfig(f"Two identity providers are named {provider.name!r}. Rename one of them.")
        seen.add(provider.name)
    return Providers(
        tuple(provider for provider in made if isinstance(provider, PasswordProvider)),
        tuple(provider for provider in made if isinstance(provider, RedirectProvider)),
    )


def _from_config(config: ProviderConfig) -> PasswordProvider | RedirectProvider:
    """Make the provider of a configuration. Its module is imported only where it is used."""
    match config:
        case LdapConfig():
            from auth.providers.ldap import LdapProvider

            return LdapProvider(config)
        case OidcConfig():
            from auth.providers.oidc import OidcProvider

            return OidcProvider(config)
        case GitHubConfig():
            from auth.providers.github import GitHubProvider

            return GitHubProvider(config)


def _from_entry_point(name: str, settings: Mapping[str, str]) -> PasswordProvider | RedirectProvider:
    provider = _load(_entry_point(name), settings)
    if not isinstance(provider, PasswordProvider | RedirectProvider):
        raise InvalidProviderConfig(
            f"The identity provider {name!r} is a {type(provider).__name__}, which has neither 'verify' nor 'begin',"
            " 'finish' and 'logout_url'."
        )
    if provider.name != name:
        raise InvalidProviderConfig(f"The identity provider {name!r} calls itself {provider.name!r}.")
    return provider


def _entry_point(name: str) -> EntryPoint:
    installed = list(entry_points(group=ENTRY_POINT_GROUP))
    found = [point for point in installed if point.name == name]
    if not found:
        names = sorted({point.name for point in installed})
        raise InvalidProviderConfig(
            f"No installed package has an identity provider {name!r}. There are: {', '.join(names) or 'none'}."
        )
    if len(found) > 1:
        raise InvalidProviderConfig(f"Two installed packages have an identity provider {name!r}. Uninstall one.")
    return found[0]


def _load(point: EntryPoint, settings: Mapping[str, str]) -> object:
    try:
        return point.load()(settings)
    except Exception as error:
        raise InvalidProviderConfig(
            f"The identity provider {point.name!r} ({point.value}) cannot be set up: {type(error).__name__}: {error}"
        ) from error


def _guarded(provider: PasswordProvider | RedirectProvider) -> PasswordProvider | RedirectProvider:
    if isinstance(provider, PasswordProvider):
        return GuardedPasswords(provider)
    return GuardedRedirects(provider)


def _named(providers: tuple[_P, ...], name: str) -> _P:
    for provider in providers:
        if provider.name == name:
            return provider
    raise UnknownProvider(name)
