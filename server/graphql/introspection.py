"""Who may introspect the schema, what the others are told, and where it is done."""

import re
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from graphql import BREAK, DocumentNode, FieldNode, GraphQLError, Visitor, VisitorAction, visit

from auth.errors import AuthenticationError, MissingCredentials
from gateway.errors import GatewayError, TransportErrorCode
from gateway.server_info import IntrospectionAccess

OFF = (
    "Introspection is off here, and so is /schema.graphql. OLLAGRAPH_INTROSPECTION=on allows both to everybody, and "
    "=signed-in to callers with valid credentials."
)
FOR_CALLERS = (
    "Only callers with valid credentials may introspect here or read /schema.graphql (OLLAGRAPH_INTROSPECTION is "
    "signed-in). Sign in, or send an API key as 'Authorization: Bearer <key>'."
)

_LOOKS_LIKE_IT = re.compile(r"__(?:schema|type)\b")

_Result = TypeVar("_Result")

Nobody = AuthenticationError | GatewayError | None
"""Why the caller is nobody known; None for those who are."""


class _Finder(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def enter_field(self, node: FieldNode, *_: object) -> VisitorAction:
        """Stop at the first field of introspection."""
        if node.name.value in {"__schema", "__type"}:
            self.found = True
            return BREAK
        return None


def introspects(text: str, document: DocumentNode) -> bool:
    """Tell whether a document, whose text this is, selects the schema. `__typename` alone does not."""
    if not _LOOKS_LIKE_IT.search(text):
        return False
    finder = _Finder()
    visit(document, finder)
    return finder.found


def introspection_refusal(access: IntrospectionAccess, nobody: Nobody) -> str | None:
    """Say why a caller may not introspect, in a sentence for a person; None for one who may."""
    if access is IntrospectionAccess.NOBODY:
        return OFF
    if access is IntrospectionAccess.EVERYBODY or nobody is None:
        return None
    return FOR_CALLERS if isinstance(nobody, MissingCredentials) else str(nobody)


def introspection_error(message: str, access: IntrospectionAccess, nobody: Nobody) -> GraphQLError:
    """Make the error of an operation that may not introspect."""
    if access is IntrospectionAccess.NOBODY:
        return GraphQLError(message, extensions={"code": TransportErrorCode.FORBIDDEN})
    return GraphQLError(message, original_error=nobody)


class IntrospectionLane:
    """Resolves what introspects beside the event loop, one operation at a time.

    The whole schema takes graphql-core some 80 ms without a pause. Other fields of such a query are coroutines that
    nothing has begun yet.
    """

    def __init__(self) -> None:
        self._one = anyio.CapacityLimiter(1)

    async def run(self, execute: Callable[[], _Result]) -> _Result:
        """Call this in a thread."""
        return await anyio.to_thread.run_sync(execute, limiter=self._one)
