"""The composition root: everything is made here, once, and handed to whoever needs it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Route, WebSocketRoute

from auth.passwords import Argon2Cost
from db.engine import Database
from db.migrations import upgrade
from gateway import Gateway
from gateway.catalog import Catalog
from gateway.queue import Line
from gateway.usage import Usage
from resolvers.root import build_schema
from server.backends import running_backends
from server.callers import Callers
from server.credential_watch import CredentialWatch
from server.engine import Engine, running_engine
from server.execution import Executor
from server.health import Readiness, healthz
from server.http import GraphQLOverHttp
from server.http_stream import StreamLimits
from server.limits import DocumentLimits
from server.middleware import RequestContext
from server.origins import PREFLIGHT_HEADERS, OriginCheck, Origins
from server.page import page
from server.persisted import ManifestError, PersistedDocuments, load_manifest
from server.seats import Seats
from server.settings import Settings, SettingsError
from server.setup import ensure_admin, make_identity, prepare_data_dir
from server.websocket import GraphQLOverWebSocket, SocketLimits


def create_app(settings: Settings, *, password_cost: Argon2Cost | None = None) -> FastAPI:
    """The ASGI application. Nothing is opened before its lifespan begins; `app.state` tells how it began.

    `password_cost` is what one sign-in costs; tests make it cheap.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        prepare_data_dir(settings)
        async with running_gateway(settings, password_cost) as (gateway, database, engine):
            app.state.new_password = await ensure_admin(settings, gateway.identity)
            app.state.database = database
            app.state.engine = engine
            open_streams: set[anyio.CancelScope] = set()
            app.state.open_streams = open_streams
            watch = CredentialWatch(gateway.identity, settings.recheck_interval)
            readiness = Readiness(database, gateway.catalog, engine)
            app.router.routes += _routes(settings, gateway, readiness, watch, open_streams)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch.run)
                tasks.start_soon(gateway.identity.run)
                tasks.start_soon(readiness.run)
                yield
                tasks.cancel_scope.cancel()

    app = FastAPI(title="Ollagraph", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    if settings.check_origin:
        app.add_middleware(OriginCheck, origins=Origins(frozenset(settings.cors_origins)))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=settings.cors_credentials,
            allow_methods=["GET", "POST"],
            allow_headers=[*PREFLIGHT_HEADERS, "content-type", "x-request-id"],
            expose_headers=["x-request-id"],
        )
    app.add_middleware(RequestContext)
    return app


@asynccontextmanager
async def running_gateway(
    settings: Settings, password_cost: Argon2Cost | None = None
) -> AsyncGenerator[tuple[Gateway, Database, Engine]]:
    """The gateway at work: tables up to date, backends up. At the end everything is finished and closed."""
    database = Database(settings.database, pool_size=settings.database_pool_size)
    try:
        await upgrade(database)
        async with running_backends(settings) as backends, anyio.create_task_group() as tasks:
            catalog = Catalog(backends, settings.models_max_age)
            lines = {backend.name: Line(settings.max_running, settings.max_queued) for backend in backends}
            async with running_engine(settings, database, catalog, lines, tasks) as engine:
                identity = make_identity(settings, database, password_cost)
                yield Gateway(identity, catalog, engine.generations, Usage(database)), database, engine
            tasks.cancel_scope.cancel()
    finally:
        await database.close()


def persisted_documents(settings: Settings) -> PersistedDocuments:
    """Raises SettingsError where the file of trusted documents cannot be used."""
    file = settings.trusted_documents_file
    try:
        trusted = load_manifest(file) if file is not None and settings.trusted_documents != "off" else {}
    except ManifestError as error:
        raise SettingsError(f"{error} Mend it, or set OLLAGRAPH_TRUSTED_DOCUMENTS to off.") from error
    return PersistedDocuments(trusted, settings.trusted_documents, automatic=settings.automatic_persisted_queries)


def _executor(settings: Settings) -> Executor:
    limits = DocumentLimits(
        length=settings.max_query_length,
        tokens=settings.max_query_tokens,
        depth=settings.max_query_depth,
        aliases=settings.max_query_aliases,
        root_fields=settings.max_query_root_fields,
        directives=settings.max_query_directives,
        fragments=settings.max_query_fragments,
        cost=settings.max_query_cost,
    )
    return Executor(
        build_schema(),
        limits,
        persisted_documents(settings),
        query_timeout=settings.query_timeout,
        introspection=settings.allows_introspection,
        suggestions=settings.gives_suggestions,
        debug=settings.debug,
    )


def _routes(
    settings: Settings,
    gateway: Gateway,
    readiness: Readiness,
    watch: CredentialWatch,
    open_streams: set[anyio.CancelScope],
) -> list[Route | WebSocketRoute | Mount]:
    executor = _executor(settings)
    callers = Callers(gateway)
    http = GraphQLOverHttp(
        executor,
        callers,
        settings.max_body_size,
        settings.request_timeout,
        StreamLimits(settings.send_timeout, settings.heartbeat_interval),
        watch,
        Seats(settings.max_streams_per_user),
        open_streams,
    )
    socket_limits = SocketLimits(
        send_timeout=settings.send_timeout,
        idle_timeout=settings.socket_idle_timeout,
        operations=settings.max_operations_per_socket,
    )
    websocket = GraphQLOverWebSocket(executor, callers, socket_limits, watch, Seats(settings.max_sockets_per_user))
    routes: list[Route | WebSocketRoute | Mount] = [
        Route("/healthz", healthz),
        Route("/readyz", readiness.check),
        Route("/graphql", http),
        WebSocketRoute("/graphql", websocket),
    ]
    if settings.serves_page:
        routes.append(Mount("/", page()))
    return routes
