"""The enums of the API: the gateway's own, with a description for every value."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar, cast

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from auth.principal import AuthMethod, ContentPolicy
from auth.scopes import Scope
from gateway.audit import AuditOutcome
from gateway.catalog import BackendKind, BreakerState, Capability
from gateway.errors import ErrorCode
from gateway.generation import OnBackendLoss, OnDisconnect, OnLimit, State, ThinkingLevel, ToolChoiceMode
from gateway.identity import LinkPurpose, SignInKind, UserKind
from gateway.limits import LimitDimension, LimitWindow, Measure
from gateway.server_info import IntrospectionAccess, SubscriptionTransport, TrustedDocumentsMode
from gateway.streams import CancelReason, FinishReason, LossReason, QueueReason, UsageSource
from gateway.usage import Granularity, UsageDimension, UsageOrder

_Enum = TypeVar("_Enum", bound=type[Enum])


def _describe(enum: _Enum, name: str, description: str, values: Mapping[str, str]) -> _Enum:
    """Make an enum part of the API. Raises KeyError for a value without a description."""
    strawberry.enum(enum, name=name, description=description)
    definition = cast("StrawberryEnumDefinition", vars(enum)["__strawberry_definition__"])
    for value in definition.values:
        value.description = values[value.name]
    return enum


_describe(
    ErrorCode,
    "ErrorCode",
    "Why something was refused or failed. Values keep their meaning; new ones may be added. The codes of top-level "
    "errors (`extensions.code`) are listed in docs/errors.md.",
    {
        "INVALID_CREDENTIALS": "The user name or the password is wrong.",
        "ACCOUNT_LOCKED": "Too many failed sign-ins with this name or from this address, or too many wrong codes.",
        "SESSION_ENDED": "The refresh token leads to no session that is still open. Sign in again.",
        "SIGN_IN_REFUSED": "The identity provider or a rule of the gateway keeps this person out; see `message`.",
        "PROVIDER_UNAVAILABLE": "The identity provider cannot be reached. Try again in a moment.",
        "INVALID_INPUT": "A value is invalid; `issues` names each.",
        "NOT_FOUND": "It does not exist, or it does not belong to you.",
        "AUTHORIZATION_PENDING": "Nobody has approved or denied the device yet. Poll again after `retryAfterMs`.",
        "SLOW_DOWN": "The device polls too fast. Poll again after `retryAfterMs`, and never faster from then on.",
        "ACCESS_DENIED": "The person denied the device, or may not sign in any more.",
        "DEVICE_CODE_EXPIRED": "The device code has expired, was used, or never existed. Start again.",
        "INVALID_LINK": "The one-time link was used, has expired, or never existed.",
        "LAST_ADMINISTRATOR": "Nobody would be left who can administer the gateway.",
        "LAST_SIGN_IN_METHOD": "The user would have no way left to sign in.",
        "RECENT_SIGN_IN_REQUIRED": "The sign-in is too long ago for this. Give the password, or sign in again.",
        "ROLE_IN_USE": "Users have this role.",
        "MODEL_NOT_FOUND": "No backend serves a model with this name.",
        "UNSUPPORTED": "The model or its backend does not support this.",
        "OVERLOADED": "The queue is full. Try again later.",
        "SHUTTING_DOWN": "The gateway is stopping. Try again in a moment.",
        "DATABASE_UNAVAILABLE": "The gateway cannot reach its database. Try again in a moment.",
        "RATE_LIMITED": "A limit on a minute, or on what runs at once, is reached; `limit` tells which.",
        "QUOTA_EXCEEDED": "A limit on a day or a month is reached; `limit` tells which, and when it resets.",
        "REQUEST_REFUSED": "A plugin of the gateway refuses the request; `message` says why.",
        "GUARD_FAILED": "A plugin that has to check requests or answers failed, so nothing goes on without it.",
        "IDEMPOTENCY_KEY_REUSED": "This idempotency key was used with a different request.",
        "INTERRUPTED": "The gateway stopped while the generation was running.",
        "CONTEXT_TOO_LONG": "The prompt and the requested answer do not fit into the model's context.",
        "MALFORMED_TOOL_CALL": "The model called a tool with arguments that are not a JSON object.",
        "BACKEND_UNAVAILABLE": "The model server is unreachable, or the connection was lost.",
        "BACKEND_TIMEOUT": "The model server took too long.",
        "BACKEND_OVERLOADED": "The model server is at capacity.",
        "BACKEND_REJECTED": "The model server refused the request.",
        "BACKEND_FAILED": "The model server reported an internal error.",
        "BACKEND_PROTOCOL_ERROR": "The model server sent a malformed response, or ended it too early.",
        "LIMIT_EXCEEDED": "The caller already has the allowed number of these; see `limit`.",
        "INTERNAL_ERROR": "A fault in the gateway. Its log has the details; search for the request id.",
    },
)
_describe(
    Scope,
    "Scope",
    "One permission of a session or an API key.",
    {scope.name: scope.description for scope in Scope},
)
_describe(
    UserKind,
    "UserKind",
    "What kind of user it is.",
    {"PERSON": "A person, who signs in.", "SERVICE": "A program, which uses API keys and has no password."},
)
_describe(
    LinkPurpose,
    "LinkPurpose",
    "What a one-time link is for.",
    {
        "INVITATION": "The first password of a user who was invited.",
        "RESET": "A new password for a user who has lost theirs.",
    },
)
_describe(
    AuthMethod,
    "AuthMethod",
    "The kind of credentials that authenticated a request.",
    {
        "ACCESS_TOKEN": "An access token, which `login` returned.",
        "API_KEY": "An API key.",
        "COMMAND_LINE": "A command on the machine of the gateway; never a request.",
    },
)
_describe(
    AuditOutcome,
    "AuditOutcome",
    "What came of something that somebody did.",
    {
        "SUCCESS": "It was done.",
        "REFUSED": "It was refused; `code` says why.",
        "FAILED": "It failed by a fault of the gateway or of the request; `code` says why.",
    },
)
_describe(
    Capability,
    "Capability",
    "An ability of a model.",
    {
        "COMPLETION": "Answer a prompt or a conversation.",
        "TOOLS": "Ask for tools to be called.",
        "VISION": "Read images.",
        "THINKING": "Think before answering.",
        "EMBEDDING": "Turn text into vectors.",
        "AUDIO": "Understand audio.",
        "FILES": "Read documents.",
    },
)
_describe(
    BackendKind,
    "BackendKind",
    "The API that a model server offers.",
    {
        "OLLAMA": "Ollama's own API.",
        "OPENAI": "The OpenAI-compatible chat API of vLLM, llama.cpp and others.",
        "EMBEDDED": "The built-in model server, which the gateway runs itself.",
    },
)
_describe(
    BreakerState,
    "BreakerState",
    "Whether generations go to a backend. Each replica decides for itself.",
    {
        "CLOSED": "They do.",
        "OPEN": "They do not: it has failed several times in a row.",
        "HALF_OPEN": "One does, to find out whether it works again.",
    },
)
_describe(
    IntrospectionAccess,
    "IntrospectionAccess",
    "Who may introspect the schema.",
    {
        "EVERYBODY": "Every client, with or without credentials.",
        "SIGNED_IN": "Clients with valid credentials.",
        "NOBODY": "No client.",
    },
)
_describe(
    TrustedDocumentsMode,
    "TrustedDocumentsMode",
    "Which documents the server accepts.",
    {
        "OFF": "All documents; none are listed.",
        "ALLOW": "All documents; listed ones can be sent by their ids.",
        "ONLY": "Only listed documents.",
    },
)
_describe(
    SubscriptionTransport,
    "SubscriptionTransport",
    "A protocol that carries subscriptions.",
    {
        "GRAPHQL_TRANSPORT_WS": "The WebSocket subprotocol `graphql-transport-ws`.",
        "GRAPHQL_SSE": "Server-sent events over HTTP, in the distinct connections mode of GraphQL over SSE.",
        "MULTIPART_HTTP": "The multipart subscription protocol of Apollo, over HTTP.",
    },
)
_describe(
    State,
    "GenerationState",
    "The state of a generation.",
    {
        "QUEUED": "It waits for a slot at its backend.",
        "RUNNING": "The backend started to work on it.",
        "COMPLETED": "It ended with a whole answer.",
        "CANCELLED": "It was cancelled; `cancelReason` says why.",
        "FAILED": "It failed; `error` says why.",
    },
)
_describe(
    FinishReason,
    "FinishReason",
    "Why a generation completed.",
    {
        "STOP": "The model finished, or produced a stop sequence.",
        "LENGTH": "It reached maxTokens or the end of the context.",
        "TOOL_CALLS": "The model requests tool calls.",
        "CONTENT_FILTER": "The model server withheld the rest.",
        "REPETITION": "The model repeated itself, and the model server stopped it.",
    },
)
_describe(
    CancelReason,
    "CancelReason",
    "Why a generation was cancelled.",
    {
        "REQUESTED": "`cancelGeneration` was called.",
        "VIEWERS_LEFT": "Its last viewer disconnected, and `onDisconnect` was CANCEL.",
        "DEADLINE": "Its deadline passed. Reserved; not used yet.",
        "LIMIT": "A limit of its user was reached. Reserved; not used yet.",
        "SHUTDOWN": "The gateway was stopped. Reserved; today such generations fail with SHUTTING_DOWN.",
    },
)
_describe(
    UsageSource,
    "UsageSource",
    "Where a token count comes from.",
    {
        "BACKEND": "The model server reported it.",
        "COUNTED": "The gateway counted it as the answer streamed.",
        "ESTIMATED": "It was estimated from the text, or a part of it was not reported.",
    },
)
_describe(
    ToolChoiceMode,
    "ToolChoiceMode",
    "Whether the model calls tools.",
    {
        "AUTO": "The model decides. The same as no `toolChoice`.",
        "NONE": "It calls no tool.",
        "REQUIRED": "It calls at least one tool. Not supported by Ollama (UNSUPPORTED).",
    },
)
_describe(
    ThinkingLevel,
    "ThinkingLevel",
    "How much a model thinks before it answers. For models without levels, every level except OFF turns thinking "
    "on. Models that always think ignore OFF.",
    {
        "OFF": "No thinking. Ollama: `false`. OpenAI-compatible servers: `enable_thinking: false` for the chat "
        "template, and `reasoning_effort: none` if the server is neither llama.cpp nor vLLM.",
        "ON": "The model's usual amount. Ollama: `true`. OpenAI-compatible servers: `enable_thinking: true`, and "
        "`reasoning_effort: medium` if the server is neither llama.cpp nor vLLM.",
        "MINIMAL": "The least possible. Ollama, llama.cpp and vLLM: same as LOW. Others: `reasoning_effort: minimal`.",
        "LOW": "A little: `low`.",
        "MEDIUM": "Some: `medium`.",
        "HIGH": "A lot: `high`.",
        "MAX": "The most possible. Ollama: `max`, or `high` if it is too old for that. OpenAI-compatible servers: "
        "`high`.",
    },
)
_describe(
    Granularity,
    "Granularity",
    "How much time one row of a usage report covers, by the clock of the report's time zone.",
    {
        "HOUR": "An hour.",
        "DAY": "A day, from midnight to midnight; 23 or 25 hours when the clocks change.",
        "WEEK": "A week, from Monday to Sunday.",
        "MONTH": "A calendar month.",
        "NONE": "The whole time of the report.",
    },
)
_describe(
    SignInKind,
    "SignInKind",
    "How a person proves who they are.",
    {
        "PASSWORD": "With a user name and a password, which `login` takes.",
        "REDIRECT": "At the provider, to which the browser goes.",
    },
)
_describe(
    UsageDimension,
    "UsageDimension",
    "What the rows of a usage report are grouped by.",
    {
        "MODEL": "Each model.",
        "API_KEY": "Each API key, and one group for generations without a key.",
        "USER": "Each user that `filter` selects. Needs USAGE_READ_ALL.",
        "BACKEND": "Each backend.",
        "FINISH": "How generations ended: each pair of `state` and `finishReason`.",
        "TAG": "Each name and value of a tag, and one group for generations without tags. A generation counts in the "
        "group of each of its tags.",
        "END_USER": "Each `endUser`, and one group for generations without one.",
        "GROUP": "Each group of users, and one for users without groups. A generation counts in each of the groups "
        "that its user was in when it started.",
    },
)
_describe(
    UsageOrder,
    "UsageOrder",
    "The order of the rows of a usage report. Equal rows are ordered by time, then by their dimensions.",
    {
        "OLDEST_FIRST": "The earliest first.",
        "NEWEST_FIRST": "The latest first.",
        "MOST_GENERATIONS": "The most generations first.",
        "MOST_TOKENS": "The most tokens first, prompt and completion together.",
    },
)
_describe(
    OnDisconnect,
    "OnDisconnect",
    "What happens to a generation when its last viewer disconnects.",
    {
        "CONTINUE": "It keeps running, and can be watched again.",
        "CANCEL": "It is cancelled, and the model server stops working on it.",
    },
)
_describe(
    OnBackendLoss,
    "OnBackendLoss",
    "What happens to a generation when its model server, or the gateway that runs it, is lost.",
    {
        "FAIL": "It fails. What the model wrote remains and is counted.",
        "CONTINUE": "Another one continues where it stopped, in the same stream. Within a tool call, a structured "
        "format or a thought the model cannot continue, and the generation fails.",
    },
)
_describe(
    ContentPolicy,
    "ContentPolicy",
    "What the database keeps of a generation beside its numbers, tags and end user, for as long as the operator has "
    "set. The setting, the API key and the request each allow something: the least counts.",
    {
        "NOTHING": "Neither the prompt nor the answer, nor the message of a failure. The stream can be watched and "
        "resumed for as long as the stream log keeps it.",
        "ANSWERS": "The answer, and not the prompt.",
        "ALL": "Prompt and answer.",
    },
)
_describe(
    LossReason,
    "LossReason",
    "What a generation lost before its end.",
    {
        "BACKEND_LOST": "Its model server failed or stopped sending.",
        "GATEWAY_LOST": "The gateway that ran it failed or was stopped.",
    },
)
_describe(
    QueueReason,
    "QueueReason",
    "What a generation waits for.",
    {
        "BUSY": "All slots at its backend are in use, or all that one user may have there.",
        "LOADING": "It has a slot, and the model server is loading the model. This may take minutes.",
        "LIMIT": "A limit has no room for it now. It waits until there is.",
    },
)
_describe(
    OnLimit,
    "OnLimit",
    "What happens to a generation when a limit has no room for it now.",
    {
        "REFUSE": "It is refused with RATE_LIMITED or QUOTA_EXCEEDED.",
        "WAIT": "It waits in the queue until the limit has room. It is refused if that would take longer than the "
        "gateway lets generations wait, or if it never fits.",
    },
)
_describe(
    Measure,
    "LimitMeasure",
    "What a limit counts.",
    {
        "REQUESTS": "Generations that started.",
        "TOKENS": "Tokens of prompts and answers.",
        "PARALLEL": "Generations that run or wait at the same time.",
        "COST": "What generations cost.",
    },
)
_describe(
    LimitWindow,
    "LimitWindow",
    "How long what was used counts for a limit.",
    {
        "MINUTE": "60 seconds, from the first request on.",
        "DAY": "A calendar day in the limit's time zone.",
        "MONTH": "A calendar month in the limit's time zone.",
    },
)
_describe(
    LimitDimension,
    "LimitDimension",
    "What a limit counts by: each has an amount of its own.",
    {
        "USER": "Each user.",
        "GROUP": "Each group; a generation counts for every group of its user.",
        "API_KEY": "Each API key; what is asked without a key does not count.",
        "MODEL": "Each model.",
        "END_USER": "Each of the callers' own users, `endUser`.",
        "TAG": "Each value of the tag that the limit names.",
    },
)
