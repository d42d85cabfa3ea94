"""The messages and close codes of graphql-transport-ws, checked strictly.

The protocol: https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

import orjson

from server.graphql import BadRequest, GraphQLRequest, NotRead, parse_request, read_json

SUBPROTOCOL = "graphql-transport-ws"

_ID = r'"id"\s*:\s*"([^"\\]{1,256})"'
_TYPE = r'"type"\s*:\s*"\w+"'
_FIRST = re.compile(rf"\s*\{{\s*(?:{_TYPE}\s*,\s*)?{_ID}")
_LAST = re.compile(rf"{_ID}\s*(?:,\s*{_TYPE}\s*)?\}}\s*\Z")
_LAST_AT = 1_000
"""Characters of the end of a message in which its id may stand."""


class CloseCode(IntEnum):
    """Why a connection ends. Clients decide by the code whether they come back."""

    NORMAL = 1000
    GOING_AWAY = 1001
    TOO_LARGE = 1009
    RESTART = 1012
    TRY_LATER = 1013
    BAD_REQUEST = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    SUBPROTOCOL_NOT_ACCEPTABLE = 4406
    INIT_TIMEOUT = 4408
    SUBSCRIBER_EXISTS = 4409
    TOO_MANY_INIT = 4429


class InvalidMessage(Exception):
    """The client broke the protocol: the connection ends with 4400."""


@dataclass(frozen=True, slots=True)
class ConnectionInit:
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ping:
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Pong:
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    id: str
    request: GraphQLRequest


@dataclass(frozen=True, slots=True)
class Complete:
    id: str


ClientMessage = ConnectionInit | Ping | Pong | Subscribe | Complete


def parse_message(text: str | None) -> ClientMessage:
    """Read one message of the client's; None stands for a binary frame. Raises InvalidMessage or NotRead."""
    if text is None:
        raise InvalidMessage("The message must be a text frame")
    try:
        decoded = read_json(text)
    except NotRead:
        raise
    except BadRequest as error:
        raise InvalidMessage(str(error)) from error
    if not isinstance(decoded, Mapping):
        raise InvalidMessage("The message must be a JSON object")
    message = cast("Mapping[str, object]", decoded)
    match message.get("type"):
        case "connection_init":
            return ConnectionInit(_payload(message))
        case "ping":
            return Ping(_payload(message))
        case "pong":
            return Pong(_payload(message))
        case "subscribe":
            return Subscribe(_id(message), _request(message))
        case "complete":
            return Complete(_id(message))
        case _:
            raise InvalidMessage("The message has an unknown type")


def server_message(kind: str, id: str | None = None, payload: object = None) -> bytes:
    """Give a message of the server's, as the text of a frame in UTF-8."""
    message: dict[str, object] = {"type": kind}
    if id is not None:
        message["id"] = id
    if payload is not None:
        message["payload"] = payload
    return orjson.dumps(message)


def pong(payload: dict[str, Any] | None) -> bytes:
    """Answer a ping with its payload; where that cannot be written, without one, as the protocol allows."""
    with suppress(orjson.JSONEncodeError):
        return server_message("pong", payload=payload)
    with suppress(ValueError, RecursionError):  # orjson writes no integer of 20 digits, and no 300 levels
        return json.dumps({"type": "pong", "payload": payload}, allow_nan=False).encode()
    return server_message("pong")


def byte_length(text: str, most: int) -> int:
    """Count the bytes of a text in UTF-8; its characters where that is more than `most` already, or few enough."""
    characters = len(text)
    if characters > most or characters * 4 <= most or text.isascii():
        return characters
    return len(text.encode())


def find_id(text: str) -> str | None:
    """Give the id of a message that is too large to be read, where it stands first or last, as clients write it."""
    found = _FIRST.match(text) or _LAST.search(text, max(0, len(text) - _LAST_AT))
    return found[1] if found else None


def _id(message: Mapping[str, object]) -> str:
    value = message.get("id")
    if not isinstance(value, str) or not value:
        raise InvalidMessage("The message must have an id, a string that is not empty")
    return value


def _payload(message: Mapping[str, object]) -> dict[str, Any] | None:
    payload = message.get("payload")
    if payload is not None and not isinstance(payload, dict):
        raise InvalidMessage("The payload must be an object or null")
    return cast("dict[str, Any] | None", payload)


def _request(message: Mapping[str, object]) -> GraphQLRequest:
    try:
        return parse_request(message.get("payload"))
    except BadRequest as error:
        raise InvalidMessage(str(error)) from error
