"""The enums of the API: the gateway's own, with a description for every value."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar, cast

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from auth.principal import AuthMethod
from auth.scopes import Scope
from gateway.catalog import BackendKind, Capability
from gateway.errors import ErrorCode
from gateway.generation import OnBackendLoss, OnDisconnect, State, ThinkingLevel, ToolChoiceMode
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
    "Why something was refused or failed. Values keep their meaning, and new ones may come. The codes of errors at the "
    "top level of an answer (`extensions.code`) are listed in docs/errors.md.",
    {
        "INVALID_CREDENTIALS": "The username or the password is wrong.",
        "ACCOUNT_LOCKED": "Too many failed sign-ins under this name.",
        "INVALID_INPUT": "A value is invalid; `issues` names each.",
        "NOT_FOUND": "There is no such thing, or it is not yours.",
        "MODEL_NOT_FOUND": "No backend serves a model of this name.",
        "UNSUPPORTED": "The model or its backend cannot do this.",
        "OVERLOADED": "The queue is full. Ask again later.",
        "SHUTTING_DOWN": "The gateway is stopping. Ask again in a moment.",
        "DATABASE_UNAVAILABLE": "The gateway cannot reach its database. Ask again in a moment.",
        "IDEMPOTENCY_KEY_REUSED": "Another request was made under this idempotency key.",
        "INTERRUPTED": "The gateway stopped while the generation was under way.",
        "CONTEXT_TOO_LONG": "The prompt, with the answer asked for, does not fit into the model's context.",
        "MALFORMED_TOOL_CALL": "The model called a tool with arguments that are not a JSON object.",
        "BACKEND_UNAVAILABLE": "The model server cannot be reached, or the connection broke.",
        "BACKEND_TIMEOUT": "The model server took too long.",
        "BACKEND_OVERLOADED": "The model server has no room now.",
        "BACKEND_REJECTED": "The model server refused the request.",
        "BACKEND_FAILED": "The model server failed at its work.",
        "BACKEND_PROTOCOL_ERROR": "The model server sent something malformed, or stopped before the end.",
        "LIMIT_EXCEEDED": "The caller has as many of these as allowed; `limit` tells how many.",
        "INTERNAL_ERROR": "A fault of the gateway's. Its log has the details under the request's id.",
    },
)
_describe(
    Scope,
    "Scope",
    "One permission of a session or an API key.",
    {scope.name: scope.description for scope in Scope},
)
_describe(
    AuthMethod,
    "AuthMethod",
    "The kind of credentials that authenticated a request.",
    {
        "ACCESS_TOKEN": "An access token, which `login` returned.",
        "API_KEY": "An API key.",
    },
)
_describe(
    Capability,
    "Capability",
    "Something that a model can do.",
    {
        "COMPLETION": "Answer a prompt or a conversation.",
        "TOOLS": "Ask for tools to be called.",
        "VISION": "Read images.",
        "THINKING": "Think before it answers.",
        "EMBEDDING": "Turn text into vectors.",
        "AUDIO": "Listen to sounds.",
        "FILES": "Read documents.",
    },
)
_describe(
    BackendKind,
    "BackendKind",
    "The API that a model server speaks.",
    {
        "OLLAMA": "Ollama's own API.",
        "OPENAI": "The OpenAI chat API, as vLLM, llama.cpp and others offer it.",
        "EMBEDDED": "None: the gateway runs this model server itself.",
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
        "OFF": "All; the operator has listed none.",
        "ALLOW": "All; those that the operator has listed can be sent by their ids.",
        "ONLY": "Only those that the operator has listed.",
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
    "Where a generation stands.",
    {
        "QUEUED": "It waits for a place at its backend.",
        "RUNNING": "The backend is at work.",
        "COMPLETED": "It ended by itself.",
        "CANCELLED": "It was cancelled; `cancelReason` tells why.",
        "FAILED": "It ended with an error; `error` tells which.",
    },
)
_describe(
    FinishReason,
    "FinishReason",
    "Why a generation completed.",
    {
        "STOP": "The model was done, or said a stop sequence.",
        "LENGTH": "It reached maxTokens or the end of the context.",
        "TOOL_CALLS": "The model wants tools called.",
        "CONTENT_FILTER": "The backend withheld the rest.",
        "REPETITION": "The model repeated itself, and its server stopped it.",
    },
)
_describe(
    CancelReason,
    "CancelReason",
    "Why a generation was cancelled.",
    {
        "REQUESTED": "Somebody called `cancelGeneration`.",
        "VIEWERS_LEFT": "Its last viewer disconnected, and `onDisconnect` was CANCEL.",
        "DEADLINE": "Its time was up. Reserved: no generation ends so yet.",
        "LIMIT": "A limit of its user was reached. Reserved: no generation ends so yet.",
        "SHUTDOWN": "The gateway was stopped. Reserved: no generation ends so yet; it fails with SHUTTING_DOWN.",
    },
)
_describe(
    UsageSource,
    "UsageSource",
    "Where token counts come from: the weakest source that was needed.",
    {
        "BACKEND": "The model server told them.",
        "COUNTED": "The prompt was told by the model server, the completion counted as it streamed.",
        "ESTIMATED": "At least one of them had to be guessed from the text.",
    },
)
_describe(
    ToolChoiceMode,
    "ToolChoiceMode",
    "Whether the model calls tools.",
    {
        "AUTO": "The model decides. This is also what happens without a toolChoice.",
        "NONE": "It calls none.",
        "REQUIRED": "It calls at least one. Ollama cannot do this (UNSUPPORTED).",
    },
)
_describe(
    ThinkingLevel,
    "ThinkingLevel",
    "How much a model thinks before it answers. Of models without levels, all but OFF switch thinking on; a model that "
    "always thinks ignores OFF.",
    {
        "OFF": "Not at all. Ollama: `false`. OpenAI-compatible servers: `enable_thinking: false` for the "
        "chat template, and `reasoning_effort: none` where the server is neither llama.cpp nor vLLM.",
        "ON": "As much as the model does by itself. Ollama: `true`. OpenAI-compatible servers: "
        "`enable_thinking: true`, and `reasoning_effort: medium` where the server is neither llama.cpp nor vLLM.",
        "MINIMAL": "As little as there is. Ollama, llama.cpp and vLLM: as LOW. Others: `reasoning_effort: minimal`.",
        "LOW": "A little: `low`.",
        "MEDIUM": "Some: `medium`.",
        "HIGH": "A lot: `high`.",
        "MAX": "As much as there is. Ollama: `max`, and `high` where it is too old for that. "
        "OpenAI-compatible servers: `high`.",
    },
)
_describe(
    Granularity,
    "Granularity",
    "The length of time of one row of a usage report, by the clock of the report's time zone.",
    {
        "HOUR": "An hour.",
        "DAY": "A day, from midnight to midnight: 23 or 25 hours long where the clock is changed.",
        "WEEK": "A week, from Monday to Sunday.",
        "MONTH": "A month of the calendar.",
        "NONE": "All the time of the report.",
    },
)
_describe(
    UsageDimension,
    "UsageDimension",
    "What a usage report has a row of its own for.",
    {
        "MODEL": "Each model.",
        "API_KEY": "Each API key, and one for what no key started.",
        "USER": "Each user, among those that `filter` chooses. Needs the ADMIN scope.",
        "BACKEND": "Each backend.",
        "FINISH": "Each way in which generations ended: the fields `state` and `finishReason`.",
    },
)
_describe(
    UsageOrder,
    "UsageOrder",
    "Which rows of a usage report come first. Rows that are equal in it come by time, then by their dimensions.",
    {
        "OLDEST_FIRST": "Those of the earliest time.",
        "NEWEST_FIRST": "Those of the latest time.",
        "MOST_GENERATIONS": "Those with most generations.",
        "MOST_TOKENS": "Those with most tokens, of prompts and completions together.",
    },
)
_describe(
    OnDisconnect,
    "OnDisconnect",
    "What becomes of a generation when its last viewer leaves.",
    {
        "CONTINUE": "It goes on to its end and can be watched again.",
        "CANCEL": "It is cancelled, and the model server stops working on it.",
    },
)
_describe(
    OnBackendLoss,
    "OnBackendLoss",
    "What becomes of a generation when its model server, or the gateway that asks it, dies.",
    {
        "FAIL": "It fails; what was said stands and is counted.",
        "CONTINUE": "Another one goes on where it was, in the same stream. A model that is within a tool call, a given "
        "format or a thought cannot go on, and fails.",
    },
)
_describe(
    LossReason,
    "LossReason",
    "What an answer lost on the way.",
    {
        "BACKEND_LOST": "Its model server died or did not go on.",
        "GATEWAY_LOST": "The gateway that ran it died or was stopped.",
    },
)
_describe(
    QueueReason,
    "QueueReason",
    "What a generation waits for.",
    {
        "BUSY": "All places at its backend are taken, or all that one user may have there.",
        "LOADING": "It has its place, and the model server loads the model first. That may take minutes.",
    },
)
