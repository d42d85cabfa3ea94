"""Sign-in with identity providers: whom they vouch for, and which users those are."""

from gateway.identity.external.accounts import ExternalAccounts, SignUp
from gateway.identity.external.options import BUILT_IN_PROVIDERS, SignInKind, SignInOption, SignInOptions
from gateway.identity.external.passwords import ExternalPasswords, ProvidersUnavailable, Question
from gateway.identity.external.redirects import PENDING_TIME, BegunSignIn, FinishedSignIn, RedirectSignIns
from gateway.identity.external.refusals import ExternalSignInRefused, SignInProblem

__all__ = [
    "BUILT_IN_PROVIDERS",
    "PENDING_TIME",
    "BegunSignIn",
    "ExternalAccounts",
    "ExternalPasswords",
    "ExternalSignInRefused",
    "FinishedSignIn",
    "ProvidersUnavailable",
    "Question",
    "RedirectSignIns",
    "SignInKind",
    "SignInOption",
    "SignInOptions",
    "SignInProblem",
    "SignUp",
]
