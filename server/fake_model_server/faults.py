"""Faults by chance, whatever model is asked: what a front-end must cope with."""

from dataclasses import replace
from random import Random

from server.fake_model_server.scripts import Ending, Script


class Faults:
    """Makes answers slower, and some of them fail.

    `delay_ms` comes before each token, in addition to what the model does. Of the answers, the share `error_rate` is
    status 503 and the share `cut` ends with a TCP reset after some tokens. The same `seed` gives the same faults.
    """

    def __init__(self, *, delay_ms: float = 0, error_rate: float = 0, cut: float = 0, seed: int | None = None) -> None:
        self._delay_ms = delay_ms
        self._error_rate = error_rate
        self._cut = cut
        self._random = Random(seed)  # noqa: S311 - faults, not secrets

    def applied(self, script: Script) -> Script:
        """Give the answer as it becomes."""
        if script.status != 200:
            return script
        if self._random.random() < self._error_rate:
            return Script(status=503)
        slower = replace(script, delay_ms=script.delay_ms + self._delay_ms)
        if self._random.random() < self._cut:
            kept = self._random.randint(0, max(len(script.text) - 1, 0))
            return replace(slower, text=script.text[:kept], tool_calls=(), stall=False, rest=(), ending=Ending.CUT)
        return slower
