"""Of the gateway, its model servers and their models."""

from gateway.catalog import BackendKind, BreakerState, Capability
from gateway.server_info import IntrospectionAccess, SubscriptionTransport, TrustedDocumentsMode
from schema.enums.describing import describe

describe(
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
describe(
    BackendKind,
    "BackendKind",
    "The API that a model server offers.",
    {
        "OLLAMA": "Ollama's own API.",
        "OPENAI": "The OpenAI-compatible chat API of vLLM, llama.cpp and others.",
        "EMBEDDED": "The built-in model server, which the gateway runs itself.",
    },
)
describe(
    BreakerState,
    "BreakerState",
    "Whether generations go to a backend. Each replica decides for itself.",
    {
        "CLOSED": "They do.",
        "OPEN": "They do not: it has failed several times in a row.",
        "HALF_OPEN": "One does, to find out whether it works again.",
    },
)
describe(
    IntrospectionAccess,
    "IntrospectionAccess",
    "Who may introspect the schema.",
    {
        "EVERYBODY": "Every client, with or without credentials.",
        "SIGNED_IN": "Clients with valid credentials.",
        "NOBODY": "No client.",
    },
)
describe(
    TrustedDocumentsMode,
    "TrustedDocumentsMode",
    "Which documents the server accepts.",
    {
        "OFF": "All documents; none are listed.",
        "ALLOW": "All documents; listed ones can be sent by their ids.",
        "ONLY": "Only listed documents.",
    },
)
describe(
    SubscriptionTransport,
    "SubscriptionTransport",
    "A protocol that carries subscriptions.",
    {
        "GRAPHQL_TRANSPORT_WS": "The WebSocket subprotocol `graphql-transport-ws`.",
        "GRAPHQL_SSE": "Server-sent events over HTTP, in the distinct connections mode of GraphQL over SSE.",
        "MULTIPART_HTTP": "The multipart subscription protocol of Apollo, over HTTP.",
    },
)
