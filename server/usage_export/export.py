"""Usage reports as files over HTTP: `GET /usage.csv` and `GET /usage.jsonl`."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from auth.errors import AuthenticationError
from auth.scopes import Scope
from gateway.errors import RETRY_AFTER_SECONDS, Forbidden, GatewayError, InvalidInput
from server.transports import Callers
from server.usage_export.lines import MEDIA_TYPES, Form, lines
from server.usage_export.request import read_request


def usage_exports(callers: Callers) -> list[Route]:
    """Make the routes that answer whoever has USAGE_READ; others' usage needs USAGE_READ_ALL."""
    return [Route(f"/usage.{form}", _export(callers, form)) for form in Form]


def _export(callers: Callers, form: Form) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        context = await callers.context_of(request)
        try:
            caller = context.require(Scope.USAGE_READ)
            given = {name: request.query_params.getlist(name) for name in request.query_params}
            portions = lines(context.gateway.usage, caller, read_request(given), form)
            first = await anext(portions)
        except AuthenticationError as error:
            return _refused(str(error), HTTPStatus.UNAUTHORIZED, **{"WWW-Authenticate": "Bearer"})
        except Forbidden as error:
            return _refused(error.message, HTTPStatus.FORBIDDEN)
        except InvalidInput as error:
            return _refused(error.message, HTTPStatus.BAD_REQUEST)
        except GatewayError as error:
            return _refused(error.message, HTTPStatus.SERVICE_UNAVAILABLE, **{"Retry-After": str(RETRY_AFTER_SECONDS)})
        except ValueError as error:
            return _refused(str(error), HTTPStatus.BAD_REQUEST)
        headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="usage.{form}"'}
        return StreamingResponse(_from(first, portions), headers=headers, media_type=MEDIA_TYPES[form])

    return answer


async def _from(first: bytes, portions: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Give what was read already, and then the rest."""
    async with aclosing(portions):
        yield first  # noqa: ASYNC119 - closed by who reads it
        async for portion in portions:
            yield portion  # noqa: ASYNC119 - closed by who reads it


def _refused(sentence: str, status: HTTPStatus, **headers: str) -> PlainTextResponse:
    return PlainTextResponse(f"{sentence}\n", status, headers)
