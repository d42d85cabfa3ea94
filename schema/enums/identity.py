"""Of people, programs, and what they may do."""

from auth.principal import AuthMethod
from auth.scopes import Scope
from gateway.audit import AuditOutcome
from gateway.identity import LinkPurpose, SignInKind, UserKind
from schema.enums.describing import describe

describe(
    Scope,
    "Scope",
    "One permission of a session or an API key.",
    {scope.name: scope.description for scope in Scope},
)
describe(
    UserKind,
    "UserKind",
    "What kind of user it is.",
    {"PERSON": "A person, who signs in.", "SERVICE": "A program, which uses API keys and has no password."},
)
describe(
    LinkPurpose,
    "LinkPurpose",
    "What a one-time link is for.",
    {
        "INVITATION": "The first password of a user who was invited.",
        "RESET": "A new password for a user who has lost theirs.",
    },
)
describe(
    AuthMethod,
    "AuthMethod",
    "The kind of credentials that authenticated a request.",
    {
        "ACCESS_TOKEN": "An access token, which `login` returned.",
        "API_KEY": "An API key.",
        "COMMAND_LINE": "A command on the machine of the gateway; never a request.",
    },
)
describe(
    AuditOutcome,
    "AuditOutcome",
    "What came of something that somebody did.",
    {
        "SUCCESS": "It was done.",
        "REFUSED": "It was refused; `code` says why.",
        "FAILED": "It failed by a fault of the gateway or of the request; `code` says why.",
    },
)
describe(
    SignInKind,
    "SignInKind",
    "How a person proves who they are.",
    {
        "PASSWORD": "With a user name and a password, which `login` takes.",
        "REDIRECT": "At the provider, to which the browser goes.",
    },
)
