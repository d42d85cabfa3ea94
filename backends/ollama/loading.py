"""Whether Ollama loads a model now (`/api/ps`, server/sched.go)."""

import httpx

from backends.protocol import Json
from backends.wire import as_object, fetch_list


class LoadedModels:
    """Looks at what is loaded, for one who has asked a model and waits.

    Ollama lists a model as soon as it begins to load it. Until the first request to it has ended there is no time at
    which it will be unloaded, and each look is told another one, reckoned from now.
    """

    def __init__(self, client: httpx.AsyncClient, model: str) -> None:
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
