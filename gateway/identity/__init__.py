"""Who asks: sign-in, users, API keys, and what each may do."""

from db.queries import UserFilter
from gateway.identity.accounts import Accounts, EndGenerations, NewUser, UserChange, nothing_runs
from gateway.identity.api_keys import UNCHANGED, ApiKeys, KeyChanges, KeyFilter, KeyRequest, NewApiKey, Unchanged
from gateway.identity.attempts import Attempts, LoginPolicy
from gateway.identity.authentication import Authentication, OpenCredentials
from gateway.identity.devices import (
    DeviceApprovals,
    DeviceSignInDenied,
    DeviceSignInExpired,
    DeviceSignInPending,
    DeviceSignIns,
    DeviceSignInTooFast,
    StartedDeviceSignIn,
)
from gateway.identity.external import (
    BUILT_IN_PROVIDERS,
    PENDING_TIME,
    BegunSignIn,
    BrowserAway,
    BrowserHere,
    ExternalAccounts,
    ExternalLinks,
    ExternalPasswords,
    ExternalSignInRefused,
    FinishedSignIn,
    LinkedBy,
    Linking,
    LinkRequest,
    RedirectSignIns,
    SignInKind,
    SignInOption,
    SignInOptions,
    SignInProblem,
    SignOuts,
    SignUp,
    callback_uri,
    local_path,
)
from gateway.identity.groups import MAX_MEMBERS_AT_ONCE, GroupChange, Groups
from gateway.identity.identity import Identity
from gateway.identity.known import KnownCallers
from gateway.identity.passwords import LinkPurpose, NewLink, Passwords
from gateway.identity.profile import Profile, UserKind
from gateway.identity.refusals import Conflict, InvalidLink
from gateway.identity.registration import Registration
from gateway.identity.rights import OPERATOR
from gateway.identity.roles import Roles
from gateway.identity.rotations import DEFAULT_GRACE, MAX_GRACE, Rotations
from gateway.identity.sessions import KEPT_AFTER_END, SessionPolicy, Sessions, SignedIn
from gateway.identity.sign_in import KNOWN_TIME, SignIns
from gateway.identity.uses import KeyUses, SessionUses

__all__ = [
    "BUILT_IN_PROVIDERS",
    "DEFAULT_GRACE",
    "KEPT_AFTER_END",
    "KNOWN_TIME",
    "MAX_GRACE",
    "MAX_MEMBERS_AT_ONCE",
    "OPERATOR",
    "PENDING_TIME",
    "UNCHANGED",
    "Accounts",
    "ApiKeys",
    "Attempts",
    "Authentication",
    "BegunSignIn",
    "BrowserAway",
    "BrowserHere",
    "Conflict",
    "DeviceApprovals",
    "DeviceSignInDenied",
    "DeviceSignInExpired",
    "DeviceSignInPending",
    "DeviceSignInTooFast",
    "DeviceSignIns",
    "EndGenerations",
    "ExternalAccounts",
    "ExternalLinks",
    "ExternalPasswords",
    "ExternalSignInRefused",
    "FinishedSignIn",
    "GroupChange",
    "Groups",
    "Identity",
    "InvalidLink",
    "KeyChanges",
    "KeyFilter",
    "KeyRequest",
    "KeyUses",
    "KnownCallers",
    "LinkPurpose",
    "LinkRequest",
    "LinkedBy",
    "Linking",
    "LoginPolicy",
    "NewApiKey",
    "NewLink",
    "NewUser",
    "OpenCredentials",
    "Passwords",
    "Profile",
    "RedirectSignIns",
    "Registration",
    "Roles",
    "Rotations",
    "SessionPolicy",
    "SessionUses",
    "Sessions",
    "SignInKind",
    "SignInOption",
    "SignInOptions",
    "SignInProblem",
    "SignIns",
    "SignOuts",
    "SignUp",
    "SignedIn",
    "StartedDeviceSignIn",
    "Unchanged",
    "UserChange",
    "UserFilter",
    "UserKind",
    "callback_uri",
    "local_path",
    "nothing_runs",
]
