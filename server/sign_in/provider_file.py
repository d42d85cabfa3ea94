"""Any number of identity providers, in a file in TOML: one table for each, by its name.

[google]
kind = "oidc"                              # or "ldap", "github"
issuer = "https://accounts.google.com"     # and the other options of that kind, by the names of its settings
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from server.settings import PREFIX, ProviderSettings, SettingsError, UnreadableSettings, read_secret, secret_settings

KINDS = ("oidc", "ldap", "github")

_WHERE = f"{PREFIX}PROVIDERS_FILE"


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """A provider of the file; `options` has the fields of its kind. `where` is how a message names its place."""

    name: str
    kind: str
    options: ProviderSettings
    where: str


def read_provider_file(path: Path, default_role: str) -> Iterator[ProviderEntry]:
    """Give the providers of a file, in its order. Raises SettingsError with a sentence for each mistake."""
    mistakes: list[str] = []
    for name, table in _tables(path).items():
        where = f"{_WHERE}: [{name}]"
        try:
            yield _entry(name, table, default_role, where)
        except SettingsError as error:
            mistakes.append(f"{where}: {error}")
    if mistakes:
        raise SettingsError("\n".join(mistakes))


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{_WHERE}: {path} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:  # the message has a place, and nothing of the text
        raise SettingsError(f"{_WHERE}: {path} is not TOML: {error}") from error


def _entry(name: str, table: object, default_role: str, where: str) -> ProviderEntry:
    if not isinstance(table, dict):
        raise SettingsError("must be a table with the options of a provider.")
    options = dict(cast("dict[str, Any]", table))
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise SettingsError(f"kind must be one of {', '.join(KINDS)}.")
    names = {field.removeprefix(f"{kind}_") for field in ProviderSettings.model_fields if field.startswith(f"{kind}_")}
    names.discard("name")
    names |= {f"{secret}_file" for secret in _secrets(kind)}
    for option in options:
        if option not in names:
            nearest = get_close_matches(option, names, 1, 0.7)
            raise SettingsError(
                f"{option[:64]} is not an option of {kind}." + (f" Is {nearest[0]} meant?" if nearest else "")
            )
    values: dict[str, Any] = {f"{kind}_{option}": value for option, value in _with_secrets(kind, options).items()}
    try:
        read = ProviderSettings.model_validate(values | {"provider_default_role": default_role})
    except ValidationError as error:
        mistakes = [
            f"{str(it['loc'][0]).removeprefix(f'{kind}_')}: {it['msg'].removeprefix('Value error, ')}"
            for it in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError(" ".join(mistakes)) from None
    return ProviderEntry(name, kind, read, where)


def _secrets(kind: str) -> list[str]:
    """Name the options of a kind that are secrets, each of which may be in a file: `client_secret_file`."""
    fields = secret_settings(ProviderSettings)
    return [field.removeprefix(f"{kind}_") for field in fields if field.startswith(f"{kind}_")]


def _with_secrets(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Put the contents of the files with secrets in the place of their paths. Raises SettingsError."""
    for secret in _secrets(kind):
        path = options.pop(f"{secret}_file", None)
        if path is None:
            continue
        if secret in options or not isinstance(path, str):
            raise SettingsError(f"set {secret}, or the path of a file with it as {secret}_file, not both.")
        try:
            options[secret] = read_secret(f"{secret}_file", path, secret)
        except UnreadableSettings as error:
            raise SettingsError(str(error)) from error
    return options
