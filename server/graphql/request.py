"""One GraphQL request, however it came: the checks that are the same for every transport."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

MOST_PARTS = 250_000
"""Commas and brackets in one text of JSON, most of which part values. Reading more would hold up everybody else."""

EXACT_SIZE = 65_536
"""Bytes of JSON up to which numbers that no 64 bits hold are read as they were sent, to be told from others."""

LONGEST_INTEGER = 25


class BadRequest(Exception):
    """What came is not a GraphQL request. The message says why."""


class NotRead(BadRequest):
    """What came is JSON, and is not read: its own failure, and not that of what else its connection carries."""


class TooMuchJson(NotRead):
    """What came is more JSON than is read."""


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """The parameters of a request (GraphQL over HTTP, section 5.1). Without a `query` it names a persisted document."""

    query: str | None
    operation_name: str | None = None
    variables: dict[str, Any] = field(default_factory=dict[str, Any])
    extensions: dict[str, Any] = field(default_factory=dict[str, Any])
    document_id: str | None = None


def read_json(text: bytes | str) -> Any:
    """Decode JSON. Raises BadRequest.

    orjson makes another number of an integer beyond 64 bits, and refuses 1e400. Both are legal, and it is for the field
    that they stand in to refuse them: such JSON is read once more, by Python's slower reader.
    """
    if len(text) > MOST_PARTS and _count_parts(text) > MOST_PARTS:
        raise TooMuchJson(f"The request's JSON may have at most {MOST_PARTS:,} commas and brackets.")
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "infinity" in str(error):
            if len(text) <= EXACT_SIZE:
                return _read_slowly(text)
            raise TooMuchJson("The request has a number that is too large.") from error
        if "depth limit" in str(error):
            raise TooMuchJson("The request's JSON is nested too deeply.") from error
        if " surrogate in string" in str(error):
            raise NotRead(
                f"The request's JSON has half of a character: {error}. Cut texts between characters."
            ) from error
        raise BadRequest(f"The request is not valid JSON: {error}.") from error
    if len(text) <= EXACT_SIZE and any(_may_be_rounded(part) for part in _leaves(value)):
        return _read_slowly(text)
    return value


def _count_parts(text: bytes | str) -> int:
    if isinstance(text, str):
        return text.count(",") + text.count("[") + text.count("{")
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _read_slowly(text: bytes | str) -> Any:
    try:
        return json.loads(text, parse_int=lambda digits: int(digits[:LONGEST_INTEGER]), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The request is not valid JSON.") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _may_be_rounded(value: object) -> bool:
    return isinstance(value, float) and abs(value) >= 2**63 and value.is_integer()


def _leaves(value: object) -> Iterator[object]:
    """Give everything in a JSON value that is neither an object nor a list."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += cast("dict[str, object]", part).values()
        elif isinstance(part, list):
            waiting += cast("list[object]", part)
        else:
            yield part


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
