"""Models."""

from datetime import datetime
from typing import Self

import strawberry

from gateway import catalog
from gateway.catalog import Capability
from schema.node import Node, global_id
from schema.scalars import BigInt


@strawberry.type(description="A model that can be asked.")
class Model(Node):
    name: str = strawberry.field(description="The name to ask for it by.")
    backend: str = strawberry.field(description="The model server that has it.")
    capabilities: list[Capability] | None = strawberry.field(
        description="What it can do; null where its backend does not tell."
    )
    context_length: int | None = strawberry.field(description="How many tokens prompt and answer may have together.")
    size: BigInt | None = strawberry.field(description="Its size in bytes.")
    family: str | None = strawberry.field(description="Its architecture, such as llama.")
    parameter_size: str | None = strawberry.field(description="How many parameters it has, such as 8.0B.")
    quantization_level: str | None = strawberry.field(description="How its weights are stored, such as Q4_K_M.")
    digest: str | None = strawberry.field(description="The hash by which its backend tells versions apart.")
    modified_at: datetime | None = strawberry.field(description="When its backend got it.")

    @classmethod
    def of(cls, model: catalog.Model) -> Self:
        """The model of the catalog."""
        info = model.info
        return cls(
            id=global_id("Model", model.name),
            name=model.name,
            backend=model.backend.name,
            capabilities=None if info.capabilities is None else sorted(info.capabilities),
            context_length=info.context_length,
            size=None if info.size_bytes is None else BigInt(info.size_bytes),
            family=info.family,
            parameter_size=info.parameter_size,
            quantization_level=info.quantization,
            digest=info.digest,
            modified_at=info.modified_at,
        )
