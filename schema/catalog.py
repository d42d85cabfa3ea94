"""Models."""

from datetime import datetime
from typing import Self

import strawberry

from gateway import catalog
from gateway.catalog import BackendKind, BackendState, BreakerState, Capability
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
    "The name, as `models` lists it. As in Ollama, `llama3` means `llama3:latest`, and case does not matter. A "
    "backend's name in front chooses that backend: `ollama/llama3`."
)
"""How a model is named, for the descriptions of inputs."""


@strawberry.input(description="Which models to list. A model has to match every field that is set.")
class ModelFilter:
    capabilities: list[Capability] | None = strawberry.field(
        default=None,
        description="Models with all of these capabilities. A model whose capabilities are unknown does not match.",
    )
    backend: str | None = strawberry.field(
        default=None, description="Models whose requests go to the backend with this name."
    )
    available: bool | None = strawberry.field(
        default=None, description="Models whose backend answers now (true), or does not (false)."
    )
    name_contains: str | None = strawberry.field(
        default=None, description="Models whose name contains this text; case does not matter."
    )

    def to_filter(self) -> catalog.ModelFilter:
        """Give the catalog's filter."""
        return catalog.ModelFilter(self.capabilities, self.backend, self.available, self.name_contains)


@strawberry.type(
    description="A model at one backend. The fields about the loaded model are read from the backend when selected. "
    "They are null if the backend does not answer, or does not report them: only Ollama and the embedded "
    "model do."
)
class ModelDeployment:
    name_there: strawberry.Private[str]
    backend: str = strawberry.field(description="The name of the backend.")
    available: bool = strawberry.field(
        description="Whether the backend answers now. If not, the other fields come from its last list; `backends` "
        "says why."
    )
    digest: str | None = strawberry.field(description="The backend's hash of this version of the model.")
    size_bytes: SafeInt | None = strawberry.field(description="The size of the model's files, in bytes.")
    modified_at: datetime | None = strawberry.field(description="When the backend received this version.")
    running: int = strawberry.field(
        description="How many generations this replica runs at the backend, over all its models."
    )
    waiting: int = strawberry.field(
        description="How many generations wait in this replica's queue for the backend, over all its models."
    )

    @strawberry.field(description="Whether the model is in memory now.")
    async def loaded(self, info: Info) -> bool | None:
        """Null where the backend does not tell."""
        all_loaded = await info.context.loaders.loaded_models.load(self.backend)
        return None if all_loaded is None else self.name_there in all_loaded

    @strawberry.field(description="The GPU memory that the loaded model uses, in bytes.")
    async def size_vram_bytes(self, info: Info) -> SafeInt | None:
        """Null where the model is not loaded."""
        now = await self._now(info)
        return None if now is None else _size(now.size_vram_bytes)

    @strawberry.field(description="When the model is unloaded if nobody uses it before.")
    async def loaded_until(self, info: Info) -> datetime | None:
        """Null where the model is not loaded."""
        now = await self._now(info)
        return None if now is None else now.loaded_until

    @strawberry.field(
        description="The most tokens that prompt and answer can have together, as the model is loaded now."
    )
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
    name: str = strawberry.field(description="Its name, for use in requests.")
    available: bool = strawberry.field(
        description="Whether its backend answers now. If not, the model comes from the backend's last list, and "
        "requests will probably fail; `backends` says why."
    )
    capabilities: list[Capability] | None = strawberry.field(
        description="What it can do; null if its backend does not report it."
    )
    context_length: int | None = strawberry.field(
        description="The most tokens that prompt and answer can have together. Ollama loads a model with fewer "
        "unless the option `contextLength` asks for more."
    )
    family: str | None = strawberry.field(description="Its architecture, such as llama.")
    parameter_size: str | None = strawberry.field(description="How many parameters it has, such as 8.0B.")
    quantization_level: str | None = strawberry.field(description="How its weights are stored, such as Q4_K_M.")

    @strawberry.field(
        description="The backends that serve the model. Requests go to the first one; the others take over if it "
        "fails and `onBackendLoss` is CONTINUE.",
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
    name: str = strawberry.field(description="Its name in this gateway, as in `ModelDeployment.backend`.")
    kind: BackendKind = strawberry.field(description="The API it offers.")
    ready: bool = strawberry.field(description="Whether it answered the last request for its list of models.")
    error: str | None = strawberry.field(
        description="Why it is not ready, for people; contains no address and no key. Null while it is ready."
    )
    latency_ms: float | None = strawberry.field(
        description="How long the last request for its list of models took, in milliseconds. Null while it is not "
        "ready."
    )
    breaker: BreakerState = strawberry.field(
        description="Whether the process that answers this sends generations to it. After several failed answers in a "
        "row it is left alone for a while. Each replica and each worker decides by itself."
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
            breaker=state.breaker,
        )


def _size(number: int | None) -> SafeInt | None:
    known = _up_to(MAX_SAFE_INTEGER, number)
    return None if known is None else SafeInt(known)


def _up_to(limit: int, number: int | None) -> int | None:
    return number if number is not None and number <= limit else None
