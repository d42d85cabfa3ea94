"""What is known of a generation whose gateway is no more: from its row, and from what the stream log saved."""

from db.clock import now
from db.tables import Generation
from gateway.errors import ErrorCode, GatewayError
from gateway.generation.continuation import Said, continuation, decode_request
from gateway.generation.request import OnBackendLoss
from gateway.generation.run import Job, Outcome, Run
from gateway.generation.timings import Timings, milliseconds
from gateway.streams import NO_USAGE, Completed, Failed, FinishReason, Saved, TokenUsage, UsageSource


class Adopted:
    """What an adopted generation has used: what is saved of it, and once it runs what it uses here."""

    def __init__(self, row: Generation) -> None:
        self.saved = nothing_saved(row)
        self.run: Run | None = None

    def usage(self) -> TokenUsage:
        """What it has used so far."""
        return self.run.usage() if self.run is not None else self.saved.usage


def continuable(row: Generation, saved: Saved) -> Job | None:
    """The job to go on with; None where it must not, or cannot."""
    if row.on_backend_loss != OnBackendLoss.CONTINUE or not saved.request or saved.cancelled:
        return None
    if not saved.is_whole:
        return None
    try:
        request, said = decode_request(saved.request), Said()
    except ValueError:
        return None
    said.add(saved.events)
    return None if continuation(request, said) is None else Job(row, request, saved)


def nothing_saved(row: Generation) -> Saved:
    """What is left where the log has nothing: it may have had something, so whoever reads on misses the beginning."""
    return Saved([], noted_usage(row), dropped=1)


def outcome_of(row: Generation, end: Completed | Failed) -> Outcome:
    """The outcome that a terminal event told of, where the database has not heard of it."""
    if isinstance(end, Completed):
        return Outcome(end.finish_reason, None, end.usage, orphan_timings(row))
    error = GatewayError(end.message)
    error.code, error.retryable = end.code, end.retryable
    return Outcome(None, error, end.usage, orphan_timings(row))


def outcome_in(row: Generation) -> Outcome:
    """How a generation ended, as its row tells."""
    if row.finish_reason is not None:
        return Outcome(FinishReason(row.finish_reason), None, noted_usage(row), orphan_timings(row))
    error = GatewayError(row.error_message or "")
    error.code = ErrorCode(row.error_code or ErrorCode.INTERNAL_ERROR)
    error.retryable = error.code in _RETRYABLE
    return Outcome(None, error, noted_usage(row), orphan_timings(row))


_RETRYABLE = {
    ErrorCode.INTERRUPTED,
    ErrorCode.SHUTTING_DOWN,
    ErrorCode.BACKEND_UNAVAILABLE,
    ErrorCode.BACKEND_TIMEOUT,
    ErrorCode.BACKEND_OVERLOADED,
    ErrorCode.BACKEND_FAILED,
    ErrorCode.BACKEND_PROTOCOL_ERROR,
}


def orphan_timings(row: Generation) -> Timings:
    """How long it took, as far as its row tells."""
    return Timings(row.queued_ms, None, None, milliseconds((now() - row.created_at).total_seconds()))


def noted_usage(row: Generation) -> TokenUsage:
    """What the gateway that is gone had noted in the database last."""
    if row.prompt_tokens is None or row.completion_tokens is None or row.usage_source is None:
        return NO_USAGE
    return TokenUsage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, UsageSource(row.usage_source))
