"""What other gateways ask of the generations that run here."""

from uuid import UUID

from gateway.generation import Runner
from gateway.streams import CancelReason


class PeerRequests:
    """The answers to what comes over the shared stream log."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def cancel(self, generation_id: UUID) -> None:
        """Cancel a generation: a user asked another gateway to."""
        if run := self._runner.get(generation_id):
            run.cancel(CancelReason.REQUESTED)

    def release(self, generation_id: UUID) -> None:
        """Stop running a generation, without an end: another gateway has taken it over."""
        if run := self._runner.get(generation_id):
            run.release()

    def unfollowed(self, generation_id: UUID) -> None:
        """Look whether anybody watches a generation, since its viewers at another gateway have left."""
        run = self._runner.get(generation_id)
        if run is not None and not run.is_watched:
            self._runner.unwatched(run)
