"""The composition root: everything is made here, once, and handed to whoever needs it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
import strawberry
from fastapi import FastAPI
from starlette.routing import Mount, Route, WebSocketRoute

from auth.addresses import HostPatterns, parse_network
from backends.protocol import Backend
from db.engine import Database
from db.migrations import upgrade
from gateway import Gateway
from gateway.blobs import BlobLimits, Blobs
from gateway.catalog import BackendQueue, Catalog
from gateway.limits import LimitAdministration, Limits, Prices
from gateway.tasks import spawn_service
from gateway.usage import Usage, UsageFeed, UsageUpkeep
from resolvers.root import build_schema
from server.audit_export import audit_export
from server.backends import running_backends
from server.first_start import ensure_admin, make_identity
from server.generation_service import GenerationNeeds, GenerationService, running_generation_service
from server.graphql import (
    DocumentLimits,
    Executor,
    ManifestError,
    PersistedDocuments,
    TrustedDocuments,
    VariableLimits,
)
from server.health import Readiness, healthz
from server.jwks import KEY_SET_PATH, key_set
from server.metrics import Metrics, MetricsService, Parts
from server.observers import UNOBSERVED, Observers, make_observers
from server.page import page
from server.server_info import introspection_access, server_info
from server.settings import Settings, SettingsError, prepare_data_dir
from server.sign_in import RedirectsOverHttp, make_providers
from server.signing_keys import SigningKeys
from server.transports import (
    BLOBS_PATH,
    GRAPHQL_PATHS,
    PREFLIGHT_HEADERS,
    BlobsOverHttp,
    BodyLimits,
    BytesInFlight,
    Callers,
    ConnectionLimiter,
    CredentialWatch,
    CrossOriginAnswers,
    GraphQLOverHttp,
    GraphQLOverWebSocket,
    HostCheck,
    OriginCheck,
    Origins,
    RequestContext,
    SessionCookies,
    SocketLimits,
    StreamLimits,
    TrustedProxies,
    schema_document,
)
from server.usage_export import usage_exports
from server.workers import WorkerLink, WorkerSlots


@dataclass(frozen=True, slots=True)
class Running:
    """What the application consists of within its lifespan. `new_password` is the first administrator's, made now."""

    database: Database
    service: GenerationService
    new_password: str | None
    limiters: dict[str, ConnectionLimiter] = field(default_factory=dict[str, ConnectionLimiter])
    open_streams: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])


class Application(FastAPI):
    """The ASGI application, with what the server process needs to know of it."""

    def __init__(self, lifespan: Callable[["Application"], AbstractAsyncContextManager[None]], body_limits: BodyLimits):
        super().__init__(title="Ollagraph", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
        self.body_limits = body_limits
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        """Its parts. Raises RuntimeError before its lifespan has begun."""
        if self._running is None:
            raise RuntimeError("the application has not begun")
        return self._running

    def begin(self, running: Running) -> None:
        """Tell the parts; called by the lifespan."""
        self._running = running


def create_app(settings: Settings, link: WorkerLink | None = None) -> Application:
    """Make the ASGI application; with `link`, of one of several workers. Nothing is opened before its lifespan."""
    observers = make_observers(settings, several_workers=link is not None)
    body_limits = BodyLimits(
        settings.max_body_size, settings.max_anonymous_body_size, BytesInFlight(settings.max_bytes_in_flight)
    )

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncGenerator[None]:
        prepare_data_dir(settings)
        trusted, schema = trusted_documents(settings), build_schema()
        executor = _executor(settings, schema, trusted)
        async with running_gateway(settings, link, observers) as (gateway, database, service, signing):
            new_password = await ensure_admin(settings, gateway.identity)
            running = Running(database, service, new_password, _limiters(settings, service))
            app.begin(running)
            watch = CredentialWatch(gateway.identity.authentication, settings.recheck_interval)
            readiness = Readiness(database, gateway.catalog, service, link)
            app.router.routes += _routes(settings, gateway, executor, readiness, watch, running, body_limits, observers)
            app.router.routes.append(Route(KEY_SET_PATH, key_set(signing.keys)))
            measuring = _measuring(settings, observers.metrics, gateway, running)
            app.router.routes += [] if measuring is None else measuring.routes
            if settings.serves_page:
                app.router.routes.append(Mount("/", page()))
            async with anyio.create_task_group() as tasks:
                spawn_service(tasks, "watching the credentials of open connections", watch.run)
                spawn_service(tasks, "the upkeep of sign-in and keys", gateway.identity.run)
                spawn_service(tasks, "the upkeep of limits", gateway.limits.run)
                spawn_service(tasks, "the checks of readiness", readiness.run)
                spawn_service(tasks, "watching the trusted documents", trusted.watch)
                spawn_service(tasks, "watching the signing keys", signing.watch)
                if measuring is not None:
                    spawn_service(tasks, "metrics", measuring.run)
                if link is not None:
                    spawn_service(tasks, "taking over from workers", partial(_take_over_from_workers, link, service))
                    spawn_service(tasks, "showing that this worker runs", link.show_life)
                yield
                tasks.cancel_scope.cancel()

    app = Application(lifespan, body_limits)
    _add_middleware(app, settings, observers)
    return app


def _limiters(settings: Settings, service: GenerationService) -> dict[str, ConnectionLimiter]:
    shared = service.connections
    return {
        "http": ConnectionLimiter(settings.max_streams_per_user, "OLLAGRAPH_MAX_STREAMS_PER_USER", shared),
        "websocket": ConnectionLimiter(settings.max_sockets_per_user, "OLLAGRAPH_MAX_SOCKETS_PER_USER", shared),
    }


def _measuring(
    settings: Settings, metrics: Metrics | None, gateway: Gateway, running: Running
) -> MetricsService | None:
    if metrics is None:
        return None
    service = running.service
    parts = Parts(running.database, service.queues, gateway.catalog, gateway.limits, service, running.limiters)
    return MetricsService(settings, metrics, parts)


async def _take_over_from_workers(link: WorkerLink, service: GenerationService) -> None:
    """Take over from workers as soon as the supervisor says that they have died, until cancelled."""
    while True:
        await service.replicas.expire(await link.next_death())


def _add_middleware(app: FastAPI, settings: Settings, observers: Observers) -> None:
    """Add what stands around every request. The last one added comes first."""
    if settings.check_origin:
        app.add_middleware(OriginCheck, origins=Origins(settings.cors_origins))
    if settings.cors_origins:
        app.add_middleware(
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
    app.add_middleware(HostCheck, allowed=HostPatterns(settings.answers_to))
    if settings.trusted_proxies:
        app.add_middleware(TrustedProxies, networks=[parse_network(text) for text in settings.trusted_proxies])
    app.add_middleware(RequestContext, observer=observers.requests)


@asynccontextmanager
async def running_gateway(
    settings: Settings, link: WorkerLink | None = None, observers: Observers = UNOBSERVED
) -> AsyncGenerator[tuple[Gateway, Database, GenerationService, SigningKeys]]:
    """Give the gateway at work: tables up to date, backends up. At the end everything is finished and closed."""
    providers = make_providers(settings)
    database = Database(
        settings.database, pool_size=settings.database_pool_size, slow_statement_time=settings.slow_statement_time
    )
    try:
        await upgrade(database)
        async with running_backends(settings, link) as backends, anyio.create_task_group() as tasks:
            queues = {backend.name: _queue(settings, backend, shared=link is not None) for backend in backends}
            if link is not None:
                WorkerSlots(link, queues)
            catalog = Catalog(observers.traced(backends), settings.models_max_age, tasks, queues=queues)
            blobs, prices = Blobs(database, _blob_limits(settings)), Prices(database, settings.identity_max_age)
            alone = link is not None and link.private_valkey
            feed, limits = UsageFeed(observers.ledger), make_limits(settings, database)
            needs = GenerationNeeds(
                database, catalog, queues, blobs, limits, prices, feed, tasks, observers.generations
            )
            async with running_generation_service(settings, needs, alone=alone) as service:
                signing = SigningKeys(settings)
                identity = make_identity(
                    settings, database, signing.keys, providers, end_generations=service.removal.end_generations
                )
                usage, info = Usage(database), server_info(settings)
                spawn_service(tasks, "usage", UsageUpkeep(database, settings.usage_retention).run)
                gateway = Gateway(
                    identity,
                    catalog,
                    service.generations,
                    usage,
                    feed,
                    prices,
                    blobs,
                    limits,
                    LimitAdministration(database, limits),
                    info,
                )
                yield gateway, database, service, signing
            tasks.cancel_scope.cancel()
    finally:
        await providers.aclose()
        await database.close()
        await observers.close()


def make_limits(settings: Settings, database: Database) -> Limits:
    """Make what holds the limits, as the settings ask for it."""
    return Limits(
        database,
        enabled=settings.rate_limit_enabled,
        identity_max_age=settings.identity_max_age,
        limit_wait_time=settings.limit_wait_time,
    )


def _blob_limits(settings: Settings) -> BlobLimits:
    return BlobLimits(
        enabled=settings.blobs,
        size=settings.blob_max_size,
        quota=settings.blob_quota,
        request=settings.blob_max_request_size,
        memory=settings.blob_memory,
        retention=settings.blob_retention,
    )


def _queue(settings: Settings, backend: Backend, *, shared: bool) -> BackendQueue:
    return BackendQueue(
        backend.parallel,
        settings.max_queued,
        slots_per_user=settings.max_running_per_user,
        max_waiting_per_user=settings.max_queued_per_user,
        shared=shared,
    )


def trusted_documents(settings: Settings) -> TrustedDocuments:
    """Load the trusted documents. Raises SettingsError where they cannot be used."""
    try:
        return TrustedDocuments(settings.trusted_documents_path, settings.trusted_documents)
    except ManifestError as error:
        raise SettingsError(f"{error} Fix it, or set OLLAGRAPH_TRUSTED_DOCUMENTS to off.") from error


def document_limits(settings: Settings) -> DocumentLimits:
    """Give the limits of documents that the settings ask for."""
    return DocumentLimits(
        length=settings.max_query_length,
        tokens=settings.max_query_tokens,
        depth=settings.max_query_depth,
        aliases=settings.max_query_aliases,
        root_fields=settings.max_query_root_fields,
        directives=settings.max_query_directives,
        fragments=settings.max_query_fragments,
        fields=settings.max_query_fields,
        repeats=settings.max_query_repeats,
        list_length=settings.max_list_length,
        cost=settings.max_query_cost,
        api_keys=settings.max_api_keys_per_user,
    )


def _executor(settings: Settings, schema: strawberry.Schema, trusted: TrustedDocuments) -> Executor:
    return Executor(
        schema,
        document_limits(settings),
        PersistedDocuments(trusted, automatic=settings.automatic_persisted_queries),
        query_timeout=settings.query_timeout,
        introspection=introspection_access(settings),
        suggestions=settings.gives_suggestions,
        debug=settings.debug,
        variable_limits=VariableLimits(settings.max_list_length, settings.max_variable_values),
    )


def _routes(
    settings: Settings,
    gateway: Gateway,
    executor: Executor,
    readiness: Readiness,
    watch: CredentialWatch,
    running: Running,
    body_limits: BodyLimits,
    observers: Observers,
) -> list[Route | WebSocketRoute]:
    callers = Callers(gateway, settings.max_answer_text)
    cookies = SessionCookies.of(
        settings.cors_origins, credentials=settings.cors_credentials, public_url=settings.public_url
    )
    http = GraphQLOverHttp(
        executor,
        callers,
        body_limits,
        settings.request_timeout,
        StreamLimits(settings.send_timeout, settings.heartbeat_interval),
        watch,
        running.limiters["http"],
        running.open_streams,
        cookies,
    )
    websocket = GraphQLOverWebSocket(
        executor,
        callers,
        body_limits,
        _socket_limits(settings),
        watch,
        running.limiters["websocket"],
        observers.requests,
    )
    return [
        *_blob_routes(settings, executor, callers, body_limits),
        Route("/healthz", healthz),
        Route("/readyz", readiness.check),
        Route("/schema.graphql", schema_document(build_schema(), introspection_access(settings), callers)),
        Route("/audit.jsonl", audit_export(callers)),
        *usage_exports(callers),
        *RedirectsOverHttp(gateway.identity, cookies).routes(),
        *(Route(path, http) for path in sorted(GRAPHQL_PATHS)),
        *(WebSocketRoute(path, websocket) for path in sorted(GRAPHQL_PATHS)),
    ]


def _socket_limits(settings: Settings) -> SocketLimits:
    return SocketLimits(
        check_timeout=settings.query_timeout,
        send_timeout=settings.send_timeout,
        idle_timeout=settings.socket_idle_timeout,
        operations=settings.max_operations_per_socket,
    )


def _blob_routes(settings: Settings, executor: Executor, callers: Callers, body_limits: BodyLimits) -> list[Route]:
    blobs = BlobsOverHttp(
        callers,
        executor.formatted,
        body_limits.in_flight,
        ConnectionLimiter(settings.max_uploads_per_user, "OLLAGRAPH_MAX_UPLOADS_PER_USER"),
        settings.request_timeout,
        settings.send_timeout,
    )
    return [Route(BLOBS_PATH, blobs), Route(f"{BLOBS_PATH}/{{id}}", blobs)]
