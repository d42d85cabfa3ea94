"""A backend with a span around each answer, which the model server is told of (`traceparent`)."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import orjson
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from backends.errors import BackendError
from backends.protocol import (
    Backend,
    ChatRequest,
    Chunk,
    FinishChunk,
    OnLoading,
    TextChunk,
    UsageChunk,
)
from backends.wire import sent_headers
from backends.wrapped import WrappedBackend

_PROPAGATOR = TraceContextTextMapPropagator()


class TracedBackend(WrappedBackend):
    """The backend inside, with spans."""

    def __init__(self, inner: Backend, tracer: Tracer, *, content: bool) -> None:
        super().__init__(inner)
        self._tracer = tracer
        self._content = content

    @asynccontextmanager
    async def generate(
        self, request: ChatRequest, on_loading: OnLoading | None = None
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Ask the backend inside, within a span. Raises BackendError."""
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self.kind.value.lower(),
            "gen_ai.request.model": request.model,
            "ollagraph.backend": self.name,
        }
        with self._tracer.start_as_current_span(
            f"chat {request.model}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,  # a model server may repeat in its message what it was asked
            set_status_on_exception=False,
        ) as span:
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier)
            token = sent_headers.set(carrier)
            try:
                answer = self._inner.generate(request, on_loading)
                async with answer if not span.is_recording() else self._told(span, request, answer) as batches:
                    yield batches
            finally:
                sent_headers.reset(token)

    @asynccontextmanager
    async def _told(
        self, span: Span, request: ChatRequest, answer: AbstractAsyncContextManager[AsyncIterator[Sequence[Chunk]]]
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Tell the span of the request, and at its end of the answer."""
        seen = _Seen()
        options = request.options
        for name, value in (
            ("temperature", options.temperature),
            ("top_p", options.top_p),
            ("max_tokens", options.max_tokens),
        ):
            if value is not None:
                span.set_attribute(f"gen_ai.request.{name}", value)
        if self._content:
            messages = [_told(message.role, message.text) for message in request.messages]
            span.set_attribute("gen_ai.input.messages", orjson.dumps(messages).decode())
        try:
            async with answer as batches:
                yield seen.noting(batches, text=self._content)
        except BackendError as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            seen.tell(span)


class _Seen:
    """What has come of an answer."""

    def __init__(self) -> None:
        self._last: FinishChunk | UsageChunk | None = None
        self._reason: str | None = None
        self._text: list[str] = []

    async def noting(self, batches: AsyncIterator[Sequence[Chunk]], *, text: bool) -> AsyncIterator[Sequence[Chunk]]:
        """Give what comes, and look at it."""
        async for chunks in batches:
            for chunk in chunks:
                if isinstance(chunk, FinishChunk | UsageChunk):
                    self._last = chunk
                    self._reason = chunk.reason.value if isinstance(chunk, FinishChunk) else self._reason
                elif text and isinstance(chunk, TextChunk):
                    self._text.append(chunk.text)
            yield chunks

    def tell(self, span: Span) -> None:
        """Tell a span of it."""
        if self._last is not None:
            usage = self._last.usage
            if usage.prompt_tokens is not None:
                span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
            if usage.completion_tokens is not None:
                span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
        if self._reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [self._reason])
        if self._text:
            output = [_told("assistant", "".join(self._text))]
            span.set_attribute("gen_ai.output.messages", orjson.dumps(output).decode())


def _told(role: str, text: str) -> dict[str, object]:
    """Give a message as the conventions have it; of files in it nothing."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}
