"""The types of settings that are more than a number or a word: how they are read from text, and brought into form."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode

from auth.addresses import NotAnAddress, parse_host_name, parse_network, parse_origin
from auth.password_policy import CharacterClass
from auth.roles import BUILT_IN_ROLES, ROLE_NAME
from backends.wire import ollama_address, openai_address

_PATH_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")


def _json(value: Any, kind: type, example: str) -> Any:
    """Read a value as it stands in the environment. Raises ValueError for JSON of another kind."""
    if not isinstance(value, str):
        return value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, kind):
        raise ValueError(f"must be {example}")
    return found


def _strings(value: Any) -> Any:
    return _json(value, list, 'a list in JSON, such as ["a", "b"]')


def _object(value: Any) -> Any:
    return _json(value, dict, 'an object in JSON, such as {"a": "b"}')


def _roles(rules: dict[str, str]) -> dict[str, str]:
    for role in rules.values():
        if not ROLE_NAME.fullmatch(role):
            raise ValueError(f"{role[:64]!r} cannot be a role; those built in are {', '.join(BUILT_IN_ROLES)}")
    return rules


def _origin(origin: str) -> str:
    return str(_parsed(parse_origin, origin.rstrip("/"), "is not an origin such as https://a.example:8443"))


def _origins(origins: list[str]) -> list[str]:
    what = "is not an origin such as https://a.example:8443"
    return ["*" if origin.strip() == "*" else str(_parsed(parse_origin, origin, what)) for origin in origins]


def _hosts(hosts: list[str]) -> list[str]:
    stripped = [host.strip() for host in hosts]
    for host in stripped:
        if host != "*":
            _parsed(parse_host_name, host.removeprefix("*."), "is not a host such as a.example or *.a.example")
    return stripped


def _networks(networks: list[str]) -> list[str]:
    what = "is not an address or a network such as 10.0.0.0/8"
    return [str(_parsed(parse_network, network, what)) for network in networks]


def _parsed(parse: Callable[[str], object], text: str, what: str) -> object:
    """Parse an entry of a list. Raises ValueError with a sentence."""
    try:
        return parse(text)
    except NotAnAddress:
        raise ValueError(f"{text[:100]!r} {what}") from None


def _path_prefix(path: str) -> str:
    prefix = path.rstrip("/")
    if prefix and not _PATH_PREFIX.fullmatch(prefix):
        raise ValueError("must be a path such as /ai, of letters, digits and -._~ between slashes")
    return prefix


def _in_lower_case(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and there is no such home folder") from None


def _sendable(key: SecretStr) -> SecretStr:
    """Check that a key can stand in a header. The sentence must not repeat it."""
    text = key.get_secret_value()
    if "\n" in text or "\r" in text:
        raise ValueError("holds a line break: set it to the key alone, in one line")
    if not (text.isascii() and text.isprintable()):
        raise ValueError("holds a character that cannot be sent (a key is printable ASCII): copy the key again")
    return key


def _request_rates(text: str) -> str:
    from gateway.request_limits import parse_request_rules  # whose library takes a while to load

    parse_request_rules(text)
    return text


_DefaultIsRight = Field(validate_default=False)
"""Spares who set nothing the loading of the gateway, 45 MB: the supervisor of workers, and short commands."""

RequestRates = Annotated[str, AfterValidator(_request_rates), _DefaultIsRight]
"""So many requests in a while, in the words of the `limits` library."""


def _thresholds(text: str) -> str:
    from gateway.limits import parse_thresholds

    parse_thresholds(text)
    return text


LimitThresholds = Annotated[str, AfterValidator(_thresholds), _DefaultIsRight]


def _webhook_secret(secret: SecretStr) -> SecretStr:
    from gateway.notices import parse_webhook_secrets

    parse_webhook_secrets(secret.get_secret_value())
    return secret


def _webhook_url(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    return url


WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
WebhookUrl = Annotated[SecretStr, AfterValidator(_webhook_url)]
"""Which may hold a secret, in its path for one. Neither sentence may repeat it."""

AnyCase = BeforeValidator(_in_lower_case)
"""For a choice of words."""


def _in_capitals(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


Capitals = BeforeValidator(_in_capitals)
"""For a choice of the API's words."""


def _on_or_off(value: Any) -> Any:
    """Take what means yes or no for a word, in any of the forms that other settings take."""
    word = str(value).lower().replace("_", "-")
    if word in {"true", "1", "yes", "y", "t"}:
        return "on"
    return "off" if word in {"false", "0", "no", "n", "f"} else word


def _count(value: Any) -> Any:
    """Take `auto` for the cores that this process may use."""
    if not isinstance(value, str) or value.strip().isdecimal():
        return value
    if value.strip().lower() != "auto":
        raise ValueError("must be a number of processes, or auto")
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Workers = Annotated[int, BeforeValidator(_count)]

Introspection = Annotated[Literal["on", "off", "signed-in"], BeforeValidator(_on_or_off)]

FilePath = Annotated[Path, AfterValidator(_expanded)]
"""In which `~` is the home folder."""

Key = Annotated[SecretStr, AfterValidator(_sendable)]
"""That is sent in a header."""

OllamaUrl = Annotated[str, AfterValidator(ollama_address)]
OpenAIUrl = Annotated[str, AfterValidator(openai_address)]
"""The address of a model server, in the form that its adapter needs."""

Classes = Annotated[list[CharacterClass], NoDecode, BeforeValidator(_strings)]
"""Kinds of characters in a password."""

Strings = Annotated[list[str], NoDecode, BeforeValidator(_strings)]
Origins = Annotated[Strings, AfterValidator(_origins)]
Hosts = Annotated[Strings, AfterValidator(_hosts)]
Networks = Annotated[Strings, AfterValidator(_networks)]

PathBelow = Annotated[str, AfterValidator(_path_prefix)]
"""Below which the gateway is served; nothing for the root."""

OneOrigin = Annotated[str, AfterValidator(_origin)]

RoleRules = Annotated[dict[str, str], NoDecode, BeforeValidator(_object), AfterValidator(_roles)]
"""From a group to a role, in the order in which they are looked at."""

PluginSettings = Annotated[dict[str, dict[str, str]], NoDecode, BeforeValidator(_object)]


def secret_settings(settings: type[BaseSettings]) -> list[str]:
    """Name the settings that are secrets; the environment may give each of them in a file, too: NAME_FILE."""
    return [name for name, field in settings.model_fields.items() if _holds_secret(field.annotation)]


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))
