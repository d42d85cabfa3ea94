"""What is measured: names after the rules of Prometheus, and after OpenTelemetry's conventions for generative AI.

Nothing is observed for each token: a generation is observed at its end, a request at its end, and what has a value at
every moment is sampled. Labels that clients choose are bounded.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from glob import glob
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from db.tables import Generation
from gateway.generation import LedgerEntry, Outcome
from server.logs import RequestLine
from server.metrics.counts_file import count_in_files

MOST_NAMES = 200
"""Operations, and models, that are told apart; those that come later are "other"."""

OTHER = "other"

SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LONG = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 300)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
TOKENS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)
RATES = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1_000)

BILLION = 1_000_000_000


class Bounded:
    """Lets the first MOST_NAMES names be themselves: each is a time series, and clients make up names."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """Give the name, or OTHER."""
        if name not in self._known:
            if len(self._known) >= MOST_NAMES:
                return OTHER
            self._known.add(name)
        return name


class _AllProcesses(MultiProcessCollector):
    """Reads what all processes have written, and leaves out files with nothing in them.

    A process that is starting makes its files before it fills them, and one that was killed just then leaves them so.
    """

    def collect(self) -> Iterable[Metric]:
        """Give everything."""
        found = glob(os.path.join(cast("str", self._path), "*.db"))  # pyright: ignore[reportUnknownMemberType]
        filled = [path for path in found if _size(path)]
        return cast("Iterable[Metric]", self.merge(filled))  # pyright: ignore[reportUnknownMemberType]


def _size(path: str) -> int:
    """Tell how large a file is; nothing where it is gone by now, as that of a worker that has ended."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


class Metrics:
    """The instruments, and what observes with them. Over several processes `shared` reads what all have written."""

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        if shared:
            count_in_files()
        self.registry = CollectorRegistry()
        self._operation, self._model = Bounded(), Bounded()
        counter, histogram, model = self._counter, self._histogram, ("gen_ai_request_model", "backend")
        self.requests = counter("ollagraph_operations", "GraphQL operations that ended.", "operation", "type", "code")
        self.request_seconds = histogram(
            "ollagraph_operation_duration_seconds", "How long operations took.", LONG, "type"
        )
        self.http = counter("ollagraph_http_requests", "HTTP requests by status.", "status")
        self.ends = counter("ollagraph_generations", "Generations that ended, and why.", *model, "state", "end")
        name, text = "gen_ai_server_request_duration_seconds", "From a generation's acceptance to its end."
        self.duration = histogram(name, text, LONG, *model)
        name, text = "gen_ai_server_time_to_first_token_seconds", "From a generation's acceptance to its first token."
        self.first_token = histogram(name, text, LONG, *model)
        name, text = "gen_ai_server_time_per_output_token_seconds", "Seconds for each token after the first."
        self.per_token = histogram(name, text, PER_TOKEN, *model)
        name, text = "ollagraph_tokens_per_second", "Tokens per second after the first token."
        self.rate = histogram(name, text, RATES, *model)
        name, text = "ollagraph_longest_gap_seconds", "The longest silence within the answer of a generation."
        self.gap = histogram(name, text, SHORT, *model)
        name, text = "ollagraph_queue_wait_seconds", "How long generations waited for a slot."
        self.queued = histogram(name, text, LONG, "backend")
        name, text = "gen_ai_client_token_usage", "Tokens of a generation, as in the ledger."
        self.tokens = histogram(name, text, TOKENS, "gen_ai_request_model", "gen_ai_token_type")
        name, text = "ollagraph_cost", "What generations cost, as in the ledger."
        self.cost = counter(name, text, "gen_ai_request_model", "currency")
        name, text = "ollagraph_limit_refusals", "Generations that a limit refused."
        self.refusals = counter(name, text, "code", "measure")
        name, text = "ollagraph_plugin_failures", "Calls of plugins that raised, timed out or were dropped."
        self.plugin_failures = counter(name, text, "plugin", "hook", "reason")
        self.loop_lag = histogram("ollagraph_event_loop_lag_seconds", "How late the event loop wakes up.", SHORT)
        self.gauges = {name: self._gauge(name, *told) for name, told in GAUGES.items()}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    def _gauge(self, name: str, text: str, mode: Any, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode=mode)

    def text(self) -> bytes:
        """Give all as Prometheus reads it; over several processes of all, also of those that have ended."""
        if not self.shared:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        _AllProcesses(registry)
        return generate_latest(registry)

    def request_ended(self, line: RequestLine, seconds: float) -> None:
        """Count a request, and the operation in it."""
        fields = line.fields
        if "status" in fields:
            self.http.labels(str(fields["status"])).inc()
        kind = fields.get("type")
        if kind is None and "code" not in fields:
            return
        name, kind = fields.get("operation"), str(kind or "refused")
        operation = "unnamed" if name is None else self._operation(str(name))
        self.requests.labels(operation, kind, str(fields.get("code", ""))).inc()
        self.request_seconds.labels(kind).observe(seconds)

    def recorded(self, ends: Iterable[tuple[LedgerEntry, Mapping[str, Any]]]) -> None:
        """Observe ends that are on record: how long the parts took, and no more and no less than is billed."""
        for entry, row in ends:
            self._ended(entry.generation, entry.outcome)
            self._used(row)

    def _ended(self, row: Generation, outcome: Outcome) -> None:
        model, backend = self._model(row.model), row.backend
        reason = outcome.error.code if outcome.error else outcome.cancel_reason or outcome.finish_reason
        self.ends.labels(model, backend, outcome.state.value, "" if reason is None else reason.value).inc()
        timings = outcome.timings
        self.duration.labels(model, backend).observe(timings.total_ms / 1000)
        if timings.queued_ms is not None:
            self.queued.labels(backend).observe(timings.queued_ms / 1000)
        first, last, tokens = timings.time_to_first_token_ms, timings.last_token_ms, outcome.usage.completion_tokens
        if first is None or last is None:
            return
        self.first_token.labels(model, backend).observe(first / 1000)
        if timings.longest_gap_ms is not None:
            self.gap.labels(model, backend).observe(timings.longest_gap_ms / 1000)
        if tokens > 1 and last > first:
            self.per_token.labels(model, backend).observe((last - first) / 1000 / (tokens - 1))
            self.rate.labels(model, backend).observe((tokens - 1) * 1000 / (last - first))

    def _used(self, row: Mapping[str, Any]) -> None:
        model = self._model(row["model"])
        for kind, column in TOKEN_TYPES.items():
            if row[column]:
                self.tokens.labels(model, kind).observe(row[column])
        if row["currency"]:
            self.cost.labels(model, row["currency"]).inc(row["cost_nano"] / BILLION)


TOKEN_TYPES = {
    "input": "prompt_tokens",
    "output": "completion_tokens",
    "cached": "cached_tokens",
    "thinking": "thinking_tokens",
}
"""What a row of the ledger tells of tokens. Cached ones are among the input, thinking ones among the output."""

GAUGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ollagraph_queue_waiting": ("Generations that wait for a slot.", "livesum", ("backend",)),
    "ollagraph_slots_used": ("Generations at work.", "livesum", ("backend",)),
    "ollagraph_slots": ("Generations that a backend takes at once.", "livemax", ("backend",)),
    "ollagraph_backend_up": ("Whether a backend answered when it was last asked.", "livemin", ("backend",)),
    "ollagraph_backend_breaker": (
        "Processes in which the breaker of a backend is in this state.",
        "livesum",
        ("backend", "state"),
    ),
    "ollagraph_backend_failures": ("Questions in a row that a backend failed.", "livemax", ("backend",)),
    "ollagraph_backend_latency_seconds": ("How long the last answer of a backend took.", "livemax", ("backend",)),
    "ollagraph_generations_running": ("Generations that have not ended.", "livesum", ()),
    "ollagraph_streams_open": ("Streams over HTTP, and WebSockets, that are open.", "livesum", ("transport",)),
    "ollagraph_stream_log_waiting_events": ("Events on their way to Valkey.", "livesum", ()),
    "ollagraph_stream_log_up": ("Whether the shared stream log takes what is written.", "livemin", ()),
    "ollagraph_ledger_waiting_ends": ("Ends of generations on their way to the database.", "livesum", ()),
    "ollagraph_database_up": ("Whether the last transaction worked.", "livemin", ()),
    "ollagraph_database_connections_used": ("Connections to the database in use.", "livesum", ()),
    "ollagraph_database_connections": ("Connections to the database that may be used.", "livesum", ()),
    "ollagraph_plugin_waiting_calls": ("Calls that an observing plugin is behind.", "livesum", ("plugin",)),
    "ollagraph_workers_up": ("Processes of the gateway that serve.", "livesum", ()),
}
"""What is sampled: text, how the processes of one machine are added up, and labels."""
