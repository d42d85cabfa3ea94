"""The audit log as JSON lines: `GET /audit.jsonl`, and the same on the command line."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from http import HTTPStatus

import orjson
from pydantic import AwareDatetime, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from auth.errors import AuthenticationError
from auth.scopes import Scope
from gateway.audit import AuditChoice, AuditLog, told
from gateway.errors import RETRY_AFTER_SECONDS, Forbidden, GatewayError
from server.transports import Callers

JSON_LINES = "application/jsonl"

_MOMENT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def read_moment(text: str, name: str) -> datetime:
    """Read a date and time with a zone (RFC 3339). Raises ValueError with a sentence."""
    try:
        return _MOMENT.validate_python(text)
    except ValidationError:
        raise ValueError(
            f"{name} must be a date and time with a time zone, such as 2026-01-31T12:00:00Z, not {text[:40]!r}."
        ) from None


async def exported(audit: AuditLog, wanted: AuditChoice) -> AsyncGenerator[bytes, None]:
    """Give the events, oldest first, as JSON lines in portions."""
    async with aclosing(audit.export(wanted)) as portions:
        async for rows in portions:
            yield b"".join(orjson.dumps(told(row)) + b"\n" for row in rows)  # noqa: ASYNC119 - closed by who reads it


def audit_export(callers: Callers) -> Callable[[Request], Awaitable[Response]]:
    """Make what answers whoever has AUDIT_READ with all events, or those of `since` and before `until`."""

    async def answer(request: Request) -> Response:
        context = await callers.context_of(request)
        try:
            context.require(Scope.AUDIT_READ)
        except AuthenticationError as error:
            return _refused(str(error), HTTPStatus.UNAUTHORIZED, **{"WWW-Authenticate": "Bearer"})
        except Forbidden as error:
            return _refused(error.message, HTTPStatus.FORBIDDEN)
        except GatewayError as error:
            return _refused(error.message, HTTPStatus.SERVICE_UNAVAILABLE, **{"Retry-After": str(RETRY_AFTER_SECONDS)})
        try:
            limits = {
                name: read_moment(value, name)
                for name in ("since", "until")
                if (value := request.query_params.get(name))
            }
        except ValueError as error:
            return _refused(str(error), HTTPStatus.BAD_REQUEST)
        body = exported(
            context.gateway.identity.audit, AuditChoice(since=limits.get("since"), until=limits.get("until"))
        )
        return StreamingResponse(body, headers={"Cache-Control": "no-store"}, media_type=JSON_LINES)

    return answer


def _refused(sentence: str, status: HTTPStatus, **headers: str) -> PlainTextResponse:
    return PlainTextResponse(f"{sentence}\n", status, headers)
