"""The environment and the file `.env` as raw text: what is taken from them, and what they hold that nobody reads."""

import os
import re
from collections.abc import Iterable, Mapping
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


class UnreadableEnvFile(Exception):
    """The file `.env` is none that can be read. The message says why, and holds nothing of what is in it."""


def read_env_file(path: Path = ENV_FILE) -> dict[str, str | None]:
    """Read the file `.env` of the current folder; nothing where there is none. Raises UnreadableEnvFile."""
    here = path.absolute()
    try:
        text = path.read_text(ENV_FILE_ENCODING)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreadableEnvFile(f"{here} cannot be read ({error.strerror}). Settings stand in that file.") from error
    except UnicodeDecodeError as error:
        raise UnreadableEnvFile(f"{here} is not text in UTF-8. Settings stand in that file.") from error
    if "\0" in text:
        raise UnreadableEnvFile(f"{here} is not text. Settings stand in that file.")
    return dotenv_values(path, encoding=ENV_FILE_ENCODING)


def cleaned(values: Mapping[str, str | None]) -> dict[str, str | None]:
    """Give the variables without white space around them, and without those that are empty or not meant for us."""
    kept: dict[str, str | None] = {}
    for name, value in values.items():
        if value is None or not name.upper().startswith(PREFIX):
            kept[name] = value
            continue
        # what a file or a secret store appends is a line break, and a blank may be meant
        text = value.strip("\r\n") if name.upper().endswith("PASSWORD") else value.strip()
        if text and not _is_of_kubernetes(name, text):
            kept[name] = text
    return kept


def remarks(names: Iterable[str]) -> list[str]:
    """Tell what the environment and `.env` hold under our prefix that is none of these settings, in sentences."""
    settings = {f"{PREFIX}{name.upper()}" for name in names}
    known = settings | OTHER_NAMES
    found: list[str] = []
    for where, values in (("the environment", os.environ), (str(ENV_FILE), read_env_file())):
        for name, value in values.items():
            upper = name.upper()
            if not upper.startswith(PREFIX):
                continue
            if _is_of_kubernetes(name, value or ""):
                if upper in known:
                    found.append(f"{upper} in {where} is the address of a Kubernetes service, and counts as not set.")
            elif upper not in known:
                nearest = get_close_matches(upper, settings, 1, 0.7)
                hint = f" Is {nearest[0]} meant?" if nearest else ""
                found.append(f"{upper} in {where} is not a setting.{hint}")
    return found


def _is_of_kubernetes(name: str, value: str) -> bool:
    name = name.upper()
    return _SERVICE_LINK.fullmatch(name) is not None or (
        name.endswith("_PORT") and _SERVICE_URL.match(value.strip()) is not None
    )
