"""The rows of a usage report as lines of CSV or JSON."""

import csv
from collections.abc import AsyncGenerator, Callable, Sequence
from enum import StrEnum
from io import StringIO

import orjson

from auth.principal import Principal
from gateway.money import decimal_of
from gateway.usage import Usage, UsageDimension, UsageRequest, UsageRow
from schema.node import global_id


class Form(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSON_LINES = "jsonl"


MEDIA_TYPES = {Form.CSV: "text/csv", Form.JSON_LINES: "application/jsonl"}

_COLUMNS: dict[UsageDimension, dict[str, Callable[[UsageRow], str | None]]] = {
    UsageDimension.MODEL: {"model": lambda row: row.model},
    UsageDimension.API_KEY: {"apiKeyId": lambda row: row.api_key_id and global_id("ApiKey", row.api_key_id)},
    UsageDimension.USER: {"userId": lambda row: row.user_id and global_id("User", row.user_id)},
    UsageDimension.GROUP: {"groupId": lambda row: row.group_id and global_id("Group", row.group_id)},
    UsageDimension.BACKEND: {"backend": lambda row: row.backend},
    UsageDimension.FINISH: {"state": lambda row: row.state, "finishReason": lambda row: row.finish_reason},
    UsageDimension.TAG: {"tagName": lambda row: row.tag_name, "tagValue": lambda row: row.tag_value},
    UsageDimension.END_USER: {"endUser": lambda row: row.end_user},
}

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""


async def lines(usage: Usage, principal: Principal, request: UsageRequest, form: Form) -> AsyncGenerator[bytes]:
    """Give the rows of a report in portions, a line for each. Raises as `Usage.export` does, first of all."""
    write = _as_csv if form is Form.CSV else _as_json
    names = [name for dimension in dict.fromkeys(request.group_by) for name in _COLUMNS[dimension]]
    header = _csv([["start", "end", *names, *_SUMS, "costs"]]) if form is Form.CSV else b""
    async for rows in usage.export(principal, request):
        yield header + write([_told(row, request.group_by) for row in rows])
        header = b""


_SUMS = {
    "generations": "generations",
    "completed": "completed",
    "cancelled": "cancelled",
    "failed": "failed",
    "promptTokens": "prompt_tokens",
    "completionTokens": "completion_tokens",
    "cachedTokens": "cached_tokens",
    "thinkingTokens": "thinking_tokens",
}


def _told(row: UsageRow, group_by: Sequence[UsageDimension]) -> dict[str, object]:
    told: dict[str, object] = {"start": row.start.isoformat(), "end": row.end.isoformat()}
    for dimension in dict.fromkeys(group_by):
        told |= {name: value(row) for name, value in _COLUMNS[dimension].items()}
    told |= {name: getattr(row.sums, attribute) for name, attribute in _SUMS.items()}
    costs = [{"amount": f"{decimal_of(nano):f}", "currency": currency} for currency, nano in row.sums.costs]
    return {**told, "costs": costs}


def _as_json(rows: Sequence[dict[str, object]]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _as_csv(rows: Sequence[dict[str, object]]) -> bytes:
    return _csv([[_cell(value) for value in row.values()] for row in rows])


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    """Write lines as RFC 4180 has them."""
    text = StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return ";".join(f"{cost['amount']} {cost['currency']}" for cost in value)  # pyright: ignore[reportUnknownVariableType]
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
