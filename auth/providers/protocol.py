"""The seam: what an identity provider is, and what it says of a person."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """A person, as a provider knows them.

    `subject` is what an account is linked by: stable at the provider and never given to another person. It is the
    `sub` of OpenID Connect with its issuer, the `entryUUID` of LDAP, GitHub's number; never a name or an e-mail.
    `username` and `email` may change and may be given to others. `email_verified` is true only if the provider says
    that the address is the person's.
    """

    provider: str
    subject: str
    username: str
    email: str | None = None
    email_verified: bool = False
    display_name: str | None = None
    groups: frozenset[str] = frozenset()
    role: str | None = None
    provider_session: str | None = field(default=None, compare=False)
    """What the provider calls its own session (`sid`), if it may tell later that it has ended."""


@dataclass(frozen=True, slots=True)
class EndedElsewhere:
    """What a provider tells of sessions that ended there: of one session, or else of one subject; and when."""

    subject: str | None
    provider_session: str | None
    at: datetime


class Provider(Protocol):
    """What all providers have. `name` is stable and stands in URLs and with linked accounts; `label` is shown."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    async def aclose(self) -> None:
        """Close connections; called once, at shutdown."""
        ...


@runtime_checkable
class PasswordProvider(Provider, Protocol):
    """A provider that is shown a password."""

    async def verify(self, username: str, password: str) -> ExternalIdentity | None:
        """Tell who signs in; None if the user name or the password is wrong, without telling which.

        Both come from a stranger, of any length and with any characters. Raises ProviderUnavailable if that cannot be
        found out in a bounded time, and SignInRefused if both are right and the person may not sign in all the same.
        """
        ...


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """A sign-in that waits for the browser to come back: `RedirectProvider.finish` needs it unchanged.

    Its keeper ties it to the browser that began (a cookie, sealed), uses it once and forgets it after some minutes. All
    fields are strings, so `dataclasses.asdict` and `PendingSignIn(**fields)` carry it anywhere.
    """

    provider: str
    redirect_uri: str
    state: str
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Started:
    """Where to send the browser, and what to keep until it comes back."""

    url: str
    pending: PendingSignIn


@runtime_checkable
class RedirectProvider(Provider, Protocol):
    """A provider that the browser is sent to."""

    async def begin(self, redirect_uri: str) -> Started:
        """Start a sign-in whose answer goes to `redirect_uri`, exactly as it is registered at the provider.

        Raises ProviderUnavailable.
        """
        ...

    async def finish(self, pending: PendingSignIn, params: Mapping[str, str]) -> ExternalIdentity:
        """Tell who has signed in, from the query parameters that the browser came back with.

        Raises SignInRefused, with a message fit for the user, and ProviderUnavailable. A parameter that was sent twice
        is for the caller to refuse: a mapping has one.
        """
        ...

    async def logout_url(self, return_to: str, username: str | None = None) -> str | None:
        """Give where to send the browser to end the session at the provider, too; None if it has no such place.

        `return_to` is where the provider sends the browser then, as registered there; `username` is who signs out, as
        the provider called them. Raises ProviderUnavailable.
        """
        ...


@runtime_checkable
class TellsOfSignOuts(Protocol):
    """What a redirect provider may have beside: it tells the gateway itself that somebody has signed out there."""

    async def ended_elsewhere(self, logout_token: str) -> EndedElsewhere:
        """Tell which sessions ended. The token comes from a stranger. Raises SignInRefused and ProviderUnavailable."""
        ...
