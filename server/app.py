"""The composition root: everything is made here, once, and handed to whoever needs it."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import partial

import anyio
import strawberry
from anyio.abc import TaskGroup
from starlette.routing import Mount, Route

from db.engine import Database
from db.migrations import upgrade
from gateway import Gateway
from gateway.blobs import BlobLimits, Blobs
from gateway.limits import LimitAdministration, Limits, LimitStandings, Prices
from gateway.notices import LimitNotices
from gateway.plugins import Plugins, UnusablePlugin
from gateway.request_limits import TooManyRequests
from gateway.tasks import spawn_service
from gateway.usage import Usage, UsageFeed, UsageUpkeep
from resolvers.root import build_extended_schema
from schema.limits import threshold_data
from server.application import Application, GraphQLEndpoint, Running, layers
from server.audit_export import audit_export
from server.backends import backend_queue, make_catalog, running_backends
from server.execution import make_executor, trusted_documents
from server.first_start import ensure_admin, make_identity
from server.generation_service import GenerationNeeds, GenerationService, running_generation_service
from server.graphql import (
    Executor,
)
from server.health import Readiness, healthz
from server.jwks import KEY_SET_PATH, key_set
from server.limits import make_limits, make_request_limits, make_webhooks
from server.metrics import Metrics, MetricsService, Parts
from server.observers import UNOBSERVED, Observers, make_observers
from server.page import page
from server.plugins import find_plugins, plugin_routes
from server.server_info import introspection_access, server_info
from server.settings import Settings, SettingsError, prepare_data_dir
from server.sign_in import RedirectsOverHttp, make_providers
from server.signing_keys import SigningKeys
from server.transports import (
    BLOBS_PATH,
    BlobsOverHttp,
    BodyLimits,
    BytesInFlight,
    Callers,
    ConnectionLimiter,
    CredentialWatch,
    GraphQLOverHttp,
    GraphQLOverWebSocket,
    SessionCookies,
    SocketLimits,
    StreamLimits,
    schema_document,
    too_many_requests,
)
from server.usage_export import usage_exports
from server.workers import WorkerLink, WorkerSlots


def create_app(settings: Settings, link: WorkerLink | None = None) -> Application:
    """Make the ASGI application; with `link`, of one of several workers. Nothing is opened before its lifespan."""
    observers = make_observers(settings, several_workers=link is not None)
    plugins = Plugins({found.name: found.plugin for found in find_plugins(settings)}, settings.plugin_timeout)
    body_limits = _body_limits(settings)

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncGenerator[None]:
        prepare_data_dir(settings)
        trusted = trusted_documents(settings)
        executor = make_executor(settings, _schema(plugins), trusted)
        async with (
            running_gateway(settings, plugins, link, observers) as (gateway, database, service, signing),
            aclosing(make_request_limits(settings)) as requests,
        ):
            password, limiters = await ensure_admin(settings, gateway.identity), _limiters(settings, service)
            running = Running(database, service, password, plugins, gateway.limits, limiters)
            app.begin(running)
            watch = CredentialWatch(gateway.identity.authentication, settings.recheck_interval)
            readiness = Readiness(database, gateway.catalog, service, link)
            callers = Callers(gateway, settings.max_answer_text, settings.query_timeout, requests)
            app.graphql = _graphql(settings, callers, executor, watch, running, body_limits, observers)
            cookies = app.graphql.http.cookies
            app.router.routes += _routes(settings, callers, executor, readiness, cookies, body_limits)
            app.router.routes += plugin_routes(plugins, callers)
            app.router.routes.append(Route(KEY_SET_PATH, key_set(signing.keys)))
            measuring = _measuring(settings, observers.metrics, gateway, running)
            app.router.routes += [] if measuring is None else measuring.routes
            if settings.serves_page:
                app.router.routes.append(Mount("/", page()))
            async with anyio.create_task_group() as tasks:
                spawn_service(tasks, "watching the credentials of open connections", watch.run)
                spawn_service(tasks, "the upkeep of sign-in and keys", gateway.identity.run)
                spawn_service(tasks, "the upkeep of limits", gateway.limits.run)
                spawn_service(tasks, "counting requests", requests.run)
                spawn_service(tasks, "the checks of readiness", readiness.run)
                spawn_service(tasks, "watching the trusted documents", trusted.watch)
                spawn_service(tasks, "watching the signing keys", signing.watch)
                if measuring is not None:
                    spawn_service(tasks, "metrics", measuring.run)
                if link is not None:
                    spawn_service(tasks, "taking over from workers", partial(_take_over_from_workers, link, service))
                    spawn_service(tasks, "showing that it runs", partial(link.show_life, gateway.catalog.breakers))
                yield
                tasks.cancel_scope.cancel()

    app = Application(lifespan, layers(settings, observers), body_limits)
    app.add_exception_handler(TooManyRequests, too_many_requests)
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
    parts = Parts(
        running.database,
        service.queues,
        gateway.catalog,
        gateway.limits,
        running.plugins,
        service,
        running.limiters,
    )
    return MetricsService(settings, metrics, parts)


async def _take_over_from_workers(link: WorkerLink, service: GenerationService) -> None:
    """Take over from workers as soon as the supervisor says that they have died, until cancelled."""
    while True:
        await service.replicas.expire(await link.next_death())


@asynccontextmanager
async def running_gateway(
    settings: Settings, plugins: Plugins, link: WorkerLink | None = None, observers: Observers = UNOBSERVED
) -> AsyncGenerator[tuple[Gateway, Database, GenerationService, SigningKeys]]:
    """Give the gateway at work: tables up to date, backends up. At the end everything is finished and closed."""
    providers, database = make_providers(settings), _database(settings)
    try:
        await upgrade(database)
        async with running_backends(settings, link) as backends, anyio.create_task_group() as tasks:
            queues = {it.name: backend_queue(settings, it, shared=link is not None) for it in backends}
            if link is not None:
                WorkerSlots(link, queues)
            catalog = make_catalog(settings, observers.traced(backends), tasks, queues)
            blobs, prices = Blobs(database, _blob_limits(settings)), Prices(database, settings.identity_max_age)
            alone = link is not None and link.private_valkey
            feed, limits = UsageFeed(), make_limits(settings, database)
            needs = GenerationNeeds(
                database, catalog, queues, blobs, limits, prices, feed, plugins, tasks, observers.generations
            )
            async with _at_work(plugins), running_generation_service(settings, needs, alone=alone) as service:
                signing = SigningKeys(settings)
                identity = make_identity(
                    settings, database, signing.keys, providers, end_generations=service.removal.end_generations
                )
                catalog.listen(plugins.note_backend)
                identity.audit.listen(plugins.note_deed)
                feed.look_again(identity.authentication.scopes_now, settings.recheck_interval)
                usage, info = Usage(database), server_info(settings)
                notices = _notices(settings, database, limits, tasks)
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
                    LimitStandings(database, limits),
                    LimitAdministration(database, limits),
                    notices,
                    info,
                )
                yield gateway, database, service, signing
            tasks.cancel_scope.cancel()
    finally:
        await providers.aclose()
        await database.close()
        await observers.close()


def _database(settings: Settings) -> Database:
    if settings.sql_echo:  # before there is an engine, which asks its logger once
        logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)
    slow = settings.slow_statement_time if settings.slow_statement_time or settings.debug else None
    return Database(settings.database, pool_size=settings.database_pool_size, slow_statement_time=slow)


def _notices(settings: Settings, database: Database, limits: Limits, tasks: TaskGroup) -> LimitNotices:
    webhooks = make_webhooks(settings, database)
    notices = LimitNotices(database, limits, webhooks, threshold_data)
    spawn_service(tasks, "telling of limits", notices.run)
    spawn_service(tasks, "webhooks", webhooks.run)
    return notices


@asynccontextmanager
async def _at_work(plugins: Plugins) -> AsyncGenerator[None]:
    """Have the plugins at work within the block. Raises SettingsError."""
    try:
        async with plugins.running():
            yield
    except UnusablePlugin as error:
        raise SettingsError(str(error)) from error


def _schema(plugins: Plugins) -> strawberry.Schema:
    """Give the schema with what plugins add. Raises SettingsError."""
    try:
        return build_extended_schema(plugins.threads)
    except UnusablePlugin as error:
        raise SettingsError(str(error)) from error


def _blob_limits(settings: Settings) -> BlobLimits:
    return BlobLimits(
        enabled=settings.blobs,
        size=settings.blob_max_size,
        quota=settings.blob_quota,
        request=settings.blob_max_request_size,
        memory=settings.blob_memory,
        retention=settings.blob_retention,
    )


def _graphql(
    settings: Settings,
    callers: Callers,
    executor: Executor,
    watch: CredentialWatch,
    running: Running,
    body_limits: BodyLimits,
    observers: Observers,
) -> GraphQLEndpoint:
    cookies = SessionCookies.of(
        settings.cors_origins, credentials=settings.cors_credentials, public_url=settings.public_address
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
    return GraphQLEndpoint(http, websocket)


def _routes(
    settings: Settings,
    callers: Callers,
    executor: Executor,
    readiness: Readiness,
    cookies: SessionCookies,
    body_limits: BodyLimits,
) -> list[Route]:
    """Give what FastAPI serves: all but GraphQL."""
    return [
        *_blob_routes(settings, executor, callers, body_limits),
        Route("/healthz", healthz),
        Route("/readyz", readiness.check),
        Route("/schema.graphql", schema_document(executor.schema, introspection_access(settings), callers)),
        Route("/audit.jsonl", audit_export(callers)),
        *usage_exports(callers),
        *RedirectsOverHttp(callers.gateway.identity, cookies, callers.requests).routes(),
    ]


def _body_limits(settings: Settings) -> BodyLimits:
    return BodyLimits(
        settings.max_body_size,
        settings.max_anonymous_body_size,
        BytesInFlight(settings.max_bytes_in_flight, settings.max_body_size),
        settings.request_timeout,
    )


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
