"""Who watches what the gateway does: metrics and traces, as the settings ask for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from backends.protocol import Backend
from gateway.generation import GenerationObserver
from gateway.tasks import in_forgettable_thread
from server.logs import RequestObserver
from server.metrics import Metrics, make_metrics
from server.settings import Settings
from server.traces import Spans, make_spans

CLOSE_SECONDS = 5.0
"""How long a gateway that stops waits for the receiver of its last spans."""


@dataclass(frozen=True, slots=True)
class Observers:
    """The metrics and the spans of one gateway, None where they are not wanted."""

    metrics: Metrics | None = None
    spans: Spans | None = None

    @property
    def requests(self) -> RequestObserver:
        """Whoever wants to know of requests."""
        return RequestObserver(
            None if self.metrics is None else self.metrics.request_ended,
            None if self.spans is None else self.spans.operation,
        )

    @property
    def generations(self) -> GenerationObserver:
        """Whoever wants to know of generations."""
        recorded = [] if self.metrics is None else [self.metrics.recorded]
        if self.spans is None:
            return GenerationObserver(recorded)
        return GenerationObserver(recorded, self.spans.generation, self.spans.generation_ended)

    def traced(self, backends: Sequence[Backend]) -> Sequence[Backend]:
        """Give the backends, with spans around their answers where those are wanted."""
        return backends if self.spans is None else [self.spans.traced(backend) for backend in backends]

    async def close(self) -> None:
        """Send what has not been sent."""
        if self.spans is not None:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await in_forgettable_thread(self.spans.close)


UNOBSERVED = Observers()


def make_observers(settings: Settings, *, several_workers: bool) -> Observers:
    """Make them as the settings ask for them. Raises SettingsError."""
    return Observers(make_metrics(settings, shared=several_workers), make_spans(settings))
