"""Models."""

from datetime import datetime
from typing import Self

import strawberry

from gateway import catalog
from gateway.catalog import BackendKind, BackendState, Capability
from schema.context import Info
from schema.cost import list_of
from schema.node import Node, global_id
from schema.scalars import MAX_SAFE_INTEGER, SafeInt

_MAX_INT = 2**31 - 1
"""GraphQL's Int (specification, section 3.5.1). What is larger counts as not told, so that it spoils no list."""

ASSUMED_MODELS = 50
"""Models that a gateway is assumed to list. The operator decides how many there are, and the list is in memory."""

ASSUMED_DEPLOYMENTS = 2
"""Backends that a model is assumed to be at. Most are at one."""

MODEL_NAME = (
    "The name, as `models` lists it. As in Ollama, `llama3` means `llama3:latest`, in any case of letters; a server's "
    "name before it chooses that server: `ollama/llama3`."
)
"""How a model is named, for the descriptions of inputs."""


@strawberry.input(description="Which models to list. A model has to fit every field that is given.")
class ModelFilter:
    capabilities: list[Capability] | None = strawberry.field(
        default=None, description="Models with all of these capabilities. One whose backend tells none has none."
    )
    backend: str | None = strawberry.field(
        default=None, description="The name of a backend: models that this backend is asked for."
    )
    available: bool | None = strawberry.field(
        default=None, description="Models whose backend answers now (true), or does not (false)."
    )
    name_contains: str | None = strawberry.field(
        default=None, description="A part of the name, in any case of letters."
    )

    def to_filter(self) -> catalog.ModelFilter:
        """Give the catalog's filter."""
        return catalog.ModelFilter(self.capabilities, self.backend, self.available, self.name_contains)


@strawberry.type(
    description="A model at one backend. What is loaded is asked of the backend when it is selected; it is null where "
    "the backend does not tell it, as all but Ollama's and the embedded one, or does not answer."
)
class ModelDeployment:
    name_there: strawberry.Private[str]
    backend: str = strawberry.field(description="The name of the backend.")
    available: bool = strawberry.field(
        description="Whether the backend answers now. If not, the rest is from its last list; `backends` tells why."
    )
    digest: str | None = strawberry.field(description="The hash by which the backend tells versions apart.")
    size_bytes: SafeInt | None = strawberry.field(description="The size of the model's files, in bytes.")
    modified_at: datetime | None = strawberry.field(description="When the backend got this version.")
    running: int = strawberry.field(
        description="Generations that this replica is running at the backend, for all of the backend's models."
    )
    waiting: int = strawberry.field(
        description="Generations that wait in this replica's queue of the backend, for all of the backend's models."
    )

    @strawberry.field(description="Whether the model is in memory now.")
    async def loaded(self, info: Info) -> bool | None:
        """Null where the backend does not tell."""
        all_loaded = await info.context.loaders.loaded_models.load(self.backend)
        return None if all_loaded is None else self.name_there in all_loaded

    @strawberry.field(description="The memory of graphics processors that the loaded model takes, in bytes.")
    async def size_vram_bytes(self, info: Info) -> SafeInt | None:
        """Null where the model is not loaded."""
        now = await self._now(info)
        return None if now is None else _size(now.size_vram_bytes)

    @strawberry.field(description="When the model will be unloaded if nobody uses it until then.")
    async def loaded_until(self, info: Info) -> datetime | None:
        """Null where the model is not loaded."""
        now = await self._now(info)
        return None if now is None else now.loaded_until

    @strawberry.field(description="How many tokens prompt and answer can have together as the model is loaded now.")
    async def context_length(self, info: Info) -> int | None:
        """Null where the model is not loaded."""
        now = await self._now(info)
        return None if now is None else _up_to(_MAX_INT, now.context_length)

    @classmethod
    def of(cls, deployment: catalog.Deployment) -> Self:
        """Describe a deployment of the catalog."""
        found = deployment.info
        return cls(
            name_there=found.name,
            backend=deployment.backend,
            available=deployment.available,
            digest=found.digest,
            size_bytes=_size(found.size_bytes),
            modified_at=found.modified_at,
            running=deployment.running,
            waiting=deployment.waiting,
        )

    async def _now(self, info: Info) -> catalog.LoadedModel | None:
        """Tell whether it is loaded; all fields of an operation, of all models, share one question to each backend."""
        return ((await info.context.loaders.loaded_models.load(self.backend)) or {}).get(self.name_there)


@strawberry.type(description="A model that can be asked.")
class Model(Node):
    found: strawberry.Private[catalog.Model]
    name: str = strawberry.field(description="The name to ask for it by.")
    available: bool = strawberry.field(
        description="Whether the backend that is asked for it answers now. If not, the model is from the last list, "
        "and asking it will probably fail; `backends` tells why."
    )
    capabilities: list[Capability] | None = strawberry.field(
        description="What it can do; null where its backend does not tell."
    )
    context_length: int | None = strawberry.field(
        description="How many tokens prompt and answer can have together. Ollama loads a model with fewer unless "
        "`contextLength` of the options asks for more."
    )
    family: str | None = strawberry.field(description="Its architecture, such as llama.")
    parameter_size: str | None = strawberry.field(description="How many parameters it has, such as 8.0B.")
    quantization_level: str | None = strawberry.field(description="How its weights are stored, such as Q4_K_M.")

    @strawberry.field(
        description="The backends that list the model. The first one is asked; the others take over where it fails and "
        "`onBackendLoss` is CONTINUE.",
        directives=[list_of(ASSUMED_DEPLOYMENTS)],
    )
    async def deployments(self, info: Info) -> list[ModelDeployment]:
        """One entry for each backend; nobody is asked for it."""
        return [ModelDeployment.of(it) for it in info.context.gateway.catalog.deployments(self.found)]

    @classmethod
    def of(cls, model: catalog.Model) -> Self:
        """Give the model of the catalog."""
        info = model.info
        return cls(
            id=global_id("Model", model.name),
            found=model,
            name=model.name,
            available=model.available,
            capabilities=None if info.capabilities is None else sorted(info.capabilities),
            context_length=_up_to(_MAX_INT, info.context_length),
            family=info.family,
            parameter_size=info.parameter_size,
            quantization_level=info.quantization,
        )


@strawberry.type(description="A model server behind this gateway.")
class Backend:
    name: str = strawberry.field(description="Its name in this gateway, as `ModelDeployment.backend` gives it.")
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
        """Give the state that the catalog tells."""
        return cls(
            name=state.name,
            kind=state.kind,
            ready=state.ready,
            error=state.error,
            latency_ms=None if state.latency_ms is None else round(state.latency_ms, 2),
        )


def _size(number: int | None) -> SafeInt | None:
    known = _up_to(MAX_SAFE_INTEGER, number)
    return None if known is None else SafeInt(known)


def _up_to(limit: int, number: int | None) -> int | None:
    return number if number is not None and number <= limit else None
