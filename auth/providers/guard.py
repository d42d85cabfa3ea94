"""What holds for every provider that the gateway did not write: bounded time, typed errors, usable identities."""

import logging
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import anyio

from auth.providers.errors import ProviderError, ProviderUnavailable, UnknownProvider, untrusted
from auth.providers.protocol import (
    EndedElsewhere,
    ExternalIdentity,
    PasswordProvider,
    PendingSignIn,
    RedirectProvider,
    Started,
    TellsOfSignOuts,
)

logger = logging.getLogger(__name__)

MOST_SECONDS = 30.0
"""For one call of a provider."""

MAX_TEXT = 512
"""Characters of a subject, a user name, an e-mail and a display name."""

_T = TypeVar("_T")


class GuardedPasswords:
    """A password provider within bounds."""

    def __init__(self, inner: PasswordProvider) -> None:
        self._inner = inner
        self.name, self.label = inner.name, inner.label

    async def verify(self, username: str, password: str) -> ExternalIdentity | None:
        """Verify a password. An empty one is nobody's, whatever the provider would say of it."""
        if not username or not password:
            return None
        identity = await _bounded(self.name, self._inner.verify(username, password))
        return None if identity is None else checked(self.name, identity)

    async def aclose(self) -> None:
        """Close the provider."""
        await close(self._inner)


class GuardedRedirects:
    """A redirect provider within bounds."""

    def __init__(self, inner: RedirectProvider) -> None:
        self._inner = inner
        self.name, self.label = inner.name, inner.label

    async def begin(self, redirect_uri: str) -> Started:
        """Start a sign-in."""
        return await _bounded(self.name, self._inner.begin(redirect_uri))

    async def finish(self, pending: PendingSignIn, params: Mapping[str, str]) -> ExternalIdentity:
        """Finish a sign-in that this provider began."""
        if pending.provider != self.name:
            raise untrusted(f"a sign-in begun at {pending.provider!r} came back to {self.name!r}")
        return checked(self.name, await _bounded(self.name, self._inner.finish(pending, params)))

    async def logout_url(self, return_to: str, username: str | None = None) -> str | None:
        """Give where a session ends at the provider."""
        return await _bounded(self.name, self._inner.logout_url(return_to, username))

    async def ended_elsewhere(self, logout_token: str) -> EndedElsewhere:
        """Tell which sessions ended at the provider. Raises UnknownProvider for one that tells of none."""
        if not isinstance(self._inner, TellsOfSignOuts):
            raise UnknownProvider(self.name)
        return await _bounded(self.name, self._inner.ended_elsewhere(logout_token))

    async def aclose(self) -> None:
        """Close the provider."""
        await close(self._inner)


def checked(name: str, identity: ExternalIdentity) -> ExternalIdentity:
    """Give the identity if it can be kept and linked. Raises SignInRefused."""
    texts = [
        identity.subject,
        identity.username,
        identity.email,
        identity.display_name,
        identity.provider_session,
    ]
    if identity.provider != name or not identity.subject.strip() or not identity.username.strip():
        raise untrusted(f"an identity of {identity.provider!r} without a subject or name came from {name!r}")
    if any(text is not None and not storable(text) for text in texts):
        raise untrusted("the identity has texts that are too long, or hold characters that no database keeps")
    return identity


def storable(text: str) -> bool:
    """Tell whether a database keeps this text: bounded, without U+0000 and without halves of surrogate pairs."""
    return len(text) <= MAX_TEXT and not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


async def close(provider: PasswordProvider | RedirectProvider) -> None:
    """Close a provider; one that cannot be closed keeps no other from it."""
    try:
        with anyio.fail_after(MOST_SECONDS):
            await provider.aclose()
    except Exception:
        logger.exception("the identity provider %r could not be closed", provider.name)


async def _bounded(name: str, call: Awaitable[_T]) -> _T:
    try:
        with anyio.fail_after(MOST_SECONDS):
            return await call
    except ProviderError:
        raise
    except Exception as error:
        # A package of somebody else's: whatever it raises is its own failure, and nobody is signed in.
        logger.exception("the identity provider %r failed", name)
        raise ProviderUnavailable(name, f"{type(error).__name__}: {error}") from error
