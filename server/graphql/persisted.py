"""Documents that are named instead of sent.

Trusted documents come from the application's build (the `documentId` of the GraphQL over HTTP working draft, appendix
A). Automatic persisted queries are sent once and from then on named by their hash
(https://www.apollographql.com/docs/apollo-server/performance/apq); both are understood in either form.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

from graphql import GraphQLError

from gateway.errors import TransportErrorCode
from server.graphql.request import GraphQLRequest
from server.graphql.trusted_documents import TrustedDocuments, bare_id

MOST_AUTOMATIC = 1_000
"""Automatic ones kept at once; those used last stay."""


class PersistedDocuments:
    """Finds the text of a request. `automatic` takes what clients name, unless only trusted documents run."""

    def __init__(self, trusted: TrustedDocuments, *, automatic: bool) -> None:
        self.trusted = trusted
        self._only = trusted.trust == "only"
        self._automatic = automatic and not self._only
        self._kept: OrderedDict[str, str] = OrderedDict()

    def text(self, request: GraphQLRequest) -> str:
        """Give the document that a request sends or names. Raises GraphQLError."""
        name = _name(request)
        if request.query is None:
            return self._named(name)
        if self._only and request.query not in self.trusted:
            raise _refusal(
                "This gateway runs trusted documents only, and this is not one of them.", TransportErrorCode.FORBIDDEN
            )
        if name is not None and self._automatic and not self._is_trusted(name) and _hash(request.query) != name:
            raise _refusal("The SHA-256 hash does not match the document's text.", TransportErrorCode.BAD_REQUEST)
        return request.query

    def keep(self, request: GraphQLRequest) -> None:
        """Remember a valid document by the name that it was sent with."""
        name = _name(request)
        if name is None or request.query is None or not self._automatic or self._is_trusted(name):
            return
        self._kept[name] = request.query
        self._kept.move_to_end(name)
        if len(self._kept) > MOST_AUTOMATIC:
            self._kept.popitem(last=False)

    def _named(self, name: str | None) -> str:
        found = self.trusted.find(name or "")
        if found is None and name in self._kept:
            self._kept.move_to_end(name)
            found = self._kept[name]
        if found is not None:
            return found
        if self._automatic or len(self.trusted):
            raise _refusal("PersistedQueryNotFound", TransportErrorCode.PERSISTED_QUERY_NOT_FOUND)
        raise _refusal("PersistedQueryNotSupported", TransportErrorCode.PERSISTED_QUERY_NOT_SUPPORTED)

    def _is_trusted(self, name: str) -> bool:
        return self.trusted.find(name) is not None


def _name(request: GraphQLRequest) -> str | None:
    if request.document_id is not None:
        return bare_id(request.document_id)
    persisted: object = request.extensions.get("persistedQuery")
    if persisted is None:
        return None
    given = _object(persisted)
    name = given.get("sha256Hash")
    if given.get("version") != 1 or not isinstance(name, str):
        raise _refusal(
            "`extensions.persistedQuery` must have the version 1 and a sha256Hash.", TransportErrorCode.BAD_REQUEST
        )
    return bare_id(name)


def _object(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refusal(message: str, code: TransportErrorCode) -> GraphQLError:
    return GraphQLError(message, extensions={"code": code})
