"""The addresses of model servers, as people write them and as their APIs stand behind them."""

import re
from urllib.parse import SplitResult, urlsplit

_VERSION = re.compile(r"v\d+(?:\.\d+)*(?:[-.]?(?:alpha|beta|preview|rc)\d*)?", re.IGNORECASE)
_OPENAI_OPERATION = re.compile(
    r"/(?:chat/completions|completions|models|embeddings|responses)$|(?<=/v1)/(?:chat|models/[^/]+)$", re.IGNORECASE
)
_OLLAMA_API = re.compile(r"/(?:api|v1)$", re.IGNORECASE)
_OLLAMA_OPERATION = re.compile(
    r"/api/(?:chat|generate|tags|show|ps|version|embed|embeddings|pull|push|create|copy|delete)$"
    r"|/v1/(?:chat|chat/completions|completions|models|embeddings|responses|messages)$",
    re.IGNORECASE,
)


def openai_address(text: str) -> str:
    """Give the address that `/models` and `/chat/completions` follow.

    A path that has a version in it is taken as it is (`/api/paas/v4`, `/v1beta/openai`); to any other one `/v1` is
    added. Raises ValueError with a sentence that says what to write instead and repeats no password and no query.
    """
    if "@" in text:
        raise _wrong("must not hold a user and a password. Set the key in OLLAGRAPH_OPENAI_API_KEY instead.")
    url = _parsed(text, "http://localhost:8000/v1")
    path = _path(url)
    base = _OPENAI_OPERATION.sub("", path)
    instead = f"{url.scheme}://{url.netloc}{base}"
    if "api-version" in url.query:
        raise _wrong(
            "must not hold a query such as ?api-version=…. Write the address of the API that needs none, which Azure "
            f"has at {url.scheme}://{url.netloc}/openai/v1."
        )
    _check_end(text, path, base, instead)
    versioned = any(_VERSION.fullmatch(segment) for segment in path.split("/"))
    return instead if versioned else f"{instead}/v1"


def ollama_address(text: str) -> str:
    """Give the address that `/api/chat` follows; `/api` or `/v1` at the end is left out.

    Raises ValueError with a sentence that says what to write instead and repeats no password and no query.
    """
    url = _parsed(text, "http://localhost:11434")
    path = _path(url)
    if "@" in path:
        raise _wrong("must have a user and a password before its host alone, with @ and / in them as %40 and %2F.")
    host = url.netloc.rpartition("@")[2]
    operation = _OLLAMA_OPERATION.search(path)
    base = _OLLAMA_API.sub("", path[: operation.start()] if operation else path)
    _check_end(text, path if operation else base, base, f"{url.scheme}://{host}{base}")
    return f"{url.scheme}://{url.netloc}{base}"


def _wrong(what: str) -> ValueError:
    return ValueError(f"The address of a model server {what}")


def _parsed(text: str, example: str) -> SplitResult:
    if any(character.isspace() or not character.isprintable() for character in text):
        raise _wrong(f"must be one address without blanks and line breaks, such as {example}.")
    try:
        url = urlsplit(text)
        is_address = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        is_address, url = False, SplitResult("", "", "", "", "")
    if not is_address:
        raise _wrong(f"must begin with http:// or https:// and name a host, such as {example}.")
    return url


def _path(url: SplitResult) -> str:
    """Give the path without slashes that stand for nothing; empty where there is none."""
    return "".join(f"/{segment}" for segment in url.path.split("/") if segment)


def _check_end(text: str, path: str, base: str, instead: str) -> None:
    for mark, what in (("?", "a query"), ("#", "a fragment")):
        if mark in text:
            raise _wrong(f"must not hold {what} (what begins with {mark}). Write {instead} instead.")
    if path != base:
        raise _wrong(f"must not name one operation ({path[len(base) :]}). Write {instead} instead.")
