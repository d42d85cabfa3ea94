"""The ways to sign in, for whoever has not yet."""

from dataclasses import dataclass
from enum import StrEnum

from auth.providers import Providers
from gateway.identity.sessions import DEVICE_PROVIDER, PASSWORD_PROVIDER

BUILT_IN_PROVIDERS = frozenset({PASSWORD_PROVIDER, DEVICE_PROVIDER})
"""Names of the gateway's own, which no other provider may have."""


class SignInKind(StrEnum):
    """How a person proves who they are."""

    PASSWORD = "PASSWORD"  # noqa: S105 - the name of a kind
    REDIRECT = "REDIRECT"


@dataclass(frozen=True, slots=True)
class SignInOption:
    """A provider, as a sign-in form shows it. `start_path` is where a browser begins; None for passwords."""

    name: str
    label: str
    kind: SignInKind
    start_path: str | None = None


class SignInOptions:
    """Tells the ways to sign in: passwords first, in the order in which they are asked, then those elsewhere.

    `path_prefix` is the path below which browsers reach the gateway.
    """

    def __init__(self, providers: Providers, path_prefix: str = "") -> None:
        passwords = [SignInOption(it.name, it.label, SignInKind.PASSWORD) for it in providers.passwords]
        self._all = [
            SignInOption(PASSWORD_PROVIDER, "Password", SignInKind.PASSWORD),
            *passwords,
            *(
                SignInOption(it.name, it.label, SignInKind.REDIRECT, f"{path_prefix}/auth/{it.name}/start")
                for it in providers.redirects
            ),
        ]

    def all(self) -> list[SignInOption]:
        """Give all of them."""
        return list(self._all)
