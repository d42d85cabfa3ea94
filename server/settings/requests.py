"""The settings of requests: how large they may be, and what their documents may hold."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from server.settings.types import AnyCase, FilePath


class RequestSettings(BaseSettings):
    """What one request may be."""

    max_body_size: int = Field(
        default=16_777_216,
        ge=1024,
        description="Maximum size of an HTTP body or WebSocket message from a caller with valid credentials, in bytes.",
    )
    max_anonymous_body_size: int = Field(
        default=16_384, ge=1024, description="The same without valid credentials; such callers can only sign in."
    )
    max_bytes_in_flight: int = Field(
        default=134_217_728,
        ge=65_536,
        description="Bytes of requests being read at the same time, over all callers; more are refused. A caller may "
        "hold as much of it as is left for others, and one body of the largest size at all events.",
    )
    keep_alive_timeout: int = Field(
        default=75, ge=1, description="Seconds that an idle HTTP connection stays open for the next request."
    )
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Client connections that one worker serves at the same time, WebSockets too; others get status "
        "503. Default: as many as it may open files.",
    )
    request_timeout: float = Field(
        default=10,
        gt=0,
        description="Seconds in which the head of an HTTP request, then its body, and a large WebSocket message must "
        "arrive.",
    )
    max_query_length: int = Field(
        default=15_000, ge=1, description="Maximum number of characters in a GraphQL document."
    )
    max_query_tokens: int = Field(default=700, ge=1, description="Maximum number of lexical tokens in a document.")
    max_query_depth: int = Field(
        default=10, ge=1, description="Maximum depth of fields. Introspection has its own limit."
    )
    max_query_aliases: int = Field(
        default=15, ge=0, description="Maximum number of aliases in one operation, with fragments expanded."
    )
    max_query_root_fields: int = Field(default=10, ge=1, description="Maximum number of root fields in one operation.")
    max_query_directives: int = Field(default=50, ge=0, description="Maximum number of directives in one operation.")
    max_query_fragments: int = Field(
        default=50, ge=0, description="Maximum number of fragment definitions in a document."
    )
    max_query_fields: int = Field(
        default=1_000,
        ge=1,
        description="Maximum number of fields and fragments in a document, with fragments expanded.",
    )
    max_query_repeats: int = Field(
        default=10,
        ge=1,
        description="How often one response name may occur in one selection set, with fragments expanded.",
    )
    max_list_length: int = Field(
        default=500,
        ge=1,
        description="Maximum number of values in one list, in variables and documents: messages, tools, scopes.",
    )
    max_variable_values: int = Field(
        default=10_000,
        ge=1,
        description="Maximum number of values in all variables of a request, including those within JSON. An object of "
        "an input type counts as 3, and everything for each root field that uses its variable.",
    )
    max_query_cost: int = Field(
        default=1_000,
        ge=1,
        description="Maximum cost of an operation. An object costs 1, `generate` 100; the schema shows other weights.",
    )
    max_answer_text: int = Field(
        default=16_000_000,
        ge=1,
        description="Maximum characters of generations' text in one response; the rest becomes errors.",
    )
    query_timeout: float = Field(
        default=10,
        gt=0,
        description="Seconds that a query or mutation may take; `generate` has the time-outs of model servers instead.",
    )
    automatic_persisted_queries: bool = Field(
        default=True,
        description="Let clients send the SHA-256 hash of a document in place of a document that they sent before.",
    )
    trusted_documents: Annotated[Literal["off", "allow", "only"], AnyCase] = Field(
        default="off",
        description="Whether clients may (`allow`) or must (`only`) use trusted documents.",
    )
    trusted_documents_path: FilePath | None = Field(
        default=None,
        description="A file of ids and documents in JSON, or Apollo's manifest, or a folder of them; reread on change.",
    )
