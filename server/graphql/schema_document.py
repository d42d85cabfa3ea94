"""The schema in the schema definition language, for tools that read a file rather than introspect."""

from collections.abc import Awaitable, Callable
from functools import cache

import strawberry
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse


def schema_document(schema: strawberry.Schema) -> Callable[[Request], Awaitable[PlainTextResponse]]:
    """Make what answers with the same text as `ollagraph export-schema`, printed when it is first asked for."""

    @cache
    def text() -> str:
        return f"{schema.as_str()}\n"

    async def answer(_: Request) -> PlainTextResponse:
        return PlainTextResponse(await to_thread.run_sync(text))

    return answer
