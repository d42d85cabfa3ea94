"""The schema in the schema definition language, for tools that read a file rather than introspect."""

from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus

import strawberry
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from auth.errors import AuthenticationError
from gateway.errors import RETRY_AFTER_SECONDS
from gateway.server_info import IntrospectionAccess
from server.graphql import introspection_refusal
from server.transports.callers import Callers


def schema_document(
    schema: strawberry.Schema, access: IntrospectionAccess, callers: Callers
) -> Callable[[Request], Awaitable[PlainTextResponse]]:
    """Make what answers whoever may introspect with the text of `ollagraph export-schema`, and tells others why not.

    The text is printed when it is first asked for.
    """

    @cache
    def text() -> str:
        return f"{schema.as_str()}\n"

    async def answer(request: Request) -> PlainTextResponse:
        context = await callers.context_of(request)
        refusal = introspection_refusal(access, context.nobody)
        if refusal is None:
            return PlainTextResponse(await to_thread.run_sync(text))
        if access is IntrospectionAccess.NOBODY:
            return _refused(refusal, HTTPStatus.FORBIDDEN)
        if isinstance(context.nobody, AuthenticationError):
            return _refused(refusal, HTTPStatus.UNAUTHORIZED, **{"WWW-Authenticate": "Bearer"})
        return _refused(refusal, HTTPStatus.SERVICE_UNAVAILABLE, **{"Retry-After": str(RETRY_AFTER_SECONDS)})

    return answer


def _refused(sentence: str, status: HTTPStatus, **headers: str) -> PlainTextResponse:
    return PlainTextResponse(f"{sentence}\n", status, headers)
