"""The rows of a usage report as lines of CSV or JSON."""

import csv
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from enum import StrEnum
from io import StringIO
from typing import cast

import orjson

from auth.principal import Principal
from gateway.money import decimal_of
from gateway.usage import Measure, Percentiles, Usage, UsageDimension, UsageNames, UsageRequest, UsageRow
from schema.node import global_id


class Form(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSON_LINES = "jsonl"


MEDIA_TYPES = {Form.CSV: "text/csv", Form.JSON_LINES: "application/jsonl"}

_COLUMNS: dict[UsageDimension, dict[str, Callable[[UsageRow, UsageNames], str | None]]] = {
    UsageDimension.MODEL: {"model": lambda row, _: row.model},
    UsageDimension.API_KEY: {
        "apiKeyId": lambda row, _: row.api_key_id and global_id("ApiKey", row.api_key_id),
        "apiKeyName": lambda row, names: row.api_key_id and names.api_keys.get(row.api_key_id),
    },
    UsageDimension.USER: {
        "userId": lambda row, _: row.user_id and global_id("User", row.user_id),
        "username": lambda row, names: row.user_id and names.users.get(row.user_id),
    },
    UsageDimension.GROUP: {
        "groupId": lambda row, _: row.group_id and global_id("Group", row.group_id),
        "groupName": lambda row, names: row.group_id and names.groups.get(row.group_id),
    },
    UsageDimension.BACKEND: {"backend": lambda row, _: row.backend},
    UsageDimension.FINISH: {"state": lambda row, _: row.state, "finishReason": lambda row, _: row.finish_reason},
    UsageDimension.TAG: {"tagName": lambda row, _: row.tag_name, "tagValue": lambda row, _: row.tag_value},
    UsageDimension.END_USER: {"endUser": lambda row, _: row.end_user},
}

_TIMES = {"timeToFirstTokenMs": Measure.TIME_TO_FIRST_TOKEN, "tokensPerSecond": Measure.TOKENS_PER_SECOND}
_PERCENTILES = ("p50", "p90", "p95", "p99")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""


async def lines(usage: Usage, principal: Principal, request: UsageRequest, form: Form) -> AsyncGenerator[bytes]:
    """Give the rows of a report in portions, a line for each. Raises as `Usage.export` does, first of all."""
    write = _as_csv if form is Form.CSV else _as_json
    columns = [name for dimension in dict.fromkeys(request.group_by) for name in _COLUMNS[dimension]]
    columns = ["start", "end", *columns, *_SUMS, "costs"]
    if request.percentiles:
        columns += [f"{name}{percentile.upper()}" for name in _TIMES for percentile in _PERCENTILES]
    header = _csv([columns]) if form is Form.CSV else b""
    async for rows in usage.export(principal, request):
        names = await usage.names(principal, rows)
        yield header + write([_told(row, names, request) for row in rows])
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


def _told(row: UsageRow, names: UsageNames, request: UsageRequest) -> dict[str, object]:
    told: dict[str, object] = {"start": row.start.isoformat(), "end": row.end.isoformat()}
    for dimension in dict.fromkeys(request.group_by):
        told |= {name: value(row, names) for name, value in _COLUMNS[dimension].items()}
    told |= {name: getattr(row.sums, attribute) for name, attribute in _SUMS.items()}
    told["costs"] = [{"amount": f"{decimal_of(nano):f}", "currency": currency} for currency, nano in row.sums.costs]
    if request.percentiles:
        told |= {name: _percentiles(row.times.get(measure)) for name, measure in _TIMES.items()}
    return told


def _percentiles(told: Percentiles | None) -> dict[str, float | None]:
    return {name: told and getattr(told, name) for name in _PERCENTILES}


def _as_json(rows: Sequence[dict[str, object]]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _as_csv(rows: Sequence[dict[str, object]]) -> bytes:
    return _csv([[cell for value in row.values() for cell in _cells(value)] for row in rows])


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    """Write lines as RFC 4180 has them."""
    text = StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cells(value: object) -> Iterable[object]:
    """Give the cells of a value: one, and of percentiles one each."""
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    if isinstance(value, list):
        costs = cast("list[dict[str, str]]", value)
        return [";".join(f"{cost['amount']} {cost['currency']}" for cost in costs)]
    return [f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value]
