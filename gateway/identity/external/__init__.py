"""Sign-in with identity providers: whom they vouch for, and which users those are."""

from gateway.identity.external.accounts import ExternalAccounts, SignUp
from gateway.identity.external.linking import BrowserHere, Linking, LinkRequest
from gateway.identity.external.links import ExternalLinks
from gateway.identity.external.options import BUILT_IN_PROVIDERS, SignInKind, SignInOption, SignInOptions
from gateway.identity.external.passwords import ExternalPasswords, Others, ProvidersUnavailable, Question
from gateway.identity.external.redirects import (
    PENDING_TIME,
    BegunSignIn,
    BrowserAway,
    FinishedSignIn,
    LinkedBy,
    RedirectSignIns,
)
from gateway.identity.external.refusals import ExternalSignInRefused, SignInProblem
from gateway.identity.external.return_to import callback_uri, local_path
from gateway.identity.external.sign_outs import SignOuts

__all__ = [
    "BUILT_IN_PROVIDERS",
    "PENDING_TIME",
    "BegunSignIn",
    "BrowserAway",
    "BrowserHere",
    "ExternalAccounts",
    "ExternalLinks",
    "ExternalPasswords",
    "ExternalSignInRefused",
    "FinishedSignIn",
    "LinkRequest",
    "LinkedBy",
    "Linking",
    "Others",
    "ProvidersUnavailable",
    "Question",
    "RedirectSignIns",
    "SignInKind",
    "SignInOption",
    "SignInOptions",
    "SignInProblem",
    "SignOuts",
    "SignUp",
    "callback_uri",
    "local_path",
]
