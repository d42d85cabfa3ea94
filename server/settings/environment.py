"""The environment and the file `.env` as raw text: what is taken from them, and what they hold that nobody reads."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

PREFIX = "OLLAGRAPH_"
ENV_FILE = Path(".env")
ENV_FILE_ENCODING = "utf-8-sig"
"""UTF-8, with or without the mark that some editors put before it."""

OTHER_NAMES = frozenset({f"{PREFIX}NEW_PASSWORD", f"{PREFIX}URL"})
"""What the command line reads beside the settings."""

_SERVICE_LINK = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)
"""Kubernetes tells every container of a service `ollagraph`: OLLAGRAPH_PORT=tcp://10.0.0.1:8000, and more like it."""


ORIGINAL_NAMES = {
    **{
        name: f"Set {PREFIX}{name} instead."
        for name in ("ADMIN_PASSWORD", "ADMIN_USERNAME", "CORS_ORIGINS", "DATABASE_URL", "DEBUG", "LOG_FILE",
                     "LOG_LEVEL", "MAX_CONNECTIONS", "PASSWORD_MIN_LENGTH", "RATE_LIMIT_ENABLED", "SECRET_KEY",
                     "WORKERS")
    },
    "LOG_USAGE": "Usage is always recorded, in the database.",
    "OLLAMA_API_BASE_URL": f"Set {PREFIX}OLLAMA_URL instead.",
}  # fmt: skip
"""Settings as other gateways call them, without a prefix, and what to do here (docs/settings.md)."""

MAX_SECRET_SIZE = 65_536
"""Bytes of a file with a secret; a larger one is another file."""


class UnreadableSettings(Exception):
    """A file with settings cannot be read. The message says why, and holds nothing of what is in it."""


def read_env_file(path: Path = ENV_FILE) -> dict[str, str | None]:
    """Read the file `.env` of the current folder; nothing where there is none. Raises UnreadableSettings."""
    here = path.absolute()
    try:
        text = path.read_text(ENV_FILE_ENCODING)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreadableSettings(f"{here} cannot be read ({error.strerror}). Settings stand in that file.") from error
    except UnicodeDecodeError as error:
        raise UnreadableSettings(f"{here} is not text in UTF-8. Settings stand in that file.") from error
    if "\0" in text:
        raise UnreadableSettings(f"{here} is not text. Settings stand in that file.")
    return dotenv_values(path, encoding=ENV_FILE_ENCODING)


def cleaned(values: Mapping[str, str | None], secrets: Iterable[str]) -> dict[str, str | None]:
    """Give the variables without white space around them, and without those that are empty or not meant for us.

    Where a variable NAME_FILE names a file, its content is the secret NAME. Raises UnreadableSettings.
    """
    kept: dict[str, str | None] = {}
    for name, value in values.items():
        if value is None or not name.upper().startswith(PREFIX):
            kept[name] = value
        elif text := _stripped(name, value):
            kept[name] = text
    for secret in secrets:
        variable = f"{PREFIX}{secret}".lower()
        path = kept.pop(f"{variable}_file", None)
        if path is not None and variable in kept:
            raise UnreadableSettings(f"Set {variable.upper()} or {variable.upper()}_FILE, not both.")
        if path is not None:
            kept[variable] = read_secret(f"{variable.upper()}_FILE", path, variable)
    return kept


def _stripped(name: str, value: str) -> str:
    """Give a value without what a file or a secret store appends; nothing for what Kubernetes sets.

    Raises UnreadableSettings.
    """
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise UnreadableSettings(f"{name.upper()} is not text in UTF-8.")  # such bytes come as halves of characters
    # a line break is never meant, and in a password a blank may be
    text = value.strip("\r\n") if name.upper().endswith("PASSWORD") else value.strip()
    return "" if _is_of_kubernetes(name, text) else text


def read_secret(option: str, path: str, name: str) -> str:
    """Read the secret `name` from the file that an option names. Raises UnreadableSettings."""
    where = f"{option}: {path}"
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(MAX_SECRET_SIZE + 1)
    except OSError as error:
        raise UnreadableSettings(f"{where} cannot be read ({error.strerror}).") from error
    if len(content) > MAX_SECRET_SIZE:
        raise UnreadableSettings(f"{where} has more than {MAX_SECRET_SIZE:,} bytes, and is no secret.")
    try:
        text = content.decode(ENV_FILE_ENCODING)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UnreadableSettings(f"{where} is not text in UTF-8.")
    if not (secret := _stripped(name, text)):
        raise UnreadableSettings(f"{where} is empty.")
    return secret


def remarks(names: Iterable[str], secrets: Iterable[str]) -> list[str]:
    """Tell what the environment and `.env` hold that looks like a setting of ours and is none, in sentences."""
    settings = {f"{PREFIX}{name.upper()}" for name in names}
    known = settings | OTHER_NAMES | {f"{PREFIX}{name.upper()}_FILE" for name in secrets}
    given = [(where, name.upper(), value) for where, values in _places() for name, value in values.items()]
    found = [_remark(where, name, value or "", settings, known) for where, name, value in given]
    is_set = {name for _, name, value in given if value}
    found += [
        f"{name} in {where} is not read. {ORIGINAL_NAMES[name]}"
        for where, name, value in given
        if name in ORIGINAL_NAMES and value and is_set.isdisjoint({f"{PREFIX}{name}", f"{PREFIX}{name}_FILE"})
    ]
    return [remark for remark in found if remark is not None]


def _places() -> Iterator[tuple[str, Mapping[str, str | None]]]:
    yield "the environment", os.environ
    yield str(ENV_FILE), read_env_file()


def _remark(where: str, name: str, value: str, settings: set[str], known: set[str]) -> str | None:
    if not name.startswith(PREFIX):
        return None
    if _is_of_kubernetes(name, value):
        told = f"{name} in {where} is the address of a Kubernetes service, and counts as not set."
        return told if name in known else None
    if name in known:
        return None
    longer = [setting for setting in settings if setting.startswith(name)]
    nearest = longer if len(longer) == 1 else get_close_matches(name, settings, 1, 0.7)
    return f"{name} in {where} is not a setting." + (f" Is {nearest[0]} meant?" if nearest else "")


def _is_of_kubernetes(name: str, value: str) -> bool:
    name = name.upper()
    return _SERVICE_LINK.fullmatch(name) is not None or (
        name.endswith("_PORT") and _SERVICE_URL.match(value.strip()) is not None
    )
