"""Dataloaders: what the fields of one operation ask for one by one is fetched in one statement."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from aiodataloader import DataLoader

from auth.model_access import ALL_MODELS
from auth.principal import Principal
from db import tables
from gateway import Gateway
from gateway.catalog import Model
from gateway.errors import GatewayError
from gateway.generation import KeptInput, Output
from gateway.limits import LimitStatus, Standings

MAX_BATCH = 500
"""Keys in one statement; SQLite takes 32,766 variables, and short statements let others in."""


_Key = TypeVar("_Key")
_Row = TypeVar("_Row")


def _batched(
    load: Callable[[list[_Key]], Coroutine[Any, Any, list[_Row]]], *, cache: bool = True
) -> DataLoader[_Key, _Row]:
    return DataLoader(load, max_batch_size=MAX_BATCH, cache=cache)


class _FirstUsed(Generic[_Key, _Row]):
    """A loader that is made when it is first used: an operation uses one or two of all."""

    def __init__(self, make: Callable[["Loaders"], DataLoader[_Key, _Row]]) -> None:
        self._make = make

    def __set_name__(self, owner: type["Loaders"], name: str) -> None:
        self._name = name

    def __get__(self, loaders: "Loaders", owner: type["Loaders"]) -> DataLoader[_Key, _Row]:
        """Make it. What stands in the object's own dictionary then hides this."""
        loader = loaders.__dict__[self._name] = self._make(loaders)
        return loader


class Loaders:
    """The loaders of one operation. Never shared between two: they cache what they have seen.

    Those of `visible_…` are for ids that the caller sent: they load nothing that the caller may not see.
    """

    users = _FirstUsed(lambda it: _batched(it._gateway.identity.accounts.by_id))
    api_keys = _FirstUsed(lambda it: _batched(it._gateway.identity.api_keys.by_id))
    api_keys_of_user = _FirstUsed(lambda it: _batched(it._gateway.identity.api_keys.of_users))
    generations = _FirstUsed(lambda it: _batched(it._gateway.generations.by_id))
    audit_events = _FirstUsed(lambda it: _batched(it._gateway.identity.audit.by_id))
    sessions_of_user = _FirstUsed(lambda it: _batched(it._sessions_of_users))
    external_accounts_of_user = _FirstUsed(lambda it: _batched(it._external_accounts_of_users))
    visible_sessions = _FirstUsed(lambda it: it._visible(it._gateway.identity.sessions.visible))
    visible_users = _FirstUsed(lambda it: it._visible(it._gateway.identity.accounts.visible))
    visible_api_keys = _FirstUsed(lambda it: it._visible(it._gateway.identity.api_keys.visible))
    visible_groups = _FirstUsed(lambda it: it._visible(it._gateway.identity.groups.visible))
    groups_of_user = _FirstUsed(lambda it: _batched(it._gateway.identity.groups.of_users))
    member_counts = _FirstUsed(lambda it: _batched(it._gateway.identity.groups.member_counts))
    visible_generations = _FirstUsed(lambda it: it._visible(it._gateway.generations.visible))
    # not remembered: who watches a generation may ask for its text again when there is more of it
    outputs = _FirstUsed(lambda it: _batched(it._outputs, cache=False))
    inputs = _FirstUsed(lambda it: _batched(it._inputs))
    media = _FirstUsed(lambda it: _batched(it._media))
    text_expiries = _FirstUsed(lambda it: _batched(it._gateway.generations.text_expiries))
    attempts = _FirstUsed(lambda it: _batched(it._gateway.generations.attempts, cache=False))
    prices = _FirstUsed(lambda it: _batched(it._gateway.prices.by_id))
    limits_of_user = _FirstUsed(lambda it: it._of_limits(it._gateway.limit_standings.of_users))
    limits_of_api_key = _FirstUsed(lambda it: it._of_limits(it._gateway.limit_standings.of_api_keys))
    limits_of_group = _FirstUsed(lambda it: it._of_limits(it._gateway.limit_standings.of_groups))
    limits_of_generation = _FirstUsed(lambda it: it._of_limits(it._limits_of_generations))
    models = _FirstUsed(lambda it: _batched(it._models))
    loaded_models = _FirstUsed(lambda it: _batched(it._gateway.catalog.loaded_models))

    def __init__(self, gateway: Gateway, principal: Principal | None, max_text: int) -> None:
        self._gateway = gateway
        self._principal = principal
        self._max_text = max_text

    async def _models(self, names: list[str]) -> list[Model | None]:
        access = ALL_MODELS if self._principal is None else self._principal.models
        return await self._gateway.catalog.by_name(names, access)

    async def _sessions_of_users(self, user_ids: list[UUID]) -> list[list[tables.Session]]:
        if self._principal is None:
            return [[] for _ in user_ids]
        return await self._gateway.identity.sessions.of_users(self._principal, user_ids)

    async def _external_accounts_of_users(self, user_ids: list[UUID]) -> list[list[tables.ExternalAccount]]:
        if self._principal is None:
            return [[] for _ in user_ids]
        return await self._gateway.identity.links.of_users(self._principal, user_ids)

    async def _outputs(self, ids: list[UUID]) -> list[Output | GatewayError | None]:
        return await self._gateway.generations.outputs(ids, self._max_text, self._principal)

    async def _inputs(self, ids: list[UUID]) -> list[KeptInput | GatewayError | None]:
        return await self._gateway.generations.inputs(ids, self._max_text)

    async def _media(self, ids: list[UUID]) -> list[bytes | GatewayError | None]:
        return await self._gateway.generations.media(ids, self._max_text)

    async def _limits_of_generations(self, principal: Principal, ids: Sequence[UUID]) -> Standings:
        rows = await self.generations.load_many(list(ids))
        return await self._gateway.limit_standings.of_generations(principal, rows)

    def _of_limits(
        self, find: Callable[[Principal, Sequence[UUID]], Awaitable[Standings]]
    ) -> DataLoader[UUID, list[LimitStatus] | None]:
        async def load(ids: list[UUID]) -> Standings:
            return [None] * len(ids) if self._principal is None else await find(self._principal, ids)

        return DataLoader(load, max_batch_size=MAX_BATCH, cache=False)

    def _visible(
        self, find: Callable[[Principal, Sequence[UUID]], Awaitable[list[_Row | None]]]
    ) -> DataLoader[UUID, _Row | None]:
        async def load(ids: list[UUID]) -> list[_Row | None]:
            return [None] * len(ids) if self._principal is None else await find(self._principal, ids)

        return DataLoader(load, max_batch_size=MAX_BATCH)
