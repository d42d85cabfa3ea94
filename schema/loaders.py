"""Dataloaders: what the fields of one operation ask for one by one is fetched in one statement."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from aiodataloader import DataLoader

from auth.model_access import ALL_MODELS
from auth.principal import Principal
from db import tables
from gateway import Gateway
from gateway.catalog import LoadedModel, Model
from gateway.errors import GatewayError
from gateway.generation import Attempt, KeptInput, Output

MAX_BATCH = 500
"""Keys in one statement; SQLite takes 32,766 variables, and short statements let others in."""


_Row = TypeVar("_Row")


class Loaders:
    """The loaders of one operation. Never shared between two: they cache what they have seen.

    Those of `visible_…` are for ids that the caller sent: they load nothing that the caller may not see.
    """

    def __init__(self, gateway: Gateway, principal: Principal | None, max_text: int) -> None:
        self._gateway = gateway
        self._principal = principal
        self._max_text = max_text
        self.users: DataLoader[UUID, tables.User | None] = DataLoader(
            gateway.identity.accounts.by_id, max_batch_size=MAX_BATCH
        )
        self.api_keys: DataLoader[UUID, tables.ApiKey | None] = DataLoader(
            gateway.identity.api_keys.by_id, max_batch_size=MAX_BATCH
        )
        self.api_keys_of_user: DataLoader[UUID, list[tables.ApiKey]] = DataLoader(
            gateway.identity.api_keys.of_users, max_batch_size=MAX_BATCH
        )
        self.generations: DataLoader[UUID, tables.Generation | None] = DataLoader(
            gateway.generations.by_id, max_batch_size=MAX_BATCH
        )
        self.audit_events: DataLoader[UUID, tables.AuditEvent | None] = DataLoader(
            gateway.identity.audit.by_id, max_batch_size=MAX_BATCH
        )
        self.sessions_of_user: DataLoader[UUID, list[tables.Session]] = DataLoader(
            self._sessions_of_users, max_batch_size=MAX_BATCH
        )
        self.visible_sessions = self._visible(gateway.identity.sessions.visible)
        self.visible_users = self._visible(gateway.identity.accounts.visible)
        self.visible_api_keys = self._visible(gateway.identity.api_keys.visible)
        self.visible_groups = self._visible(gateway.identity.groups.visible)
        self.groups_of_user: DataLoader[UUID, list[tables.Group]] = DataLoader(
            gateway.identity.groups.of_users, max_batch_size=MAX_BATCH
        )
        self.member_counts: DataLoader[UUID, int] = DataLoader(
            gateway.identity.groups.member_counts, max_batch_size=MAX_BATCH
        )
        self.visible_generations = self._visible(gateway.generations.visible)
        # not remembered: who watches a generation may ask for its text again when there is more of it
        self.outputs: DataLoader[UUID, Output | GatewayError | None] = DataLoader(
            self._outputs, max_batch_size=MAX_BATCH, cache=False
        )
        self.inputs: DataLoader[UUID, KeptInput | GatewayError | None] = DataLoader(
            self._inputs, max_batch_size=MAX_BATCH
        )
        self.media: DataLoader[UUID, bytes | GatewayError | None] = DataLoader(self._media, max_batch_size=MAX_BATCH)
        self.text_expiries: DataLoader[UUID, datetime | None] = DataLoader(
            gateway.generations.text_expiries, max_batch_size=MAX_BATCH
        )
        self.attempts: DataLoader[UUID, list[Attempt]] = DataLoader(
            gateway.generations.attempts, max_batch_size=MAX_BATCH, cache=False
        )
        self.models: DataLoader[str, Model | None] = DataLoader(self._models, max_batch_size=MAX_BATCH)
        self.loaded_models: DataLoader[str, Mapping[str, LoadedModel] | None] = DataLoader(
            gateway.catalog.loaded_models, max_batch_size=MAX_BATCH
        )

    async def _models(self, names: list[str]) -> list[Model | None]:
        access = ALL_MODELS if self._principal is None else self._principal.models
        return await self._gateway.catalog.by_name(names, access)

    async def _sessions_of_users(self, user_ids: list[UUID]) -> list[list[tables.Session]]:
        if self._principal is None:
            return [[] for _ in user_ids]
        return await self._gateway.identity.sessions.of_users(self._principal, user_ids)

    async def _outputs(self, ids: list[UUID]) -> list[Output | GatewayError | None]:
        return await self._gateway.generations.outputs(ids, self._max_text, self._principal)

    async def _inputs(self, ids: list[UUID]) -> list[KeptInput | GatewayError | None]:
        return await self._gateway.generations.inputs(ids, self._max_text)

    async def _media(self, ids: list[UUID]) -> list[bytes | GatewayError | None]:
        return await self._gateway.generations.media(ids, self._max_text)

    def _visible(
        self, find: Callable[[Principal, Sequence[UUID]], Awaitable[list[_Row | None]]]
    ) -> DataLoader[UUID, _Row | None]:
        async def load(ids: list[UUID]) -> list[_Row | None]:
            return [None] * len(ids) if self._principal is None else await find(self._principal, ids)

        return DataLoader(load, max_batch_size=MAX_BATCH)
