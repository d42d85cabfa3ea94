"""The tokens of a person, in one file of their configuration folder, by the address of the gateway.

The file is written whole and then put in the place of the old one, so that whoever reads it sees one or the other. Who
changes it holds a lock on a file beside it: a refresh token works once, and two programs that use the same one at once
would look like a thief to the gateway.
"""

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import mkstemp
from typing import IO, Any

from platformdirs import user_config_path

from server.client.errors import ClientError

FILE = "credentials.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one session, and whose it is. `allow_http`: the person agreed to send them unencrypted."""

    username: str
    access_token: str = field(repr=False)
    expires_at: str
    refresh_token: str = field(repr=False)
    allow_http: bool = False

    @property
    def expiry(self) -> datetime:
        """When the access token expires."""
        return datetime.fromisoformat(self.expires_at)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the file holds. `default` is where the person signed in last."""

    default: str | None = None
    gateways: dict[str, Tokens] = field(default_factory=dict[str, Tokens])

    def with_tokens(self, url: str, tokens: Tokens) -> "Stored":
        """Give the same with other tokens for a gateway."""
        return replace(self, gateways={**self.gateways, url: tokens})

    def with_default(self, url: str) -> "Stored":
        """Give the same with another gateway that is meant where none is named."""
        return replace(self, default=url)

    def without(self, url: str) -> "Stored":
        """Give the same without a gateway."""
        kept = {other: tokens for other, tokens in self.gateways.items() if other != url}
        return Stored(next(iter(kept), None) if self.default == url else self.default, kept)


class CredentialsFile:
    """Reads and writes the file."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or user_config_path("ollagraph", appauthor=False)) / FILE

    def read(self) -> Stored:
        """Give what is stored; nothing where there is no file. Raises ClientError."""
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return Stored()
        except (OSError, UnicodeDecodeError) as error:
            raise ClientError(f"{self.path} cannot be read ({error}).") from error
        try:
            told: dict[str, Any] = json.loads(text)
            gateways = {url: Tokens(**tokens) for url, tokens in told["gateways"].items()}
            for tokens in gateways.values():
                _ = tokens.expiry
            return Stored(told["default"], gateways)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ClientError(f"{self.path} is damaged. Delete it, and use `ollagraph login` again.") from error

    def write(self, stored: Stored) -> None:
        """Put this in the place of what is stored, for nobody but its owner to read. Raises ClientError.

        To be called within `locked`.
        """
        text = json.dumps({"version": VERSION, **asdict(stored)}, indent=2)
        try:
            descriptor, name = mkstemp(prefix=f".{FILE}.", dir=self.path.parent)  # mode 0600
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(f"{text}\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ClientError(f"{self.path} cannot be written ({error.strerror}).") from error

    @contextmanager
    def locked(self) -> Generator[None]:
        """Let no other program change the file within the block. Raises ClientError."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ClientError(f"{self.path.parent} cannot be written ({error.strerror}).") from error
        with os.fdopen(descriptor, "r+b") as file:
            _lock(file)
            yield  # closing the file releases the lock, also where the program is killed


def _lock(file: IO[bytes]) -> None:
    """Wait until nobody else holds the file, and hold it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
