"""Finding the credentials in a request, the same way for HTTP and for WebSocket. Only their form is checked here."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from auth.api_keys import KEY_PREFIX
from auth.errors import MalformedCredentials

MAX_LENGTH = 4096
"""Longest credential that is looked at, in characters: ours have 40 and a few hundred."""

_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""What may stand after "Bearer" (RFC 6750 §2.1)."""


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A session token (a JWT), not yet verified."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiKeySecret:
    """An API key, not yet looked up."""

    secret: str = field(repr=False)


Credentials = BearerToken | ApiKeySecret


def read_credentials(headers: Mapping[str, str]) -> Credentials | None:
    """Read the credentials of an HTTP request; None when there are none.

    `Authorization: Bearer <session token or API key>` or `X-API-Key: <API key>`, names in any case. A mapping
    whose `items()` repeats a name (as Starlette's does) is read whole. Raises MalformedCredentials.
    """
    return _only_one(_read(name.lower(), value) for name, value in headers.items())


def read_connection_params(payload: object) -> Credentials | None:
    """Read the credentials in the payload of `connection_init` (graphql-transport-ws); None when there are none.

    `{"Authorization": "Bearer <session token or API key>"}` or `{"apiKey": "<API key>"}` or
    `{"X-API-Key": "<API key>"}`, names in any case. A null counts as not given: clients send it when signed out.
    Raises MalformedCredentials.
    """
    if payload is None:
        return None
    if not isinstance(payload, Mapping):
        raise MalformedCredentials("The payload of connection_init must be an object.")
    entries = cast("Mapping[object, object]", payload).items()
    return _only_one(_read(str(name).lower(), value) for name, value in entries if value is not None)


def _read(name: str, value: object) -> Credentials | None:
    """Read one entry; None when it is about something else."""
    if name == "authorization":
        return _authorization(_text("Authorization", value))
    if name in {"x-api-key", "apikey"}:
        return _api_key(_text("API key", value))
    return None


def _only_one(found: Iterable[Credentials | None]) -> Credentials | None:
    """Give the one credential there is. The same one twice is fine; two different ones are not: which would count?"""
    different = {credentials for credentials in found if credentials is not None}
    if len(different) > 1:
        raise MalformedCredentials("Two different credentials were sent. Send either a session token or one API key.")
    return different.pop() if different else None


def _text(what: str, value: object) -> str:
    """Refuse what cannot be a credential, before it costs anything."""
    if not isinstance(value, str):
        raise MalformedCredentials(f"The {what} must be a string.")
    text = value.strip(" \t")
    if not text:
        raise MalformedCredentials(f"The {what} is empty.")
    if len(text) > MAX_LENGTH:
        raise MalformedCredentials(f"The {what} is longer than {MAX_LENGTH} characters.")
    return text


def _authorization(value: str) -> Credentials:
    """Read the value of an Authorization header. The scheme is case-insensitive (RFC 9110 §11.1)."""
    scheme, _, credential = value.partition(" ")
    credential = credential.strip(" ")
    if scheme.lower() != "bearer":
        raise MalformedCredentials(
            "The Authorization scheme must be Bearer. Send 'Authorization: Bearer <token or API key>'."
        )
    if not credential:
        raise MalformedCredentials("The bearer token is missing. Send 'Authorization: Bearer <token or API key>'.")
    if not _B64TOKEN.fullmatch(credential):
        raise MalformedCredentials("The bearer token contains invalid characters (RFC 6750).")
    return ApiKeySecret(credential) if credential.startswith(KEY_PREFIX) else BearerToken(credential)


def _api_key(value: str) -> Credentials:
    """Read a value that can only be an API key."""
    if not value.startswith(KEY_PREFIX):
        raise MalformedCredentials(f"An API key begins with '{KEY_PREFIX}'. Session tokens go into Authorization.")
    return ApiKeySecret(value)
