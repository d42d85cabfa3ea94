"""The root fields that fetch anything again by its id (Relay's Global Object and Plural Identification)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, cast
from uuid import UUID

import anyio
import strawberry

from auth.errors import AuthenticationError
from auth.scopes import Scope
from gateway.errors import GatewayError, InvalidInput, cut
from schema.access import requires
from schema.catalog import Model
from schema.context import Context, Info
from schema.cost import ListSize
from schema.generation import Generation
from schema.identity import ApiKey, AuditEvent, Group, Session, User
from schema.node import MAX_NODE_IDS, Node, parse_global_id, parse_uuid
from schema.prices import Price


async def _user(context: Context, key: UUID) -> User | None:
    context.require(Scope.PROFILE_READ)
    row = await context.loaders.visible_users.load(key)
    return None if row is None else User.of(row)


async def _group(context: Context, key: UUID) -> Group | None:
    context.require(Scope.PROFILE_READ)
    row = await context.loaders.visible_groups.load(key)
    return None if row is None else Group.of(row)


async def _api_key(context: Context, key: UUID) -> ApiKey | None:
    context.require(Scope.KEYS_READ)
    row = await context.loaders.visible_api_keys.load(key)
    return None if row is None else ApiKey.of(row)


async def _audit_event(context: Context, key: UUID) -> AuditEvent | None:
    context.require(Scope.AUDIT_READ)
    row = await context.loaders.audit_events.load(key)
    return None if row is None else AuditEvent.of(row)


async def _session(context: Context, key: UUID) -> Session | None:
    context.require(Scope.PROFILE_READ)
    row = await context.loaders.visible_sessions.load(key)
    return None if row is None else Session.of(row, context.caller)


async def _generation(context: Context, key: UUID) -> Generation | None:
    context.require(Scope.GENERATIONS_READ)
    row = await context.loaders.visible_generations.load(key)
    return None if row is None else Generation.of(row)


async def _price(context: Context, key: UUID) -> Price | None:
    context.require(Scope.LIMITS_WRITE, Scope.USAGE_READ_ALL)
    row = await context.loaders.prices.load(key)
    return None if row is None else Price.of(row)


async def _model(context: Context, name: str) -> Model | None:
    context.require(Scope.MODELS_READ)
    model = await context.loaders.models.load(name)
    return None if model is None else Model.of(model)


_BY_UUID: dict[str, Callable[[Context, UUID], Awaitable[Node | None]]] = {
    "User": _user,
    "Group": _group,
    "ApiKey": _api_key,
    "AuditEvent": _audit_event,
    "Session": _session,
    "Generation": _generation,
    "Price": _price,
}


async def _node(context: Context, id: str, field: str) -> Node | None:
    """Find what an id names. Raises Forbidden for a type that needs another scope, and InvalidInput naming `field`."""
    kind, key = parse_global_id(id, field)
    if kind == "Model":
        return await _model(context, key)
    if kind not in _BY_UUID:
        raise InvalidInput(field, f"{cut(id)!r} is not an id of this API.")
    return await _BY_UUID[kind](context, parse_uuid(id, kind, field))


async def _nodes(context: Context, ids: Sequence[str]) -> list[Node | GatewayError | AuthenticationError | None]:
    """Find all at once, so that the loaders see them together. An id that is refused costs only its own place."""
    found: list[Node | GatewayError | AuthenticationError | None] = [None] * len(ids)

    async def find(place: int, id: str) -> None:
        try:
            found[place] = await _node(context, id, f"ids[{place}]")
        except (GatewayError, AuthenticationError) as error:
            found[place] = error  # graphql-core makes it the error of this element

    async with anyio.create_task_group() as tasks:
        for place, id in enumerate(ids):
            tasks.start_soon(find, place, id)
    return found


@strawberry.type
class NodeQuery:
    @strawberry.field(description="An object by its id; null if it does not exist or does not belong to the caller.")
    @requires(Scope.PROFILE_READ)
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The id of the object.")]
    ) -> Node | None:
        return await _node(info.context, id, "id")

    @strawberry.field(
        description="Objects by their ids, in the order of the ids; null for one that does not exist or does not "
        "belong to the caller. An invalid id gives null and an error that names its position.",
        directives=[ListSize(slicing_arguments=["ids"], require_one_slicing_argument=True)],
    )
    @requires(Scope.PROFILE_READ)
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description=f"Up to {MAX_NODE_IDS} ids.")],
    ) -> list[Node | None]:
        if len(ids) > MAX_NODE_IDS:
            raise InvalidInput("ids", f"must hold at most {MAX_NODE_IDS} ids, not {len(ids)}.")
        return cast("list[Node | None]", await _nodes(info.context, ids))
