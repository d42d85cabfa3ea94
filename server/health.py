"""Whether the process lives, and whether it can work."""

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from db.engine import Database, DatabaseUnavailable
from gateway.catalog import Catalog
from server.engine import Engine

CHECK_SECONDS = 5


async def healthz(_: Request) -> JSONResponse:
    """The process answers. Says nothing of what stands behind it: a restart would not mend that."""
    return JSONResponse({"status": "ok"})


class Readiness:
    """`/readyz`: the database and each backend, with state and latency; 503 when the gateway cannot do its work.

    Without the database no new work is taken, nor by a gateway that stops. Of the backends one is enough: a gateway
    that lost one still serves the others' models. Without Valkey a gateway works on alone.
    """

    def __init__(self, database: Database, catalog: Catalog, engine: Engine) -> None:
        self._database = database
        self._catalog = catalog
        self._engine = engine

    async def check(self, _: Request) -> JSONResponse:
        """Look at everything now."""
        database = await self._check_database()
        backends = [
            _entry(health.latency_ms, health.error) | {"name": health.name} for health in await self._catalog.health()
        ]
        reasons: list[str] = []
        if not database["ready"]:
            reasons.append(f"database: {database['error']}")
        if not any(backend["ready"] for backend in backends):
            reasons += [f"backend {backend['name']}: {backend['error']}" for backend in backends] or ["no backend"]
        if self._engine.runner.draining:
            reasons.append("the gateway is stopping")
        body = {"status": "not ready" if reasons else "ready", "database": database, "backends": backends}
        if self._engine.shared_log is not None:
            body["streamLog"] = _entry(None, self._engine.shared_log.trouble)
        if reasons:
            body["reason"] = "; ".join(reasons)
        return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK)

    async def _check_database(self) -> dict[str, Any]:
        try:
            return _entry(await self._database.ping() * 1000, None)
        except DatabaseUnavailable as error:
            return _entry(None, str(error))


def _entry(latency_ms: float | None, error: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"ready": error is None}
    if latency_ms is not None:
        entry["latencyMs"] = round(latency_ms, 2)
    if error is not None:
        entry["error"] = error
    return entry
