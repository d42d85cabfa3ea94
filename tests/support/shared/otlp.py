"""A receiver of traces by OTLP over HTTP: a real server, which remembers the spans that it got."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.identity.serving import served


@dataclass(frozen=True)
class SeenSpan:
    """A span as it was received. Ids are in hexadecimal digits; `parent` is empty for the first of a trace."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    service: str
    events: int


@dataclass
class Receiver:
    """The spans, in the order in which they ended."""

    url: str = ""
    spans: list[SeenSpan] = field(default_factory=list[SeenSpan])
    raw: bytes = b""

    def named(self, name: str) -> list[SeenSpan]:
        """Give the spans of this name."""
        return [span for span in self.spans if span.name == name]

    async def receive(self, request: Request) -> Response:
        """Take what an exporter sends."""
        data = await request.body()
        self.raw += data
        message: Any = ExportTraceServiceRequest.FromString(data)
        for resource in message.resource_spans:
            service = _attributes(resource.resource.attributes).get("service.name", "")
            self.spans += [_seen(span, service) for scope in resource.scope_spans for span in scope.spans]
        return Response(media_type="application/x-protobuf")


def _seen(span: Any, service: str) -> SeenSpan:
    attributes = _attributes(span.attributes)
    trace, own, parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    return SeenSpan(span.name, trace, own, parent, attributes, span.status.code == 2, service, len(span.events))


def _attributes(given: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in given}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind or "string_value")


@asynccontextmanager
async def otlp_receiver() -> AsyncGenerator[Receiver]:
    """Listen on a free port for as long as the block lasts."""
    receiver = Receiver()
    app = Starlette(routes=[Route("/v1/traces", receiver.receive, methods=["POST"])])
    async with served(app) as url:
        receiver.url = url
        yield receiver
