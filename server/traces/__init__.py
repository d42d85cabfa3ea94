"""Traces for OpenTelemetry: a span for each operation and each generation, and one for each model server asked.

The packages are an extra. `make_spans` alone imports what needs them, and only where traces are wanted.
"""

from contextlib import AbstractContextManager
from typing import Protocol

from backends.protocol import Backend
from db.tables import Generation
from gateway.generation import Outcome
from server.logs import RequestLine
from server.settings import Settings, SettingsError

__all__ = ["Spans", "make_spans"]


class Spans(Protocol):
    """What makes spans."""

    def operation(self, line: RequestLine) -> AbstractContextManager[None]:
        """Put a span around a GraphQL operation."""
        ...

    def generation(self, row: Generation) -> AbstractContextManager[None]:
        """Put a span around a generation."""
        ...

    def generation_ended(self, row: Generation, outcome: Outcome) -> None:
        """Tell the generation's span how it ended."""
        ...

    def traced(self, backend: Backend) -> Backend:
        """Give the same backend, with a span around each answer."""
        ...

    def close(self) -> None:
        """Send what has not been sent."""
        ...


def make_spans(settings: Settings) -> Spans | None:
    """Make what traces; None where that is not wanted. Raises SettingsError where the packages are missing."""
    if not settings.traces:
        return None
    try:
        from server.traces.spans import OtlpSpans
    except ImportError as error:
        raise SettingsError(
            "OLLAGRAPH_TRACES needs the packages of OpenTelemetry, which are not installed: "
            "pip install 'ollagraph[traces]', or set OLLAGRAPH_TRACES to false."
        ) from error
    return OtlpSpans(content=settings.traces_content)
