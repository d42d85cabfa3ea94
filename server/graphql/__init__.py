"""One GraphQL operation: read, measured, validated and executed, without a word of HTTP."""

from server.graphql.document_limits import DocumentLimits
from server.graphql.error_format import raised
from server.graphql.executor import Executor, NotForNobody, Operation, RequestError, Response
from server.graphql.introspection import introspection_refusal
from server.graphql.persisted import PersistedDocuments
from server.graphql.request import BadRequest, GraphQLRequest, NotRead, TooMuchJson, parse_request, read_json
from server.graphql.trusted_documents import ManifestError, TrustedDocuments
from server.graphql.variables import VariableLimits

__all__ = [
    "BadRequest",
    "DocumentLimits",
    "Executor",
    "GraphQLRequest",
    "ManifestError",
    "NotForNobody",
    "NotRead",
    "Operation",
    "PersistedDocuments",
    "RequestError",
    "Response",
    "TooMuchJson",
    "TrustedDocuments",
    "VariableLimits",
    "introspection_refusal",
    "parse_request",
    "raised",
    "read_json",
]
