"""What every adapter needs on the wire: connections, lines, events, and JSON that may hold anything."""

from backends.wire.addresses import ollama_address, openai_address
from backends.wire.client import Client
from backends.wire.error_bodies import failure, failure_instead, html_error, is_html, told_error
from backends.wire.http import Reads, drain, fetch_json, fetch_list, make_client, sent_headers, stream_reads
from backends.wire.json import (
    LARGEST_COUNT,
    as_count,
    as_list,
    as_milliseconds,
    as_moment,
    as_number,
    as_object,
    as_size,
    as_text,
    is_document,
    json_value,
    read_json,
    storable,
)
from backends.wire.lines import MAX_LINE_BYTES
from backends.wire.ndjson import NdjsonDecoder
from backends.wire.sse import DONE, ServerSentEvent, SseDecoder
from backends.wire.unicode import Joiner, decoded, repaired

__all__ = [
    "DONE",
    "LARGEST_COUNT",
    "MAX_LINE_BYTES",
    "Client",
    "Joiner",
    "NdjsonDecoder",
    "Reads",
    "ServerSentEvent",
    "SseDecoder",
    "as_count",
    "as_list",
    "as_milliseconds",
    "as_moment",
    "as_number",
    "as_object",
    "as_size",
    "as_text",
    "decoded",
    "drain",
    "failure",
    "failure_instead",
    "fetch_json",
    "fetch_list",
    "html_error",
    "is_document",
    "is_html",
    "json_value",
    "make_client",
    "ollama_address",
    "openai_address",
    "read_json",
    "repaired",
    "sent_headers",
    "storable",
    "stream_reads",
    "told_error",
]
