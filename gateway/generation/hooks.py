"""What generations ask and tell those who extend the gateway. `gateway.plugins` is the one who answers, if at all."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from auth.principal import Principal
from backends.protocol import Chunk
from db.tables import Generation
from gateway.generation.record import LedgerEntry
from gateway.generation.request import GenerationRequest
from gateway.streams import Event

Observer = Callable[[Sequence[Event]], None]
"""Is told the events of one generation, once they are in the stream log. It must not raise, and not wait."""


Recorded = Callable[[Sequence[tuple[LedgerEntry, dict[str, Any]]]], None]
"""Is told the ends that are on record now, each with its row of the usage ledger. It must not raise, and not wait."""


class OutputFilter(Protocol):
    """Stands between a model server and the stream of one generation."""

    async def feed(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Give what may be shown by now, in the place of what came. Raises GatewayError to end the generation."""
        ...


class GenerationHooks(Protocol):
    """Who extends the gateway."""

    async def before_generate(self, principal: Principal, request: GenerationRequest) -> GenerationRequest:
        """Give the request as it is to be asked. Raises GatewayError to refuse it."""
        ...

    async def output_filter(self, row: Generation, said: str) -> OutputFilter | None:
        """Give what an answer goes through, behind what was `said` before; None: it is shown as it comes."""
        ...

    def observer(self, row: Generation) -> Observer | None:
        """Give who is told the events of a generation; None for nobody."""
        ...


class NoHooks:
    """Nobody extends the gateway."""

    async def before_generate(self, principal: Principal, request: GenerationRequest) -> GenerationRequest:
        """Leave it."""
        return request

    async def output_filter(self, row: Generation, said: str) -> OutputFilter | None:
        """Give none."""

    def observer(self, row: Generation) -> Observer | None:
        """Give none."""


NO_HOOKS: GenerationHooks = NoHooks()
