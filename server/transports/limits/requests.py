"""How a response refuses an address that sends too much: the status 429 (RFC 6585), and when to come back.

The headers are those of `limit_headers`, in which this limit is the only one.
"""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from gateway.request_limits import TooManyRequests


def too_many_headers(error: TooManyRequests) -> dict[str, str]:
    """Give the headers that tell of a limit that is used up."""
    return {
        "RateLimit-Policy": f'"{error.limit}";q={error.amount};qu="requests";w={error.window}',
        "RateLimit": f'"{error.limit}";r=0;t={error.seconds}',
        "Retry-After": str(error.seconds),
    }


async def too_many_requests(request: Request, error: Exception) -> PlainTextResponse:
    """Answer a request to an endpoint that is no GraphQL; the handler of TooManyRequests for the application."""
    assert isinstance(error, TooManyRequests)  # noqa: S101 - the application calls it for nothing else
    headers = {**too_many_headers(error), "Cache-Control": "no-store"}
    return PlainTextResponse(f"{error.message}\n", HTTPStatus.TOO_MANY_REQUESTS, headers)
