"""What a gateway in debug mode tells administrators of how it executed an operation: fields, times and statements."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from graphql import GraphQLResolveInfo

from db.slow_statements import StatementCount, counted

MOST_FIELDS = 50
"""Fields that are told of: those that took longest."""


class OperationTimings:
    """Measures one operation, as a middleware of graphql-core around each of its fields."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._fields: defaultdict[str, list[float]] = defaultdict(list)
        self._statements = StatementCount()
        self._token = counted.set(self._statements)

    def resolve(self, next_: Callable[..., Any], source: Any, info: "GraphQLResolveInfo[Any]", **arguments: Any) -> Any:
        """Resolve a field, and note how long that took."""
        began = time.perf_counter()
        result = next_(source, info, **arguments)
        name = f"{info.parent_type.name}.{info.field_name}"
        if isawaitable(result):
            return self._awaited(result, name, began)
        self._fields[name].append(time.perf_counter() - began)
        return result

    async def _awaited(self, result: Awaitable[Any], name: str, began: float) -> Any:
        try:
            return await result
        finally:
            self._fields[name].append(time.perf_counter() - began)

    def told(self) -> dict[str, Any]:
        """Give what was measured: times in milliseconds; what fields wait for at the same time is in each of them."""
        counted.reset(self._token)
        fields = sorted(self._fields.items(), key=lambda field: -sum(field[1]))
        return {
            "durationMs": _ms(time.perf_counter() - self._began),
            "statements": {"count": self._statements.count, "durationMs": _ms(self._statements.seconds)},
            "fields": [
                {"field": name, "count": len(took), "durationMs": _ms(sum(took)), "longestMs": _ms(max(took))}
                for name, took in fields[:MOST_FIELDS]
            ],
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
