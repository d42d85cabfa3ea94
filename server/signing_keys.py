"""The folder of signing keys: reading it, looking for changes, and writing a new key into it.

Each `*.pem` file is one key. What changes there holds within seconds, in every replica that sees the folder.
"""

import logging
import os
import secrets
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from auth.signing_keys import PairAlgorithm, Published, TokenKeys, UnusableKeyError, new_pem, read_pem
from server.first_start import former_secret, signing_secret
from server.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

WATCH_SECONDS = 2.0

MAX_FILE_BYTES = 65_536
"""Far more than the largest key has."""

_State = tuple[tuple[str, int, int, int], ...]
"""Name, inode, nanosecond of the last change and size of each file: what tells that a key must be read again."""


class SigningKeys:
    """The keys of this gateway. Making them reads the folder, and raises SettingsError for what cannot be used.

    Without a folder there is the secret alone, which is made where none is set.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.signing_keys
        delay = timedelta(seconds=settings.signing_key_delay)
        if self._folder is None:
            self.keys = TokenKeys(signing_secret(settings), publish_delay=delay, former=former_secret(settings))
            return
        given = None if settings.secret_key is None else settings.secret_key.get_secret_value()
        self.keys = TokenKeys(given, publish_delay=delay)
        try:
            self._state = _state(self._folder)
            self.keys.publish(_read(self._folder, self._state, first=True))
        except UnusableKeyError as error:
            raise SettingsError(f"OLLAGRAPH_SIGNING_KEYS: {error}") from error
        if not self.keys.can_sign:
            raise SettingsError(
                f"OLLAGRAPH_SIGNING_KEYS: {self._folder} holds no private key. "
                "Make one with: ollagraph create-signing-key"
            )

    async def watch(self) -> None:
        """Look for changes until cancelled. What cannot be used is logged, and the keys stay as they were."""
        while self._folder is not None:
            await anyio.sleep(WATCH_SECONDS)
            await self.look()
        await anyio.sleep_forever()

    async def look(self) -> None:
        """Read the folder again if it has changed."""
        if self._folder is not None:
            await anyio.to_thread.run_sync(self._look, self._folder)

    def _look(self, folder: Path) -> None:
        try:
            state = _state(folder)
            if state == self._state:
                return
            self._state = state
            pairs = _read(folder, state, first=False)
        except UnusableKeyError as error:
            logger.error("the signing keys stay as they were. OLLAGRAPH_SIGNING_KEYS: %s", error)
            return
        self.keys.publish(pairs)
        kids = ", ".join(jwk["kid"] for jwk in self.keys.public)
        logger.info("the signing keys were read again: %s", kids or "none")


def write_new_key(folder: Path, algorithm: PairAlgorithm) -> tuple[Path, str]:
    """Make a key in the folder, for its owner only; give its file and its `kid`. Raises SettingsError.

    Its name is the time: it is the newest. The file appears whole, since gateways may be looking.
    """
    pem = new_pem(algorithm)
    kid = read_pem(pem).kid or ""
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.pem"
    unfinished = folder / f".{secrets.token_hex(8)}.unfinished"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise SettingsError(f"No key can be written to the folder {folder} ({reason}).") from error
    return path, kid


def _state(folder: Path) -> _State:
    """Give the key files of the folder, in the order of their names. Raises UnusableKeyError."""
    try:
        found = [(path.name, path.stat()) for path in folder.iterdir() if _is_key_file(path)]
    except FileNotFoundError as error:
        raise UnusableKeyError(
            f"there is no {error.filename}. Make the folder and a key in it with: ollagraph create-signing-key"
        ) from error
    except OSError as error:
        raise UnusableKeyError(f"{error.filename or folder} cannot be read ({error.strerror}).") from error
    return tuple(sorted((name, it.st_ino, max(it.st_mtime_ns, it.st_ctime_ns), it.st_size) for name, it in found))


def _is_key_file(path: Path) -> bool:
    return path.suffix == ".pem" and not path.name.startswith(".")


def _read(folder: Path, state: _State, *, first: bool) -> list[Published]:
    """Read all keys. Raises UnusableKeyError, with the name of the file, for the first that cannot be used.

    How old a key is, its file says when a gateway starts: by its inode's last change, which no copying keeps. Later a
    key that is new to the gateway is as old as this look at it.
    """
    now = datetime.now(UTC)
    pairs: list[Published] = []
    for name, _, changed, _ in state:
        try:
            key = read_pem(_bytes_of(folder / name))
        except UnusableKeyError as error:
            raise UnusableKeyError(f"{folder / name} {error}") from error
        since = min(now, datetime.fromtimestamp(changed / 1e9, UTC)) if first else now
        pairs.append(Published(name, key, since))
    return pairs


def _bytes_of(path: Path) -> bytes:
    """Read a file that nobody but its owner can change or, if it is private, read. Raises UnusableKeyError."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnusableKeyError("is not a file.")
            pem = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnusableKeyError(f"cannot be read ({error.strerror}).") from error
    if len(pem) > MAX_FILE_BYTES:
        raise UnusableKeyError("is too large to be a key.")
    if os.name == "posix":
        _check_owner(status, private=b"PRIVATE KEY-----" in pem)
    return pem


def _check_owner(status: os.stat_result, *, private: bool) -> None:
    """Refuse a key that others could have put there, or can read.

    The group may read a key of root's, as PostgreSQL has it: that is how Kubernetes gives secrets to a process.
    """
    if status.st_uid not in {0, os.geteuid()}:
        raise UnusableKeyError("belongs to another user: it must belong to the user that runs the gateway, or to root.")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnusableKeyError("can be changed by others. Run chmod 600 on it.")
    readers = stat.S_IROTH if status.st_uid == 0 and os.geteuid() != 0 else stat.S_IRGRP | stat.S_IROTH
    if private and status.st_mode & readers:
        raise UnusableKeyError("can be read by others. Run chmod 600 on it.")
