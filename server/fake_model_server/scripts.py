"""What the fake model server's models do, told by their names. See the table in `server.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

FAILURE = "the fake model failed on purpose"
NOT_FOUND = "the fake model does not exist on purpose"


class Ending(Enum):
    """How an answer ends."""

    FINISH = auto()
    ERROR = auto()
    """An error in the stream, as the protocol tells it."""
    MALFORMED = auto()
    """Half a JSON document, then a clean end."""
    TRUNCATED = auto()
    """A clean end of the stream without the end of the answer."""
    CUT = auto()
    """A TCP reset."""
    HOLD = auto()
    """Nothing more, and the connection stays open."""


@dataclass(frozen=True)
class Prompt:
    """What the fake model looks at in a request, the same for both protocols."""

    last: str
    """The text of the last message that is not the beginning of the answer."""
    words: int
    """Words in all messages: the prompt's tokens."""
    tools: Sequence[str]
    """Names of the tools offered."""
    max_tokens: int | None
    begun: str = ""
    """The beginning of the answer, where the last message is the assistant's."""


@dataclass(frozen=True)
class Script:
    """One answer: thinking first, then text, then tool calls, then the ending."""

    text: Sequence[str] = ()
    thinking: Sequence[str] = ()
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    delay_ms: float = 0.0
    """Before each token."""
    hold: bool = False
    """Send nothing at all, not even a status, until released."""
    stall: bool = False
    """After the text, wait until released."""
    rest: Sequence[str] = ()
    """Text after the stall."""
    ending: Ending = Ending.FINISH
    finish_reason: str = "stop"
    usage: bool = True
    together: bool = False
    """Send all tokens in one write."""
    status: int = 200
    message: str = FAILURE
    """The words of an error."""


@dataclass(frozen=True)
class _Kind:
    make: Callable[[Prompt, int, int], Script]
    defaults: tuple[int, int] = field(default=(3, 0))


def count(tokens: int) -> list[str]:
    """Give that many tokens: "0 ", "1 ", "2 "..."""
    return [f"{number} " for number in range(tokens)]


def words(text: str) -> list[str]:
    """Cut a text into tokens that give it back when joined."""
    return [f"{' ' if place else ''}{word}" for place, word in enumerate(text.split(" "))]


KINDS: dict[str, _Kind] = {
    "echo": _Kind(lambda prompt, _n, _m: Script(words(prompt.last))),
    "count": _Kind(lambda _p, n, _m: Script(count(n))),
    "together": _Kind(lambda _p, n, _m: Script(count(n), together=True)),
    "paced": _Kind(lambda _p, n, m: Script(count(n), delay_ms=m), defaults=(20, 10)),
    "thinking": _Kind(lambda prompt, _n, _m: Script(words(prompt.last), thinking=["Let me ", "think."])),
    "tools": _Kind(
        lambda prompt, n, _m: Script(tool_calls=[(name, {"text": prompt.last}) for name in prompt.tools[:n]]),
        defaults=(1, 0),
    ),
    "length": _Kind(lambda _p, n, _m: Script(count(n), finish_reason="length")),
    "no-usage": _Kind(lambda _p, n, _m: Script(count(n), usage=False)),
    "hold": _Kind(lambda _p, n, _m: Script(count(n), hold=True)),
    "stall": _Kind(lambda _p, n, _m: Script(count(n), stall=True)),
    "error": _Kind(lambda _p, n, _m: Script(count(n), ending=Ending.ERROR)),
    "malformed": _Kind(lambda _p, n, _m: Script(count(n), ending=Ending.MALFORMED)),
    "truncated": _Kind(lambda _p, n, _m: Script(count(n), ending=Ending.TRUNCATED)),
    "cut": _Kind(lambda _p, n, _m: Script(count(n), ending=Ending.CUT)),
    "loses": _Kind(
        lambda prompt, n, m: Script(count(n + m)) if prompt.begun else Script(count(n), ending=Ending.CUT),
        defaults=(3, 3),
    ),
    "breaks": _Kind(
        lambda prompt, n, m: Script(count(n + m)) if prompt.begun else Script(count(n), ending=Ending.TRUNCATED),
        defaults=(3, 3),
    ),
    "status": _Kind(lambda _p, n, _m: Script(status=n, message=NOT_FOUND if n == 404 else FAILURE), defaults=(500, 0)),
}


def unsaid(pieces: Sequence[str], begun: str) -> list[str]:
    """Give what is left of an answer when its beginning was said before; all of it where that is not its beginning."""
    place = 0
    for index, piece in enumerate(pieces):
        if place == len(begun):
            return list(pieces[index:])
        if not begun.startswith(piece, place):
            return list(pieces)
        place += len(piece)
    return []


def script_for(model: str, prompt: Prompt) -> Script | None:
    """Read a model's name, `fake:KIND`, `fake:KIND-N` or `fake:KIND-N-M`; None when there is no such model."""
    name = model.removeprefix("fake:")
    numbers: list[int] = []
    while name not in KINDS:
        name, _, last = name.rpartition("-")
        if not last.isdigit():
            return None
        numbers.insert(0, int(last))
    kind = KINDS[name]
    n, m = (*numbers, *kind.defaults[len(numbers) :])[:2]
    return kind.make(prompt, n, m)
