"""Documents that are named instead of sent.

Trusted documents come from a file that the application's build made, under ids of its choosing (the `documentId` of the
GraphQL over HTTP working draft, appendix A). Automatic persisted queries are sent once and from then on named by their
hash (https://www.apollographql.com/docs/apollo-server/performance/apq); both are understood in either form.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import orjson
from graphql import GraphQLError

from gateway.errors import TransportErrorCode
from server.graphql.request import GraphQLRequest

MOST_AUTOMATIC = 1_000
"""Automatic ones kept at once; those used last stay."""

Trust = Literal["off", "allow", "only"]


class ManifestError(Exception):
    """The file of trusted documents cannot be used. The message says why."""


class PersistedDocuments:
    """Finds the text of a request. `only` runs nothing but trusted documents; `automatic` takes what clients name."""

    def __init__(self, trusted: Mapping[str, str], trust: Trust, *, automatic: bool) -> None:
        self._trusted: Mapping[str, str] = trusted if trust != "off" else {}
        self._texts = frozenset(self._trusted.values())
        self._only = trust == "only"
        self._automatic = automatic and not self._only
        self._kept: OrderedDict[str, str] = OrderedDict()

    def text(self, request: GraphQLRequest) -> str:
        """The document that a request sends or names. Raises GraphQLError."""
        name = _name(request)
        if request.query is None:
            return self._named(name)
        if self._only and request.query not in self._texts:
            raise _refusal(
                "Only trusted documents are run here, and this is none of them.", TransportErrorCode.FORBIDDEN
            )
        if name is not None and self._automatic and name not in self._trusted and _hash(request.query) != name:
            raise _refusal(
                "The SHA-256 that names the document is not that of its text.", TransportErrorCode.BAD_REQUEST
            )
        return request.query

    def keep(self, request: GraphQLRequest) -> None:
        """Remember a valid document by the name that it was sent with."""
        name = _name(request)
        if name is None or request.query is None or not self._automatic or name in self._trusted:
            return
        self._kept[name] = request.query
        self._kept.move_to_end(name)
        if len(self._kept) > MOST_AUTOMATIC:
            self._kept.popitem(last=False)

    def _named(self, name: str | None) -> str:
        found = self._trusted.get(name or "")
        if found is None and name in self._kept:
            self._kept.move_to_end(name)
            found = self._kept[name]
        if found is not None:
            return found
        if self._automatic or self._trusted:
            raise _refusal("PersistedQueryNotFound", TransportErrorCode.PERSISTED_QUERY_NOT_FOUND)
        raise _refusal("PersistedQueryNotSupported", TransportErrorCode.PERSISTED_QUERY_NOT_SUPPORTED)


def load_manifest(path: Path) -> dict[str, str]:
    """Read a file of trusted documents: a JSON object of ids and texts, or Apollo's persisted query manifest.

    Raises ManifestError.
    """
    try:
        manifest: object = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}).") from error
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"{path} is not valid JSON: {error}.") from error
    entries = _object(manifest)
    if isinstance(entries.get("operations"), list):
        listed = [_object(entry) for entry in cast("list[object]", entries["operations"])]
        entries = {str(entry.get("id")): entry.get("body") for entry in listed}
    texts = {_bare(id): text for id, text in entries.items() if isinstance(text, str) and text.strip()}
    if not texts or len(texts) < len(entries):
        raise ManifestError(f"{path} must be a JSON object of ids and documents, or Apollo's persisted query manifest.")
    return texts


def _name(request: GraphQLRequest) -> str | None:
    if request.document_id is not None:
        return _bare(request.document_id)
    persisted: object = request.extensions.get("persistedQuery")
    if persisted is None:
        return None
    given = _object(persisted)
    name = given.get("sha256Hash")
    if given.get("version") != 1 or not isinstance(name, str):
        raise _refusal(
            "`extensions.persistedQuery` must have the version 1 and a sha256Hash.", TransportErrorCode.BAD_REQUEST
        )
    return _bare(name)


def _object(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _bare(id: str) -> str:
    return id.removeprefix("sha256:")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refusal(message: str, code: TransportErrorCode) -> GraphQLError:
    return GraphQLError(message, extensions={"code": code})
