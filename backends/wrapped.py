"""A wrapper round any backend, for others to change what they are about."""

from collections.abc import Mapping

from backends.protocol import Backend, BackendKind, LoadedModel, MediaKind, ModelInfo


class WrappedBackend:
    """Everything of a backend but its answers, as the one inside tells it."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        """The name of the backend inside."""
        return self._inner.name

    @property
    def kind(self) -> BackendKind:
        """The kind of the backend inside."""
        return self._inner.kind

    @property
    def parallel(self) -> int:
        """What the backend inside makes at once."""
        return self._inner.parallel

    def takes(self, kind: MediaKind, model: str) -> bool:
        """Tell what the backend inside tells."""
        return self._inner.takes(kind, model)

    async def models(self) -> list[ModelInfo]:
        """List the models of the backend inside. Raises BackendError."""
        return await self._inner.models()

    async def describe(self, model: ModelInfo) -> ModelInfo:
        """Complete a model of the backend inside. Raises BackendError."""
        return await self._inner.describe(model)

    async def loaded_models(self) -> Mapping[str, LoadedModel] | None:
        """Ask the backend inside what it has in memory. Raises BackendError."""
        return await self._inner.loaded_models()

    async def ping(self) -> None:
        """Ping the backend inside. Raises BackendError."""
        await self._inner.ping()
