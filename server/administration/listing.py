"""What the commands about sessions, model servers, models and the audit log print."""

from collections.abc import AsyncGenerator
from time import perf_counter
from typing import Any
from uuid import UUID

import anyio
import click
import httpx
import orjson

from backends.errors import BackendError
from backends.ollama import OllamaBackend
from backends.openai import OpenAIBackend
from backends.protocol import ModelInfo
from gateway.audit import AuditChoice, told
from gateway.identity import OPERATOR
from schema.node import parse_uuid
from server.backends import embedded_backend, remote_backends
from server.commands import opened_identity
from server.settings import Settings

ANSWER_SECONDS = 15.0
GATEWAY_SECONDS = 3.0
"""How long a gateway may take to tell how it is; it answers within a second."""


def print_json(value: object) -> None:
    """Print a value as JSON for people and programs."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


async def list_sessions(settings: Settings, username: str, *, as_json: bool) -> None:
    """Print the sessions of a user that hold."""
    async with opened_identity(settings) as (identity, _):
        user = await identity.accounts.named(username)
        [rows] = await identity.sessions.of_users(OPERATOR, [user.id])
    entries = [
        {
            "id": str(row.id),
            "username": user.username,
            "provider": row.provider,
            "client": row.client,
            "address": row.address,
            "createdAt": row.created_at,
            "lastUsedAt": row.last_used_at,
            "expiresAt": row.expires_at,
        }
        for row in rows
    ]
    if as_json:
        print_json(entries)
        return
    for row in rows:
        used = f"used {row.last_used_at:%Y-%m-%d %H:%M} from {row.address or 'an unknown address'}"
        click.echo("\t".join((str(row.id), row.provider, used, row.client)))


async def revoke_session(settings: Settings, session: str) -> None:
    """End a session."""
    async with opened_identity(settings) as (identity, place):
        row = await identity.sessions.revoke(OPERATOR, _id_of(session))
        click.echo(f"Ended the session {row.id}, in the database {place}.")


def _id_of(session: str) -> UUID:
    """Read an id in either form: of the database, or of the API."""
    try:
        return UUID(session)
    except ValueError:
        return parse_uuid(session, "Session", "session")


async def list_events(settings: Settings, first: int, actions: tuple[str, ...], *, as_json: bool) -> None:
    """Print the last events of the audit log."""
    async with opened_identity(settings) as (identity, _):
        rows, _more = await identity.audit.page(AuditChoice(actions=actions or None), first, None)
    if as_json:
        print_json([told(row) for row in rows])
        return
    for row in rows:
        target = f"{row.target_type or ''} {row.target_id or ''}".strip()
        outcome = row.outcome if row.code is None else f"{row.outcome} ({row.code})"
        click.echo("\t".join((f"{row.at:%Y-%m-%d %H:%M:%S}", row.actor or row.method, row.action, outcome, target)))


async def list_backends(settings: Settings, *, as_json: bool) -> None:
    """Print the model servers, whether each answers, and what the gateway that runs here makes of it."""
    entries: list[dict[str, Any]] = []
    seen = await _seen_by_gateway(settings)
    async for name, kind, models, error, milliseconds in _asked(settings):
        entries.append(
            {
                "name": name,
                "kind": kind,
                "ready": error is None,
                "models": len(models),
                "latencyMs": round(milliseconds, 1),
                "error": error,
                "breakers": seen.get(name, {}).get("breakers"),
            }
        )
    if settings.embedded:
        embedded = embedded_backend(settings)
        told = seen.get(embedded.name, {})
        entries.append(
            {"name": embedded.name, "kind": str(embedded.kind), "ready": told.get("ready"), "models": 1}
            | {it: told.get(it) for it in ("latencyMs", "error", "breakers")}
        )
    if as_json:
        print_json(entries)
        return
    for it in entries:
        state = {True: "ready", False: it["error"], None: "runs within the gateway"}[it["ready"]]
        took = "" if it["latencyMs"] is None else f"{it['latencyMs']} ms"
        click.echo("\t".join((it["name"], it["kind"], f"{it['models']} models", took, state, _told(it["breakers"]))))


async def _seen_by_gateway(settings: Settings) -> dict[str, dict[str, Any]]:
    """Give what `/readyz` of the gateway at the address in the settings tells of each backend; nothing without one."""
    host = f"[{settings.local_host}]" if ":" in settings.local_host else settings.local_host
    try:
        async with httpx.AsyncClient(timeout=GATEWAY_SECONDS, trust_env=False) as client:
            answer = (await client.get(f"http://{host}:{settings.port}/readyz")).json()
        return {it["name"]: it for it in answer["backends"]}
    except (httpx.HTTPError, ValueError, LookupError, TypeError):  # nobody listens there, or another program
        return {}


def _told(breakers: dict[str, int] | None) -> str:
    if breakers is None:
        return "no gateway answers here"
    several = sum(breakers.values()) > 1
    counted = ", ".join(f"{state} in {count}" if several else state for state, count in sorted(breakers.items()))
    return f"breaker {counted}"


async def list_models(settings: Settings, *, as_json: bool) -> None:
    """Print the models of the model servers; those that do not answer are told on standard error."""
    entries: list[dict[str, Any]] = []
    async for name, _kind, models, error, _milliseconds in _asked(settings):
        if error is not None:
            click.echo(f"{name}: {error}", err=True)
        entries += [_entry(name, model) for model in models]
    if as_json:
        print_json(entries)
        return
    for it in entries:
        size = "" if it["sizeBytes"] is None else f"{it['sizeBytes']:,} bytes"
        click.echo("\t".join((it["name"], it["backend"], size, ", ".join(it["capabilities"] or ()))))


def _entry(backend: str, model: ModelInfo) -> dict[str, Any]:
    capabilities = None if model.capabilities is None else sorted(it.value for it in model.capabilities)
    return {
        "name": model.name,
        "backend": backend,
        "capabilities": capabilities,
        "contextLength": model.context_length,
        "sizeBytes": model.size_bytes,
        "family": model.family,
        "parameterSize": model.parameter_size,
        "quantization": model.quantization,
    }


_Answer = tuple[str, str, list[ModelInfo], str | None, float]


async def _asked(settings: Settings) -> AsyncGenerator[_Answer, None]:
    """Ask each model server that runs elsewhere for its models: name, kind, models, error, milliseconds."""
    for backend in remote_backends(settings):
        began = perf_counter()
        models, error = await _models(backend)
        await backend.aclose()
        yield backend.name, backend.kind.value, models, error, (perf_counter() - began) * 1000


async def _models(backend: OllamaBackend | OpenAIBackend) -> tuple[list[ModelInfo], str | None]:
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            return await backend.models(), None
    except BackendError as error:
        return [], str(error)
    except TimeoutError:
        return [], f"no answer within {ANSWER_SECONDS:g} s"
