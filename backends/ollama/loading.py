"""What Ollama has in memory, and whether it loads a model now (`/api/ps`, server/sched.go)."""

from backends.protocol import Json, LoadedModel
from backends.wire import Client, as_count, as_moment, as_object, as_size, as_text, fetch_list


async def loaded_models(client: Client) -> dict[str, LoadedModel]:
    """List what is in memory, by each of its names. Raises BackendError."""
    found: dict[str, LoadedModel] = {}
    for entry in map(as_object, await fetch_list(client, "/api/ps", "models")):
        loaded = LoadedModel(
            size_vram_bytes=as_size(entry.get("size_vram")),
            loaded_until=as_moment(entry.get("expires_at")),
            context_length=as_count(entry.get("context_length")) or None,
        )
        for name in (as_text(entry.get("model")), as_text(entry.get("name"))):
            found[name] = loaded
    return found


class LoadingWatch:
    """Looks at what is loaded, for one who has asked a model and waits.

    Ollama lists a model as soon as it begins to load it. Until the first request to it has ended there is no time at
    which it will be unloaded, and each look is told another one, reckoned from now.
    """

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model
        self._was_missing = False
        self._expires_at: Json = None

    async def is_loading(self) -> bool:
        """Look; what is listed at the first look may be loaded. Raises BackendError."""
        listing = [as_object(entry) for entry in await fetch_list(self._client, "/api/ps", "models")]
        entry = next((entry for entry in listing if self._model in (entry.get("name"), entry.get("model"))), None)
        if entry is None:
            self._was_missing = True
            return True
        before, self._expires_at = self._expires_at, entry.get("expires_at")
        if before is None:
            return self._was_missing
        return before != self._expires_at
