"""The documents that an application's build made, under ids of its choosing.

They come from a file, or from all `*.json` files of a folder, so that several applications can each bring their own.
What changes there holds within seconds: a new version of an application is deployed without restarting the gateway.
Each file is a JSON object of ids and documents, or Apollo's persisted query manifest.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import anyio
import orjson
from graphql import DocumentNode, OperationDefinitionNode

logger = logging.getLogger(__name__)

WATCH_SECONDS = 2.0

MOST_NOTED = 1_000
"""Documents of which the log tells that they are not trusted."""

Trust = Literal["off", "allow", "only"]

_State = Sequence[tuple[Path, int, int]]
"""The files, with the nanosecond of their last change and their size in bytes."""


class ManifestError(Exception):
    """A file of trusted documents cannot be used. The message says why."""


class TrustedDocuments:
    """Trusted documents by their ids, as they stand at `path` now. Making one raises ManifestError."""

    def __init__(self, path: Path | None = None, trust: Trust = "off") -> None:
        self.trust = trust
        self._path = None if trust == "off" else path
        self._by_id: Mapping[str, str] = {}
        self._texts: frozenset[str] = frozenset()
        self._noted: set[str] = set()
        self._state: _State = ()
        if self._path is not None:
            self._state = _state(self._path)
            self._take(_read(self._state, self._path))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, text: str) -> bool:
        return text in self._texts

    def find(self, id: str) -> str | None:
        """Give the document of this id."""
        return self._by_id.get(id)

    def note_untrusted(self, text: str, document: DocumentNode) -> None:
        """Log, once for each, a document that ran and is not trusted: with `only`, it would be refused."""
        if self.trust != "allow" or text in self._texts:
            return
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest in self._noted or len(self._noted) >= MOST_NOTED:
            return
        self._noted.add(digest)
        names = [node.name.value for node in _operations(document) if node.name is not None]
        named = f"the operation {', '.join(names)[:200]}" if names else "an operation without a name"
        logger.warning("not trusted, and refused where OLLAGRAPH_TRUSTED_DOCUMENTS=only: %s, sha256:%s", named, digest)

    async def watch(self) -> None:
        """Look for changes until cancelled. What cannot be used is logged, and what was read before stays."""
        while self._path is not None:
            await anyio.sleep(WATCH_SECONDS)
            await self.look(self._path)
        await anyio.sleep_forever()

    async def look(self, path: Path) -> None:
        """Read again what has changed."""
        try:
            state = await anyio.to_thread.run_sync(_state, path)
            if state == self._state:
                return
            self._state = state
            by_id = await anyio.to_thread.run_sync(_read, state, path)
        except ManifestError as error:
            logger.error("%s The trusted documents stay as they were.", error)
            return
        self._take(by_id)
        logger.info("%d trusted documents were read", len(by_id))

    def _take(self, by_id: Mapping[str, str]) -> None:
        self._by_id, self._texts = by_id, frozenset(by_id.values())


def bare_id(id: str) -> str:
    """Give an id without the prefix that says that it is a hash."""
    return id.removeprefix("sha256:")


def load_manifest(path: Path) -> dict[str, str]:
    """Read a file of trusted documents. Raises ManifestError."""
    try:
        manifest: object = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}).") from error
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"{path} is not valid JSON: {error}.") from error
    entries = _object(manifest)
    if isinstance(entries.get("operations"), list):
        listed = [_object(entry) for entry in cast("list[object]", entries["operations"])]
        entries = {str(entry.get("id")): entry.get("body") for entry in listed}
    texts = {bare_id(id): text for id, text in entries.items() if isinstance(text, str) and text.strip()}
    if not texts or len(texts) < len(entries):
        raise ManifestError(f"{path} must be a JSON object of ids and documents, or Apollo's persisted query manifest.")
    return texts


def _state(path: Path) -> _State:
    """List the files, and what tells whether they have changed. Raises ManifestError."""
    try:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        return [(file, (stat := file.stat()).st_mtime_ns, stat.st_size) for file in files]
    except OSError as error:
        raise ManifestError(f"{error.filename or path} cannot be read ({error.strerror}).") from error


def _read(state: _State, path: Path) -> dict[str, str]:
    """Read all files. Raises ManifestError, also where two of them give one id to different documents."""
    by_id: dict[str, str] = {}
    for file, _, _ in state:
        texts = load_manifest(file)
        if differing := next((id for id, text in texts.items() if by_id.get(id, text) != text), None):
            raise ManifestError(f"{file} has another document under the id {differing[:80]} than a file before it.")
        by_id |= texts
    if not by_id:
        raise ManifestError(f"{path} holds no file *.json with trusted documents.")
    return by_id


def _operations(document: DocumentNode) -> list[OperationDefinitionNode]:
    return [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]


def _object(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}
