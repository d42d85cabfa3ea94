"""The installation: its version and its features."""

from typing import Self

import strawberry

from gateway import server_info
from gateway.server_info import IntrospectionAccess, SubscriptionTransport, TrustedDocumentsMode


@strawberry.type(description="The version and the features of this installation. It holds no secret.")
class ServerInfo:
    version: str = strawberry.field(description="The version of Ollagraph, such as 1.0.0.")
    introspection: IntrospectionAccess = strawberry.field(description="Who may introspect the schema.")
    stream_retention_seconds: float = strawberry.field(
        description="How many seconds the stream log keeps the text of an ended generation, if its memory suffices."
    )
    text_retention_seconds: float = strawberry.field(
        description="How many seconds the database keeps both sides of an ended generation: the question (`input`) "
        "and the answer (`text`, `thinking`, `toolCalls`). 0: it keeps neither, except that answers with an "
        "idempotency key are kept as long as the key."
    )
    shared_stream_log: bool = strawberry.field(
        description="Whether replicas share their streams, so that a generation can be watched at any of them."
    )
    automatic_persisted_queries: bool = strawberry.field(
        description="Whether a client may register a document and from then on send only its SHA-256 hash."
    )
    trusted_documents: TrustedDocumentsMode = strawberry.field(
        description="Whether the operator has listed trusted documents, and whether others are accepted."
    )
    subscription_transports: list[SubscriptionTransport] = strawberry.field(
        description="The protocols that carry subscriptions."
    )

    @classmethod
    def of(cls, info: server_info.ServerInfo) -> Self:
        """Give the description that the gateway was started with."""
        return cls(
            version=info.version,
            introspection=info.introspection,
            stream_retention_seconds=info.stream_retention,
            text_retention_seconds=info.text_retention,
            shared_stream_log=info.shared_stream_log,
            automatic_persisted_queries=info.automatic_persisted_queries,
            trusted_documents=info.trusted_documents,
            subscription_transports=list(info.subscription_transports),
        )
