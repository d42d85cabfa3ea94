"""What can go wrong with an identity provider.

ProviderError
├── ProviderUnavailable       no usable answer in time; may be tried again
├── SignInRefused             the provider or its rules say no, or what came back cannot be trusted
├── UnknownProvider           no provider has this name
└── InvalidProviderConfig     the configuration cannot work; raised at start-up only, and says what to change

The messages are fit for a user and hold no credentials. What only an operator may know goes to the log.
"""

from enum import StrEnum
from typing import ClassVar


class RefusalReason(StrEnum):
    """Why a sign-in was refused, for programs and logs."""

    CANCELLED = "CANCELLED"
    """The person said no at the provider."""
    EXPIRED = "EXPIRED"
    """The code, the token or the attempt is too old. Signing in once more helps."""
    UNTRUSTED = "UNTRUSTED"
    """What came back was not made by this provider for this gateway and this attempt."""
    INCOMPLETE = "INCOMPLETE"
    """The provider leaves out what the gateway needs, such as the user name."""
    NO_ROLE = "NO_ROLE"
    """No rule gives the person a role, and there is no default."""


class ProviderError(Exception):
    """The root of the tree. `retryable`: whether the same attempt may work later."""

    retryable: ClassVar[bool] = False


class ProviderUnavailable(ProviderError):
    """The provider gave no usable answer in time."""

    retryable = True

    def __init__(self, provider: str, detail: str = "") -> None:
        super().__init__(f"The identity provider {provider!r} cannot be reached. Try again in a moment.")
        self.provider = provider
        self.detail = detail
        """What happened, for the log."""


class SignInRefused(ProviderError):
    """The sign-in was refused. The message is for the person who signs in."""

    def __init__(self, reason: RefusalReason, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.detail = detail
        """What exactly did not hold, for the log."""


class UnknownProvider(ProviderError):
    """No provider has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no identity provider {name!r}.")


class InvalidProviderConfig(ProviderError, ValueError):
    """A provider cannot be built from its configuration. The message says what to change."""


def untrusted(detail: str) -> SignInRefused:
    """Give the refusal of an answer that cannot be trusted; only the log learns what was wrong with it."""
    message = "The answer of the identity provider could not be verified. Start signing in again."
    return SignInRefused(RefusalReason.UNTRUSTED, message, detail=detail)
