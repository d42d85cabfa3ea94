"""Why a model server refuses or fails, in its own words, whichever of the many forms it says them in."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast

from backends.errors import (
    BackendContextTooLong,
    BackendError,
    BackendFailed,
    BackendModelNotFound,
    BackendOverloaded,
    BackendRejected,
    BackendUnavailable,
)
from backends.protocol import Json
from backends.wire.json import as_count, as_list, as_object, as_text, json_value
from backends.wire.unicode import decoded, repaired

MAX_MESSAGE_LENGTH = 300
"""Longest piece of a server's own error message that is handed on, in characters."""

LONGEST_WAIT_SECONDS = 3600.0
"""The longest Retry-After that is believed."""

_DEEPEST = 8
_NO_WORDS = {"", "null", "none"}
_LISTS = ("error", "errors", "detail")
_FIELDS = (
    *("error", "message", "msg", "detail", "errors", "error_message", "reason", "title"),
    *("error_msg", "status_msg", "error_description", "description", "faultstring", "raw"),
)
_NOT_TOLD = {*_FIELDS, "input", "body", "request", "messages"}
"""Beside the names of the words: those under which a request is given back, with the prompt in it."""

_CODES = ("code", "type", "status", "param")
"""What servers write beside their words, for programs to read."""

_ERRORS_ALONE = {"error", "errors", "message", "detail", "code", "status", "statusCode", "type", "param", "path"}
"""What stands beside the words where a body is nothing but an error."""

ADVICE = "Shorten the prompt, or give the model a longer context."
"""What helps against a context that is too short."""

_PRIVATE = re.compile(r"https?://[^\s\"']+|Bearer \S+|\bsk-[\w*.-]+")
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!|\?|[a-z][a-z0-9]*[\s/>])", re.IGNORECASE)
_EVENT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:$|:|(?:data|event|id|retry)\b)")
_DATA = re.compile(rb"^data:(.*)$", re.MULTILINE)
_CONTEXT = re.compile(
    r"context[ _](?:length|window|size)|maximum context|exceed_context|too many (?:input |prompt )?tokens|n_ctx"
    r"|(?:prompt|input|request)\b.{0,40}\b(?:too (?:long|large)|exceeds?)\b.{0,60}\b(?:context|tokens?|length)"
    r"|longer than (?:the )?(?:maximum|model)",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"\bmodel\b|model_?not_?found|deployment_?not_?found",
    re.IGNORECASE | re.DOTALL,
)
_STATUS_ERRORS: dict[int, type[BackendError]] = {
    408: BackendUnavailable,
    502: BackendUnavailable,
    504: BackendUnavailable,
}


def is_html(data: bytes, content_type: str = "") -> bool:
    """Tell whether this is a web page, as a proxy, a sign-in form or a wrong address gives it."""
    return "html" in content_type.lower() or _HTML.match(data) is not None


def html_error() -> BackendError:
    """Give the error for a web page in the place of an answer."""
    return BackendRejected(
        "A web page (HTML) came instead of a model's answer. Check the address of this backend, and whether a proxy or "
        "a sign-in page stands before it."
    )


def server_message(value: Json) -> str | None:
    """Find the server's own words in a decoded error, shortened and without addresses and keys.

    Ollama says `{"error": "…"}` (and there JSON text since 0.30), OpenAI `{"error": {"message": "…"}}`, vLLM
    `{"object": "error", "message": "…"}`, FastAPI `{"detail": "…"}` or a list of `{"msg": "…"}`, others a list of
    errors, or a message in a message.
    """
    words = _words(value, _DEEPEST)
    if not words:
        return None
    text = _PRIVATE.sub("[...]", " ".join(words.split()))
    param = as_text(as_object(as_object(value).get("error")).get("param") or as_object(value).get("param"))
    if param and param not in text:
        text = f"{text} ({param})"
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"


def told_error(value: Json) -> str | None:
    """Give the words of the error that a piece of an answer is, empty where it has none; None where it is no error.

    An `error` that is null is none, and so is one without words beside an answer.
    """
    if isinstance(value, list):
        return next((said for item in cast("list[Json]", value) if (said := told_error(item)) is not None), None)
    entry = as_object(value)
    alone = entry.keys() <= _ERRORS_ALONE and not isinstance(entry.get("message"), dict)
    worded = alone and (bool(as_text(entry.get("message"))) or any(entry.get(name) is not None for name in _LISTS))
    error = entry.get("error")
    if error and is_answer(entry) and _status(value) is None and _words(error, _DEEPEST).lower() in _NO_WORDS:
        return None
    if error or worded or "error" in (entry.get("object"), entry.get("type")):
        return server_message(entry) or ""
    return None


def is_answer(entry: dict[str, Json]) -> bool:
    """Tell whether something of an answer stands here, as OpenAI's API or Ollama's has it."""
    return bool(entry.get("choices") or isinstance(entry.get("message"), dict) or "response" in entry)


def failure(value: Json) -> BackendError:
    """Give the error that came in the middle of an answer, or in its place under the status 200."""
    said, codes, status = server_message(value), _codes(value), _status(value)
    if status is not None and said is not None:
        return _by_status(status, said, None, codes)
    return _by_words(said, codes) or BackendFailed(said or "The model server failed while answering.")


def failure_instead(data: bytes) -> BackendError | None:
    """Give the error for what came in the place of an answer, in the form of none: words, or JSON with words in it."""
    if not data.strip():
        return None
    if is_html(data):
        return html_error()
    event = _DATA.search(data) if _EVENT.match(data) else None
    data = event[1] if event else data
    try:
        value = json_value(data)
    except ValueError:
        plain = not _EVENT.match(data) and not data.lstrip().startswith((b"{", b"["))
        value = decoded(data) if plain else None
    return failure(value) if server_message(value) and not is_answer(as_object(value)) else None


def error_for_status(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, model: str = ""
) -> BackendError:
    """Turn an HTTP status other than 200, and what the server said with it, into the error that it means.

    `model` is the name that was asked for: a 404 that names it is about the model, and another about the address.
    """
    headers = headers or {}
    said, codes = _said(body, headers.get("content-type", ""))
    if status in {401, 403}:
        return BackendRejected(
            f"The model server refused the gateway's own credentials ({status}). Check the API key of this backend."
        )
    if (status == 404 and not _names_model(f"{said} {codes}", model)) or 300 <= status < 400:
        return BackendRejected(f"The model server has nothing here ({status}). Check the address of this backend.")
    said = said or f"The model server answered with status {status}."
    return _by_status(status, said, _retry_after(headers), codes)


def _names_model(told: str, model: str) -> bool:
    named = bool(model) and re.search(rf"(?<!\w){re.escape(model)}(?!\w)", told) is not None
    return named or _NO_MODEL.search(told) is not None


def _by_status(status: int, said: str, retry_after: float | None, codes: str) -> BackendError:
    if status in {429, 503}:
        return BackendOverloaded(said, retry_after=retry_after, refused=status == 429)
    if status == 404:
        return BackendModelNotFound(said)
    if (error := _by_words(said, codes)) is not None:
        return error
    return _STATUS_ERRORS.get(status, BackendFailed if status >= 500 else BackendRejected)(said)


def _by_words(said: str | None, codes: str) -> BackendError | None:
    """Give what the words mean, whatever the status: servers agree on few statuses, and a stream has none."""
    if said is not None and _CONTEXT.search(f"{said} {codes}"):
        return BackendContextTooLong(f"{said.rstrip('.')}. {ADVICE}")
    return None


def _said(body: bytes, content_type: str) -> tuple[str | None, str]:
    """Give the words of a body, and its codes."""
    if is_html(body, content_type):
        return None, ""
    try:
        value = json_value(body)
    except ValueError:
        value = decoded(body)
    return server_message(value), _codes(value)


def _errors(value: Json) -> list[dict[str, Json]]:
    """Give the error in an error, and so on, outermost first; one that is JSON text is looked into."""
    found: list[dict[str, Json]] = []
    while value and len(found) < _DEEPEST:
        if isinstance(value, str):
            try:
                value = json_value(value.encode(errors="replace"))
            except ValueError:
                break
        if isinstance(value, list):
            value = cast("list[Json]", value)[0]
        found.append(entry := as_object(value))
        value = entry.get("error")
    return found


def _codes(value: Json) -> str:
    return " ".join(as_text(entry.get(name)) for entry in _errors(value) for name in _CODES)


def _status(value: Json) -> int | None:
    """Give the HTTP status that an error tells of itself, as a number or as text."""
    for entry in reversed(_errors(value)):
        for code in (entry.get("code"), entry.get("status")):
            status = int(code) if isinstance(code, str) and re.fullmatch("[45][0-9][0-9]", code) else as_count(code)
            if status is not None and 400 <= status < 600:
                return status
    return None


def _words(value: Json, depth: int) -> str:
    """Give the first words of an error. Text that is itself JSON is looked into."""
    if depth == 0 or not value:
        return ""
    if isinstance(value, str):
        text = repaired(value).strip()
        if text.startswith(("{", "[")):
            try:
                return _words(json_value(text.encode()), depth - 1) or text
            except ValueError:
                return text
        return text
    if isinstance(value, list):
        found = (_words(item, depth - 1) for item in cast("list[Json]", value))
        return next((words for words in found if words), "")
    entry = {name.lower(): item for name, item in as_object(value).items()}
    inner = [name for name, item in entry.items() if name not in _NOT_TOLD and isinstance(item, dict | list)]
    found = (_words(entry[name], depth - 1) for name in [*_FIELDS, *inner] if name in entry)
    words = next((words for words in found if words), as_text(entry.get("code")))
    place = ".".join(str(part) for part in as_list(entry.get("loc")) if part != "body")
    return f"{place}: {words}" if place else words


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds to wait, from Retry-After: a number, or a date (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS) if seconds == seconds else None
