"""Models."""

from datetime import datetime
from typing import Self

import strawberry

from gateway import catalog
from gateway.catalog import BackendKind, BackendState, Capability
from schema.node import Node, global_id
from schema.scalars import MAX_SAFE_INTEGER, SafeInt

_MAX_INT = 2**31 - 1
"""GraphQL's Int (specification, section 3.5.1). What is larger counts as not told, so that it spoils no list."""

MODEL_NAME = (
    "The name, as `models` lists it. As in Ollama, `llama3` means `llama3:latest`, in any case of letters; a server's "
    "name before it chooses that server: `ollama/llama3`."
)
"""How a model is named, for the descriptions of inputs."""


@strawberry.type(description="A model that can be asked.")
class Model(Node):
    name: str = strawberry.field(description="The name to ask for it by.")
    backend: str = strawberry.field(description="The model server that has it.")
    available: bool = strawberry.field(
        description="Whether its model server answers now. If not, the model is from the last list, and asking it "
        "will probably fail; `backends` tells why."
    )
    capabilities: list[Capability] | None = strawberry.field(
        description="What it can do; null where its backend does not tell."
    )
    context_length: int | None = strawberry.field(
        description="How many tokens prompt and answer can have together. Ollama loads a model with fewer unless "
        "`contextLength` of the options asks for more."
    )
    size: SafeInt | None = strawberry.field(description="Its size in bytes.")
    family: str | None = strawberry.field(description="Its architecture, such as llama.")
    parameter_size: str | None = strawberry.field(description="How many parameters it has, such as 8.0B.")
    quantization_level: str | None = strawberry.field(description="How its weights are stored, such as Q4_K_M.")
    digest: str | None = strawberry.field(description="The hash by which its backend tells versions apart.")
    modified_at: datetime | None = strawberry.field(description="When its backend got it.")

    @classmethod
    def of(cls, model: catalog.Model) -> Self:
        """The model of the catalog."""
        info = model.info
        size = _up_to(MAX_SAFE_INTEGER, info.size_bytes)
        return cls(
            id=global_id("Model", model.name),
            name=model.name,
            backend=model.backend.name,
            available=model.available,
            capabilities=None if info.capabilities is None else sorted(info.capabilities),
            context_length=_up_to(_MAX_INT, info.context_length),
            size=None if size is None else SafeInt(size),
            family=info.family,
            parameter_size=info.parameter_size,
            quantization_level=info.quantization,
            digest=info.digest,
            modified_at=info.modified_at,
        )


@strawberry.type(description="A model server behind this gateway.")
class Backend:
    name: str = strawberry.field(description="Its name in this gateway, as `Model.backend` gives it.")
    kind: BackendKind = strawberry.field(description="The API that it speaks.")
    ready: bool = strawberry.field(description="Whether it answered when it was last asked for its models.")
    error: str | None = strawberry.field(
        description="Why it is not ready, for a person to read; holds no address and no key. Null while it is ready."
    )
    latency_ms: float | None = strawberry.field(
        description="Milliseconds that its last list of models took. Null while it is not ready."
    )

    @classmethod
    def of(cls, state: BackendState) -> Self:
        """The state that the catalog tells."""
        return cls(
            name=state.name,
            kind=state.kind,
            ready=state.ready,
            error=state.error,
            latency_ms=None if state.latency_ms is None else round(state.latency_ms, 2),
        )


def _up_to(limit: int, number: int | None) -> int | None:
    return number if number is not None and number <= limit else None
