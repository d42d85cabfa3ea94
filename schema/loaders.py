"""Dataloaders: what the fields of one operation ask for one by one is fetched in one statement."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar
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


class Loaders:
    """The loaders of one operation. Never shared between two: they cache what they have seen.

    Those of `visible_…` are for ids that the caller sent: they load nothing that the caller may not see.
    """

    def __init__(self, gateway: Gateway, principal: Principal | None, max_text: int) -> None:
        self._gateway = gateway
        self._principal = principal
        self._max_text = max_text
        self.users = _batched(gateway.identity.accounts.by_id)
        self.api_keys = _batched(gateway.identity.api_keys.by_id)
        self.api_keys_of_user = _batched(gateway.identity.api_keys.of_users)
        self.generations = _batched(gateway.generations.by_id)
        self.audit_events = _batched(gateway.identity.audit.by_id)
        self.sessions_of_user = _batched(self._sessions_of_users)
        self.external_accounts_of_user = _batched(self._external_accounts_of_users)
        self.visible_sessions = self._visible(gateway.identity.sessions.visible)
        self.visible_users = self._visible(gateway.identity.accounts.visible)
        self.visible_api_keys = self._visible(gateway.identity.api_keys.visible)
        self.visible_groups = self._visible(gateway.identity.groups.visible)
        self.groups_of_user = _batched(gateway.identity.groups.of_users)
        self.member_counts = _batched(gateway.identity.groups.member_counts)
        self.visible_generations = self._visible(gateway.generations.visible)
        # not remembered: who watches a generation may ask for its text again when there is more of it
        self.outputs = _batched(self._outputs, cache=False)
        self.inputs = _batched(self._inputs)
        self.media = _batched(self._media)
        self.text_expiries = _batched(gateway.generations.text_expiries)
        self.attempts = _batched(gateway.generations.attempts, cache=False)
        self.prices = _batched(gateway.prices.by_id)
        self.limits_of_user = self._of_limits(gateway.limit_standings.of_users)
        self.limits_of_api_key = self._of_limits(gateway.limit_standings.of_api_keys)
        self.limits_of_group = self._of_limits(gateway.limit_standings.of_groups)
        self.limits_of_generation = self._of_limits(self._limits_of_generations)
        self.models = _batched(self._models)
        self.loaded_models = _batched(gateway.catalog.loaded_models)

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
