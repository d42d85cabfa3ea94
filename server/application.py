"""The ASGI application, and what stands around every request."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import anyio
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.addresses import HostPatterns, parse_network
from db.engine import Database
from gateway.limits import Limits
from gateway.plugins import Plugins
from server.generation_service import GenerationService
from server.observers import Observers
from server.settings import Settings
from server.transports import (
    GRAPHQL_PATHS,
    PREFLIGHT_HEADERS,
    BodyLimits,
    ConnectionLimiter,
    CrossOriginAnswers,
    GraphQLOverHttp,
    GraphQLOverWebSocket,
    HostCheck,
    OriginCheck,
    Origins,
    PathPrefix,
    RequestContext,
    TrustedProxies,
)


@dataclass(frozen=True, slots=True)
class Running:
    """What the application consists of within its lifespan. `new_password` is the first administrator's, made now."""

    database: Database
    service: GenerationService
    new_password: str | None
    plugins: Plugins
    limits: Limits
    limiters: dict[str, ConnectionLimiter] = field(default_factory=dict[str, ConnectionLimiter])
    open_streams: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])


@dataclass(frozen=True, slots=True)
class GraphQLEndpoint:
    """What serves GraphQL."""

    http: GraphQLOverHttp
    websocket: GraphQLOverWebSocket


class Application(FastAPI):
    """The ASGI application, with what the server process needs to know of it.

    `layers` stand around every request, the innermost first. GraphQL is served within them and beside FastAPI, whose
    own layers and routing took a tenth of a small query's time, and some kB of every open WebSocket.
    """

    def __init__(
        self,
        lifespan: Callable[["Application"], AbstractAsyncContextManager[None]],
        layers: list[Middleware],
        body_limits: BodyLimits,
    ) -> None:
        super().__init__(title="Ollagraph", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
        self.body_limits = body_limits
        self.graphql: GraphQLEndpoint | None = None
        self._running: Running | None = None
        self._outermost: ASGIApp = self._innermost
        for layer, args, kwargs in layers:
            self._outermost = layer(self._outermost, *args, **kwargs)

    @property
    def running(self) -> Running:
        """Its parts. Raises RuntimeError before its lifespan has begun."""
        if self._running is None:
            raise RuntimeError("the application has not begun")
        return self._running

    def begin(self, running: Running) -> None:
        """Tell the parts; called by the lifespan."""
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        await self._outermost(scope, receive, send)

    def _innermost(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self.graphql is None or scope["type"] not in {"http", "websocket"} or scope["path"] not in GRAPHQL_PATHS:
            return super().__call__(scope, receive, send)
        if scope["type"] == "http":
            return self.graphql.http(scope, receive, send)
        return self.graphql.websocket(scope, receive, send)


def layers(settings: Settings, observers: Observers) -> list[Middleware]:
    """Give what stands around every request, the innermost first."""
    found = list[Middleware]()
    if settings.check_origin:
        found.append(Middleware(OriginCheck, origins=Origins(settings.cors_origins)))
    if settings.cors_origins:
        found.append(
            Middleware(
                CrossOriginAnswers,
                allow_origins=settings.cors_origins,
                allow_credentials=settings.cors_credentials,
                allow_methods=["DELETE", "GET", "HEAD", "POST"],
                allow_headers=[*PREFLIGHT_HEADERS, "cache-control", "content-type", "last-event-id", "x-request-id"],
                expose_headers=[
                    "location",
                    "ratelimit",
                    "ratelimit-policy",
                    "repr-digest",
                    "retry-after",
                    "sunset",
                    "x-request-id",
                ],
            )
        )
    found.append(Middleware(HostCheck, allowed=HostPatterns(settings.answers_to)))
    if settings.trusted_proxies:
        networks = [parse_network(text) for text in settings.trusted_proxies]
        found.append(Middleware(TrustedProxies, networks=networks))
    found.append(Middleware(RequestContext, observer=observers.requests))
    if settings.path_prefix:
        found.append(Middleware(PathPrefix, prefix=settings.path_prefix))
    return found
