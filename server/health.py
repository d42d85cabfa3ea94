"""Whether the process lives, and whether it can work."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse

from db.engine import Database, DatabaseUnavailable
from db.migrations import missing_revision
from gateway.catalog import BackendHealth, Catalog
from server.generation_service import GenerationService
from server.workers import WorkerLink

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1
"""How long `/readyz` waits for each part, all of them at once: an orchestrator does not wait for longer."""


async def healthz(_: Request) -> JSONResponse:
    """Give the process answers. Says nothing of what stands behind it: a restart would not repair that."""
    return JSONResponse({"status": "ok"})


@dataclass(slots=True)
class _Answer:
    came: anyio.Event = field(default_factory=anyio.Event)
    seconds: float = 0
    error: str | None = None


class _Check:
    """Asks one part, in a task of its own and once at a time, and lets nobody wait longer than CHECK_SECONDS for it.

    A task of its own because nothing stops a statement of SQLite's; once at a time because anybody may ask.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self._ask = ask
        self._wanted = anyio.Event()
        self._next = _Answer()

    async def answer(self) -> _Answer | None:
        """Give the answer to a question that is asked from now on; None where none comes in time."""
        answer = self._next
        self._wanted.set()
        with anyio.move_on_after(CHECK_SECONDS):
            await answer.came.wait()
        return answer if answer.came.is_set() else None

    async def run(self) -> None:
        """Ask whenever somebody wants to know, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            answer, self._next = self._next, _Answer()
            began = anyio.current_time()
            try:
                await self._ask()
            except DatabaseUnavailable as error:
                answer.error = str(error)
            except Exception:
                logger.exception("a check of readiness failed")
                answer.error = "The check failed. The gateway's log has the details."
            answer.seconds = anyio.current_time() - began
            answer.came.set()


class Readiness:
    """`/readyz`: the database and each backend, with state and latency; 503 when the gateway cannot do its work.

    Without a database that takes writes and has every migration no new work is taken, nor by a gateway that stops. Of
    the backends one is enough: a gateway that lost one still serves the others' models. Without Valkey a gateway works
    on alone.
    One worker is enough, too: it answers for all, and tells how many are ready. Breakers are told and decide nothing: a
    gateway that got no requests could try no backend again.
    """

    def __init__(
        self, database: Database, catalog: Catalog, service: GenerationService, link: WorkerLink | None = None
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._service = service
        self._link = link
        self._reads = _Check(self._read)
        self._writes = _Check(service.replicas.note_alive)

    async def run(self) -> None:
        """Ask what `check` wants to know, until cancelled. To be started in the application's task group."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._reads.run)
            tasks.start_soon(self._writes.run)

    async def check(self, _: Request) -> JSONResponse:
        """Look at everything now."""
        database: dict[str, Any] = {}
        health: list[BackendHealth] = []

        async def look_at_database() -> None:
            database.update(await self._look_at_database())

        async def look_at_backends() -> None:
            health.extend(await self._catalog.health(CHECK_SECONDS))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look_at_database)
            tasks.start_soon(look_at_backends)
        breakers = self._breakers()
        backends = [
            _entry(each.latency_ms, each.error) | {"name": each.name, "breakers": breakers[each.name]}
            for each in health
        ]
        reasons: list[str] = []
        if not database["ready"]:
            reasons.append(f"database: {database['error']}")
        if not any(backend["ready"] for backend in backends):
            reasons += [f"backend {backend['name']}: {backend['error']}" for backend in backends] or ["no backend"]
        if self._service.is_leaving:
            reasons.append("the gateway is stopping")
        body = {"status": "not ready" if reasons else "ready", "database": database, "backends": backends}
        if self._service.shared_log is not None:
            body["streamLog"] = _entry(None, self._service.shared_log.trouble)
        if self._link is not None:
            body["workers"] = {"ready": self._link.ready, "of": self._link.of}
            if self._link.hanging:
                body["workers"]["hanging"] = self._link.hanging
        if reasons:
            body["reason"] = "; ".join(reasons)
        return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK)

    def _breakers(self) -> dict[str, Mapping[str, int]]:
        """Count the processes by the states of their breakers; a worker tells its own until it knows of all."""
        counted: dict[str, Mapping[str, int]] = {name: {it.value: 1} for name, it in self._catalog.breakers().items()}
        return counted if self._link is None else {**counted, **self._link.breakers}

    async def _read(self) -> None:
        """Ask the database whether it answers, and has every migration that this version needs."""
        await self._database.ping()
        if missing := await missing_revision(self._database):
            raise DatabaseUnavailable(missing)

    async def _look_at_database(self) -> dict[str, Any]:
        answers: list[tuple[_Check, _Answer | None]] = []

        async def ask(check: _Check) -> None:
            answers.append((check, await check.answer()))

        written = self._database.written
        async with anyio.create_task_group() as tasks:
            for check in (self._reads, self._writes):
                tasks.start_soon(ask, check)
        read, write = dict(answers)[self._reads], dict(answers)[self._writes]
        if read is None or read.error is not None:
            return _entry(None, _silent() if read is None else read.error)
        if write is None and self._database.written == written:  # else it had only to wait for others who write
            return _entry(None, f"The database takes no writes: {_silent()}.")
        return _entry(read.seconds * 1000, write.error if write else None)


def _silent() -> str:
    return f"no answer within {CHECK_SECONDS:g} s"


def _entry(latency_ms: float | None, error: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"ready": error is None}
    if latency_ms is not None:
        entry["latencyMs"] = round(latency_ms, 2)
    if error is not None:
        entry["error"] = error
    return entry
