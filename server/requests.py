"""One GraphQL request, however it came: the checks that are the same for every transport."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast


class BadRequest(Exception):
    """What came is not a GraphQL request. The message says why."""


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """The parameters of a request (GraphQL over HTTP, section 5.1). Without a `query` it names a persisted document."""

    query: str | None
    operation_name: str | None = None
    variables: dict[str, Any] = field(default_factory=dict[str, Any])
    extensions: dict[str, Any] = field(default_factory=dict[str, Any])
    document_id: str | None = None


def parse_request(body: object) -> GraphQLRequest:
    """Read the parameters out of a decoded JSON value. Raises BadRequest."""
    if not isinstance(body, Mapping):
        raise BadRequest("The request must be a JSON object with a string `query`. Batches are not supported.")
    parameters = cast("Mapping[str, object]", body)
    query, document_id = parameters.get("query"), parameters.get("documentId")
    if document_id is not None and (not isinstance(document_id, str) or not document_id):
        raise BadRequest("`documentId` must be a string that is not empty, or null.")
    extensions = _object(parameters, "extensions")
    if query is None and (document_id or "persistedQuery" in extensions):
        query = None
    elif not isinstance(query, str) or not query.strip():
        raise BadRequest("The request must have a `query`, a string that is not empty.")
    operation_name = parameters.get("operationName")
    if operation_name is not None and not isinstance(operation_name, str):
        raise BadRequest("`operationName` must be a string or null.")
    return GraphQLRequest(
        query=query,
        operation_name=operation_name or None,
        variables=_object(parameters, "variables"),
        extensions=extensions,
        document_id=document_id,
    )


def _object(parameters: Mapping[str, object], name: str) -> dict[str, Any]:
    value = parameters.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"`{name}` must be an object or null.")
    return cast("dict[str, Any]", value)
