"""What an installation offers, as far as its clients may know. The composition root fills it in from the settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class IntrospectionAccess(StrEnum):
    """Who may introspect the schema."""

    EVERYBODY = "EVERYBODY"
    SIGNED_IN = "SIGNED_IN"
    NOBODY = "NOBODY"


class TrustedDocumentsMode(StrEnum):
    """What becomes of documents that the operator has not listed."""

    OFF = "OFF"
    ALLOW = "ALLOW"
    ONLY = "ONLY"


class SubscriptionTransport(StrEnum):
    """A protocol that carries subscriptions."""

    GRAPHQL_TRANSPORT_WS = "GRAPHQL_TRANSPORT_WS"
    GRAPHQL_SSE = "GRAPHQL_SSE"
    MULTIPART_HTTP = "MULTIPART_HTTP"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The version and the features of this installation; it holds no secret. Retentions are in seconds."""

    version: str
    introspection: IntrospectionAccess
    stream_retention: float
    text_retention: float
    shared_stream_log: bool
    automatic_persisted_queries: bool
    trusted_documents: TrustedDocumentsMode
    subscription_transports: Sequence[SubscriptionTransport] = tuple(SubscriptionTransport)
