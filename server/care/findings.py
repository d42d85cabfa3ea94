"""What a check finds, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is. Only FAIL means that a gateway cannot do its work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found; `advice` is what to do, None where nothing is to do."""

    check: str
    state: State
    told: str
    advice: str | None = None

    def line(self) -> str:
        """Give it for people, in one line or two."""
        first = f"{self.state:<4}  {self.check}: {self.told}"
        return first if self.advice is None else f"{first}\n      {self.advice}"

    def entry(self) -> Mapping[str, str | None]:
        """Give it for programs."""
        return {"check": self.check, "state": self.state.value, "message": self.told, "advice": self.advice}


def ok(check: str, told: str) -> Finding:
    """Tell that all is well."""
    return Finding(check, State.OK, told)


def warn(check: str, told: str, advice: str) -> Finding:
    """Tell of what may go wrong, or could be better."""
    return Finding(check, State.WARN, told, advice)


def fail(check: str, told: str, advice: str) -> Finding:
    """Tell of what keeps the gateway from doing its work."""
    return Finding(check, State.FAIL, told, advice)


def shown_bytes(number: int) -> str:
    """Give a number of bytes for people: "1.5 GB"."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
