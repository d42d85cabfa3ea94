"""Why a sign-in with an identity provider, or linking one, comes to nothing, in words of the gateway's own.

What a provider, or whoever made the request, wrote is never repeated: a program gets the code, a person the sentence.
"""

from enum import StrEnum

from auth.providers import ProviderError, RefusalReason, SignInRefused
from gateway.codes import ErrorCode
from gateway.errors import GatewayError


class SignInProblem(StrEnum):
    """The reason, as it stands in the address that the browser is sent to. docs/identity-providers.md lists them."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNTRUSTED = "untrusted"
    INCOMPLETE = "incomplete"
    NO_ROLE = "no-role"
    NO_ACCOUNT = "no-account"
    DISABLED = "disabled"
    UNAVAILABLE = "unavailable"
    TAKEN = "taken"
    ALREADY_LINKED = "already-linked"
    SESSION_ENDED = "session-ended"


SENTENCES = {
    SignInProblem.CANCELLED: "The sign-in was cancelled at the identity provider.",
    SignInProblem.EXPIRED: "The sign-in took too long, or was used before. Start it again.",
    SignInProblem.UNTRUSTED: "The answer of the identity provider could not be verified. Start signing in again.",
    SignInProblem.INCOMPLETE: "The identity provider does not tell what the gateway needs. Ask an administrator.",
    SignInProblem.NO_ROLE: "Your account is known, but it has no access here. Ask an administrator for it.",
    SignInProblem.NO_ACCOUNT: "You have no account here. Ask an administrator for one.",
    SignInProblem.DISABLED: "Your account is disabled. Ask an administrator.",
    SignInProblem.UNAVAILABLE: "The identity provider cannot be reached. Try again in a moment.",
    SignInProblem.TAKEN: "This account at the identity provider belongs to another user here.",
    SignInProblem.ALREADY_LINKED: "You have another account at this identity provider. Unlink it first.",
    SignInProblem.SESSION_ENDED: "Your session ended before the account was linked. Sign in, and start again.",
}

_OF_REASON = {
    RefusalReason.CANCELLED: SignInProblem.CANCELLED,
    RefusalReason.EXPIRED: SignInProblem.EXPIRED,
    RefusalReason.INCOMPLETE: SignInProblem.INCOMPLETE,
    RefusalReason.NO_ROLE: SignInProblem.NO_ROLE,
    RefusalReason.UNTRUSTED: SignInProblem.UNTRUSTED,
}


class ExternalSignInRefused(GatewayError):
    """Somebody cannot sign in with an identity provider."""

    code = ErrorCode.SIGN_IN_REFUSED

    def __init__(self, problem: SignInProblem) -> None:
        self.problem = problem
        super().__init__(SENTENCES[problem])


def problem_of(error: ProviderError) -> SignInProblem:
    """Give the reason of a provider's own error."""
    return _OF_REASON[error.reason] if isinstance(error, SignInRefused) else SignInProblem.UNAVAILABLE
