"""The root field that fetches anything again by its id (Relay's Global Object Identification)."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

import strawberry

from auth.scopes import Scope
from gateway.errors import InvalidInput, ModelNotFound, NotFound
from resolvers.access import requires
from schema.catalog import Model
from schema.context import Context, Info
from schema.generation import Generation
from schema.identity import ApiKey, User
from schema.node import Node, parse_global_id, parse_uuid


async def _user(context: Context, key: UUID) -> User | None:
    caller = context.require(Scope.PROFILE_READ)
    row = await context.loaders.users.load(key)
    return User.of(row) if row and (row.id == caller.user_id or caller.has(Scope.ADMIN)) else None


async def _api_key(context: Context, key: UUID) -> ApiKey | None:
    caller = context.require(Scope.KEYS_WRITE)
    row = await context.loaders.api_keys.load(key)
    return ApiKey.of(row) if row and (row.user_id == caller.user_id or caller.has(Scope.ADMIN)) else None


async def _generation(context: Context, key: UUID) -> Generation | None:
    caller = context.require(Scope.GENERATIONS_READ)
    try:
        return Generation.of(await context.gateway.generations.get(caller, key))
    except NotFound:
        return None


async def _model(context: Context, name: str) -> Model | None:
    context.require(Scope.MODELS_READ)
    try:
        return Model.of(await context.gateway.catalog.find(name))
    except ModelNotFound:
        return None


_BY_UUID: dict[str, Callable[[Context, UUID], Awaitable[Node | None]]] = {
    "User": _user,
    "ApiKey": _api_key,
    "Generation": _generation,
}


@strawberry.type
class NodeQuery:
    @strawberry.field(description="Anything by its id; null when it is gone or not the caller's.")
    @requires(Scope.PROFILE_READ)
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The id that it came with.")]
    ) -> Node | None:
        kind, key = parse_global_id(id)
        if kind == "Model":
            return await _model(info.context, key)
        if kind not in _BY_UUID:
            raise InvalidInput("id", f"{id!r} is not an id of this API.")
        return await _BY_UUID[kind](info.context, parse_uuid(id, kind))
