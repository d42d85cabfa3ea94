"""The schema in the schema definition language, for tools that read a file rather than introspect."""

from functools import cache

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from resolvers.root import build_schema


async def schema_document(_: Request) -> PlainTextResponse:
    """Answer with the same text as `ollagraph export-schema`."""
    return PlainTextResponse(await to_thread.run_sync(_text))


@cache
def _text() -> str:
    return f"{build_schema().as_str()}\n"
