"""The file that a backup is: a compressed tar with a manifest, the database, and the secret.

manifest.json      what is in it: version, revision, kind of database, and for each file its size and SHA-256
ollagraph.db       a whole SQLite database; or database.dump, what pg_dump writes
secret.key         what signs access tokens, where it is in the data folder
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import click
import orjson

FORMAT = 1
MANIFEST = "manifest.json"
SQLITE_FILE, DUMP_FILE = "ollagraph.db", "database.dump"

_CHUNK = 1 << 20
_LARGEST_MANIFEST = 1 << 20
_COMPRESSION = 1
"""Level 6 makes a tenth smaller files, in four times as long."""


class BackupError(click.ClickException):
    """A backup cannot be made or restored. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A file in an archive."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive tells of itself."""

    database: str
    revision: str | None
    version: str
    made_at: str
    files: Mapping[str, Packed]
    format: int = FORMAT


def write_archive(target: Path, manifest: Manifest, files: Mapping[str, Path], done: Callable[[int], None]) -> None:
    """Write an archive, readable by its owner only; it appears whole. `done` gets the bytes of each piece packed."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            with tarfile.open(fileobj=out, mode="w:gz", compresslevel=_COMPRESSION) as tar:
                _add(tar, MANIFEST, io.BytesIO(text := orjson.dumps(asdict(manifest))), len(text))
                for name, path in files.items():
                    with path.open("rb") as file:
                        _add(tar, name, _Told(file, done), manifest.files[name].bytes)
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def read_archive(source: Path, folder: Path, done: Callable[[int], None]) -> tuple[Manifest, dict[str, Path]]:
    """Unpack an archive into a folder, and check that all of it is there. Raises BackupError."""
    try:
        with tarfile.open(source, mode="r:gz") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST or first.size > _LARGEST_MANIFEST:
                raise BackupError(f"{source} is no backup of Ollagraph.")
            manifest = _manifest(source, _opened(tar, first).read())
            files = {it.name: _unpack(tar, it, folder, manifest, done) for it in tar if it.name in manifest.files}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BackupError(f"{source} cannot be read as a backup ({error}).") from error
    if missing := manifest.files.keys() - files.keys():
        raise BackupError(f"{source} is damaged: {', '.join(sorted(missing))} is not in it.")
    return manifest, files


def packed(path: Path) -> Packed:
    """Measure a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Packed(file.tell(), digest.hexdigest())


def _add(tar: tarfile.TarFile, name: str, file: Any, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    tar.addfile(entry, file)


class _Told:
    """A file that tells how much of it is read."""

    def __init__(self, file: IO[bytes], done: Callable[[int], None]) -> None:
        self._file = file
        self._done = done

    def read(self, size: int = -1) -> bytes:
        """Read a piece."""
        data = self._file.read(size)
        self._done(len(data))
        return data


def _manifest(source: Path, text: bytes) -> Manifest:
    try:
        told: dict[str, Any] = orjson.loads(text)
        if told["format"] != FORMAT:
            raise BackupError(f"{source} was made by a newer version of Ollagraph. Restore it with that version.")
        files = {str(name): Packed(**values) for name, values in told.pop("files").items()}
        return Manifest(files=files, **told)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{source} is no backup of Ollagraph.") from error


def _unpack(
    tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path, manifest: Manifest, done: Callable[[int], None]
) -> Path:
    path, digest = folder / Path(entry.name).name, hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        file = _opened(tar, entry)
        while data := file.read(_CHUNK):
            digest.update(data)
            out.write(data)
            done(len(data))
        out.flush()
        os.fsync(out.fileno())
        wanted = manifest.files[entry.name]
        if (out.tell(), digest.hexdigest()) != (wanted.bytes, wanted.sha256):
            raise BackupError(f"The backup is damaged: {entry.name} in it is not what was saved.")
    return path


def _opened(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(entry) if entry.isfile() else None
    if file is None:
        raise BackupError(f"The backup is damaged: {entry.name} in it is no file.")
    return file
