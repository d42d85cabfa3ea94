"""The HTTP addresses of plugins, under `/plugins/NAME/`."""

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.plugins import PluginFailed, PluginRequest, PluginResponse, PluginRoute, Plugins, PluginThread
from server.settings import SettingsError
from server.transports import Callers

logger = logging.getLogger(__name__)

PREFIX_OF_ALL = "/plugins"
MAX_BODY = 1_000_000
"""Bytes that one request may bring."""

BODY_SECONDS = 10.0


def plugin_routes(plugins: Plugins, callers: Callers) -> list[Route]:
    """Give the addresses of all plugins. Each is answered in the thread of its plugin. Raises SettingsError."""
    return [
        Route(_path(thread, route), _handler(thread, route, callers), methods=list(route.methods))
        for thread in plugins.threads
        for route in _routes(thread)
    ]


def _routes(thread: PluginThread) -> Sequence[PluginRoute]:
    try:
        return list(thread.plugin.routes())
    except (Exception, SystemExit) as error:
        raise SettingsError(
            f"The plugin {thread.name!r} does not tell its routes: {type(error).__name__}: {error}"
        ) from error


def _path(thread: PluginThread, route: PluginRoute) -> str:
    return f"{PREFIX_OF_ALL}/{thread.name}/{route.path.lstrip('/')}"


def _handler(thread: PluginThread, route: PluginRoute, callers: Callers) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        context = await callers.context_of(request)
        if context.principal is None and not route.public:
            return _problem(401, "Sign in, and send the access token or an API key.", {"WWW-Authenticate": "Bearer"})
        body = await _body(request)
        if body is None:
            return _problem(413, f"The body may have at most {MAX_BODY:,} bytes.")
        asked = PluginRequest(
            method=request.method,
            path_params={name: str(value) for name, value in request.path_params.items()},
            query=dict(request.query_params),
            headers={name: value for name, value in request.headers.items() if name not in _SECRET},
            body=body,
            caller=context.principal,
        )
        try:
            answer = await thread.run("routes", route.handle, asked)
        except PluginFailed:
            return _problem(500, "The plugin failed. The gateway's log says why.")
        if not isinstance(answer, PluginResponse):
            logger.error("plugin %s: the route %s gave no PluginResponse", thread.name, route.path)
            return _problem(500, "The plugin failed. The gateway's log says why.")
        return Response(answer.body, answer.status, {"Cache-Control": "no-store", **(answer.headers or {})})

    return handle


_SECRET = frozenset({"authorization", "cookie", "x-api-key"})
"""Heads that plugins do not see: whom they are about is `caller`."""


async def _body(request: Request) -> bytes | None:
    """Read the body; None where it is too long, or too slow."""
    body = bytearray()
    with anyio.move_on_after(BODY_SECONDS):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return None
        return bytes(body)
    return None


def _problem(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message}}, status, {"Cache-Control": "no-store", **(headers or {})})
