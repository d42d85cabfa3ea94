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
_LISTS = ("error", "errors", "detail")
_FIELDS = ("error", "message", "msg", "detail", "errors", "error_message", "reason", "title")
_ERRORS_ALONE = {"error", "errors", "message", "detail", "code", "status", "statusCode", "type", "param", "path"}
"""What stands beside the words where a body is nothing but an error."""

_PRIVATE = re.compile(r"https?://[^\s\"']+|Bearer \S+|\bsk-[\w*.-]+")
_HTML = re.compile(rb"\s*(?:<!doctype html|<html|<head|<body|<\?xml|<!--)", re.IGNORECASE)
_CONTEXT = re.compile(
    r"context[ _](?:length|window|size)|maximum context|exceed_context|too many (?:input |prompt )?tokens|n_ctx"
    r"|(?:prompt|input|request)\b.{0,40}\b(?:too (?:long|large)|exceeds?)\b.{0,60}\b(?:context|tokens?|length)"
    r"|longer than (?:the )?(?:maximum|model)",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,300}\b(?:not found|no such|not exist|unknown|not available|not loaded)|(?:no such|unknown) model"
    r"|model_not_found",
    re.IGNORECASE | re.DOTALL,
)
_STATUS_ERRORS: dict[int, type[BackendError]] = {
    408: BackendUnavailable,
    502: BackendUnavailable,
    504: BackendUnavailable,
}


def is_html(data: bytes, content_type: str = "") -> bool:
    """Whether this is a web page, as a proxy, a sign-in form or a wrong address gives it."""
    return "html" in content_type.lower() or _HTML.match(data) is not None


def html_error() -> BackendError:
    """The error for a web page in the place of an answer."""
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
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"


def told_error(value: Json) -> str | None:
    """The words of the error that a piece of an answer is, empty where it has none; None where it is no error.

    An `error` that is null, or empty beside other things, is none.
    """
    if isinstance(value, list):
        return next((said for item in cast("list[Json]", value) if (said := told_error(item)) is not None), None)
    entry = as_object(value)
    alone = entry.keys() <= _ERRORS_ALONE and not isinstance(entry.get("message"), dict)
    worded = alone and (bool(as_text(entry.get("message"))) or any(entry.get(name) is not None for name in _LISTS))
    if entry.get("error") or worded or "error" in (entry.get("object"), entry.get("type")):
        return server_message(entry) or ""
    return None


def failure(value: Json) -> BackendError:
    """The error that came in the middle of an answer, or in its place under the status 200."""
    said = server_message(value)
    error = as_object(value).get("error")
    status = as_count(as_object(error).get("code") or as_object(value).get("code"))
    if status is not None and 400 <= status < 600 and said is not None:
        return _by_status(status, said, None)
    return _by_words(said) or BackendFailed(said or "The model server failed while answering.")


def error_for_status(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> BackendError:
    """Turn an HTTP status other than 200, and what the server said with it, into the error that it means."""
    headers = headers or {}
    said = _said(body, headers.get("content-type", ""))
    if status in {401, 403}:
        return BackendRejected(
            f"The model server refused the gateway's own credentials ({status}). Check the API key of this backend."
        )
    if (status == 404 and (said is None or _NO_MODEL.search(said) is None)) or 300 <= status < 400:
        return BackendRejected(f"The model server has nothing here ({status}). Check the address of this backend.")
    return _by_status(status, said or f"The model server answered with status {status}.", _retry_after(headers))


def _by_status(status: int, said: str, retry_after: float | None) -> BackendError:
    if status in {429, 503}:
        return BackendOverloaded(said, retry_after=retry_after, refused=status == 429)
    if status == 404:
        return BackendModelNotFound(said)
    if (error := _by_words(said)) is not None:
        return error
    return _STATUS_ERRORS.get(status, BackendFailed if status >= 500 else BackendRejected)(said)


def _by_words(said: str | None) -> BackendError | None:
    """What the words mean, whatever the status: servers agree on few statuses, and a stream has none."""
    if said is not None and _CONTEXT.search(said):
        return BackendContextTooLong(said)
    return None


def _said(body: bytes, content_type: str) -> str | None:
    if is_html(body, content_type):
        return None
    try:
        return server_message(json_value(body))
    except ValueError:
        return server_message(decoded(body))


def _words(value: Json, depth: int) -> str:
    """The first words of an error. Text that is itself JSON is looked into."""
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
    entry = as_object(value)
    found = (_words(entry[name], depth - 1) for name in _FIELDS if name in entry)
    words = next((words for words in found if words), as_text(entry.get("code")))
    place = ".".join(str(part) for part in as_list(entry.get("loc")) if part != "body")
    return f"{place}: {words}" if place else words


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After: a number, or a date (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS) if seconds == seconds else None
