"""Spans of operations and generations, and how they are sent: by OTLP over HTTP, as the variables OTEL_… say."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager

from opentelemetry.context import Context as TraceContext
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from backends.protocol import Backend
from db.tables import Generation
from gateway.generation import Outcome
from server.logs import RequestLine
from server.traces.backend import TracedBackend

UNNAMED = "unknown_service"
"""What OpenTelemetry calls a service that has no name."""

_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpSpans:
    """Makes the spans of one gateway. `content` is whether prompts and answers stand in them."""

    def __init__(self, *, content: bool) -> None:
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, UNNAMED)).startswith(UNNAMED):
            resource = resource.merge(Resource({SERVICE_NAME: "ollagraph"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("ollagraph")
        self._content = content

    @contextmanager
    def operation(self, line: RequestLine) -> Generator[None]:
        """Put a span around a GraphQL operation, below that of the client. What it is called is known at its end."""
        carrier = {
            name: value for name, value in (("traceparent", line.traceparent), ("tracestate", line.tracestate)) if value
        }
        parent = _PROPAGATOR.extract(carrier, TraceContext())
        with self._current("operation", parent, SpanKind.SERVER) as span:
            line.trace_id = f"{span.get_span_context().trace_id:032x}"
            try:
                yield
            finally:
                if span.is_recording():
                    fields = line.fields
                    if kind := fields.get("type"):
                        span.update_name(str(kind))
                        span.set_attribute("graphql.operation.type", kind)
                    if name := fields.get("operation"):
                        span.set_attribute("graphql.operation.name", name)
                    span.set_attribute("ollagraph.request.id", line.request_id or "")
                    if code := fields.get("code"):
                        span.set_attribute("error.type", code)
                        span.set_status(StatusCode.ERROR)

    @contextmanager
    def generation(self, row: Generation) -> Generator[None]:
        """Put a span around a generation, below that of the operation that began it."""
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": row.model,
            "ollagraph.generation.id": str(row.id),
            "ollagraph.user.id": str(row.user_id),
        }
        with self._current(f"generate {row.model}", attributes=attributes):
            yield

    def _current(
        self,
        name: str,
        parent: TraceContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Span]:
        """Begin a span that is the current one. What an exception says may be what somebody asked: it is not told."""
        return self._tracer.start_as_current_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
        )

    def generation_ended(self, row: Generation, outcome: Outcome) -> None:
        """Tell the generation's span, which is the current one, how it ended."""
        span = get_current_span()
        if not span.is_recording():
            return
        usage, timings = outcome.usage, outcome.timings
        span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
        span.set_attribute("ollagraph.generation.state", outcome.state.value)
        if timings.queued_ms is not None:
            span.set_attribute("ollagraph.queued", timings.queued_ms / 1000)
        if timings.time_to_first_token_ms is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", timings.time_to_first_token_ms / 1000)
        if outcome.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [outcome.finish_reason.value])
        if outcome.error is not None:
            span.set_attribute("error.type", outcome.error.code.value)
            span.set_status(StatusCode.ERROR)

    def traced(self, backend: Backend) -> Backend:
        """Give the same backend, with a span around each answer."""
        return TracedBackend(backend, self._tracer, content=self._content)

    def close(self) -> None:
        """Send what has not been sent. Takes as long as the receiver, up to OTEL_EXPORTER_OTLP_TIMEOUT."""
        self._provider.shutdown()
