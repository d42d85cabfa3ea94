"""Idempotency keys: the same request of the same caller, sent twice, is one generation."""

import hashlib
from dataclasses import fields
from datetime import timedelta
from uuid import UUID

import orjson

from auth.principal import Principal
from db import queries
from db.clock import now
from db.engine import ReadSession, WriteSession
from db.tables import Generation, IdempotencyKey
from gateway.errors import IdempotencyKeyReused
from gateway.generation.request import GenerationRequest


def fingerprint(request: GenerationRequest) -> str:
    """Give what tells one request from another: SHA-256 of what was asked of the model.

    The key is left out, what becomes of it when a viewer or a server is lost or a limit is reached, and whether a
    viewer wants logprobs: a retry may want that otherwise. What is not given is left out too, so that a field which a
    later version adds changes nothing.
    """
    asked = {
        field.name: value
        for field in fields(request)
        if field.name not in _NOT_ASKED and (value := getattr(request, field.name)) != field.default
    }
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


_NOT_ASKED = {"idempotency_key", "on_disconnect", "on_backend_loss", "logprobs", "on_limit"}


async def begun_under(
    session: ReadSession, principal: Principal, request: GenerationRequest, seconds: float
) -> Generation | None:
    """Give what the caller began under the request's key in the last `seconds`. Raises IdempotencyKeyReused."""
    if request.idempotency_key is None:
        return None
    since = now() - timedelta(seconds=seconds)
    found = await queries.idempotency.find_key(session, _holder(principal), request.idempotency_key, since)
    if found is None:
        return None
    if found.request_hash != fingerprint(request):
        raise IdempotencyKeyReused
    generations = await queries.generation.generations_by_id(session, [found.generation_id])
    return generations.get(found.generation_id)


async def note_key(
    tx: WriteSession, principal: Principal, request: GenerationRequest, generation: Generation, seconds: float
) -> None:
    """Let the key stand for a generation. Fails as a whole transaction where another request was quicker."""
    if request.idempotency_key is None:
        return
    holder = _holder(principal)
    await queries.idempotency.forget_keys(tx, now() - timedelta(seconds=seconds), holder)
    await tx.flush()
    tx.add(
        IdempotencyKey(
            principal_id=holder,
            key=request.idempotency_key,
            request_hash=fingerprint(request),
            generation_id=generation.id,
        )
    )


def _holder(principal: Principal) -> UUID:
    return principal.api_key_id or principal.user_id
