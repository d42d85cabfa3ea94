"""All plugins of a gateway, as the rest of it calls them."""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import anyio

from auth.principal import Principal
from db.tables import Generation
from gateway.audit import SIGN_INS, AuditOutcome, Deed
from gateway.catalog import BackendState
from gateway.generation import GenerationRequest, LedgerEntry, Observer
from gateway.plugins.errors import GuardFailed, RequestRefused
from gateway.plugins.filtering import Filters
from gateway.plugins.plugin import (
    BackendChange,
    GenerationEnd,
    GenerationInfo,
    OutputFilter,
    Plugin,
    Refused,
    SignIn,
    UsageRecord,
)
from gateway.plugins.thread import PluginFailed, PluginThread


class UnusablePlugin(Exception):
    """A plugin cannot be used. The message is for whoever runs the gateway."""


class Plugins:
    """The plugins in the order in which they were named; each sees what the one before it made of a request."""

    def __init__(self, plugins: Mapping[str, Plugin], plugin_timeout: float) -> None:
        self.threads = [PluginThread(name, plugin, plugin_timeout) for name, plugin in plugins.items()]
        self._before = self._having("before_generate")
        self._filtering = self._having("output_filter")
        self._watching = self._having("on_event")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Have them at work within the block. Raises UnusablePlugin where one does not start.

        They start one after the other and stop all at once, so that those that hang cost the time of one.
        """
        begun: list[PluginThread] = []
        try:
            for thread in self.threads:
                begun.append(thread)
                try:
                    await thread.start()
                except (PluginFailed, Refused) as error:
                    raise UnusablePlugin(f"The plugin {thread.name!r} does not start; the log says why.") from error
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as stopping:
                    for thread in begun:
                        stopping.start_soon(thread.stop)

    async def before_generate(self, principal: Principal, request: GenerationRequest) -> GenerationRequest:
        """Let each change the request. Raises RequestRefused, and GuardFailed where a guard fails."""
        for thread in self._before:
            try:
                changed = await thread.call("before_generate", principal, request)
            except Refused as refusal:
                raise RequestRefused(str(refusal) or "The request is refused.") from refusal
            except PluginFailed as error:
                if thread.guards:
                    raise GuardFailed(thread.name) from error
                continue
            if isinstance(changed, GenerationRequest):
                request = replace(changed, idempotency_key=request.idempotency_key)
            elif changed is not None and thread.guards:
                raise GuardFailed(thread.name)
        return request

    async def output_filter(self, row: Generation, said: str) -> Filters | None:
        """Give the filters that an answer goes through. Raises GuardFailed."""
        found: list[tuple[PluginThread, OutputFilter]] = []
        for thread in self._filtering:
            try:
                filter = await thread.call("output_filter", info_of(row), said)
            except (PluginFailed, Refused) as error:
                if thread.guards:
                    raise GuardFailed(thread.name) from error
                continue
            if filter is not None:
                found.append((thread, filter))
        return Filters(found) if found else None

    def observer(self, row: Generation) -> Observer | None:
        """Give who tells the plugins of the events of a generation."""
        if not self._watching:
            return None
        info = info_of(row)

        def observe(events: Sequence[Any]) -> None:
            for thread in self._watching:
                thread.tell("on_event", info, tuple(events))

        return observe

    def recorded(self, ends: Sequence[tuple[LedgerEntry, dict[str, Any]]]) -> None:
        """Tell the plugins of ends that are on record, and of what was used."""
        if not self.threads:
            return
        for entry, row in ends:
            info = info_of(entry.generation)
            end, usage = _end_of(entry, info), _usage_of(info, row)
            for thread in self.threads:
                thread.tell("after_generate", end)
                thread.tell("on_usage", usage)

    def note_deed(self, deed: Deed) -> None:
        """Tell the plugins where a deed of the audit log is a sign-in."""
        if deed.action in SIGN_INS:
            succeeded = deed.outcome is AuditOutcome.SUCCESS
            name = deed.name or deed.details.get("username")
            told = SignIn(succeeded, name, deed.user_id, deed.code, deed.client.host, dict(deed.details))
            for thread in self.threads:
                thread.tell("on_sign_in", told)

    def note_backend(self, state: BackendState) -> None:
        """Tell the plugins that a model server answers again, or no longer, or that its breaker turned."""
        for thread in self.threads:
            thread.tell("on_backend_change", BackendChange(state.name, state.ready, state.error, state.breaker))

    def failures(self) -> Counter[tuple[str, str, str]]:
        """Count the calls that failed so far, by plugin, hook and reason."""
        return Counter({(it.name, *kind): count for it in self.threads for kind, count in list(it.failures.items())})

    def _having(self, hook: str) -> list[PluginThread]:
        return [thread for thread in self.threads if hook in thread.hooks]


def info_of(row: Generation) -> GenerationInfo:
    """Give what plugins are told of a generation."""
    return GenerationInfo(
        id=row.id,
        user_id=row.user_id,
        api_key_id=row.api_key_id,
        group_ids=tuple(UUID(group_id) for group_id in row.group_ids or ()),
        model=row.model,
        backend=row.backend,
        tags=dict(row.tags or {}),
        end_user=row.end_user,
        created_at=row.created_at,
    )


def _end_of(entry: LedgerEntry, info: GenerationInfo) -> GenerationEnd:
    outcome, timings = entry.outcome, entry.outcome.timings
    return GenerationEnd(
        generation=info,
        state=outcome.state,
        finish_reason=outcome.finish_reason,
        cancel_reason=outcome.cancel_reason,
        error_code=outcome.error.code if outcome.error else None,
        error_message=outcome.error.message if outcome.error else None,
        at=entry.at,
        queued_ms=timings.queued_ms,
        time_to_first_token_ms=timings.time_to_first_token_ms,
        total_ms=timings.total_ms,
    )


def _usage_of(info: GenerationInfo, row: Mapping[str, Any]) -> UsageRecord:
    return UsageRecord(
        generation=info,
        state=row["state"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cached_tokens=row["cached_tokens"],
        thinking_tokens=row["thinking_tokens"],
        cost_nano=row["cost_nano"],
        currency=row["currency"],
        at=row["at"],
    )
