"""One answer of a model in each of the three formats of streams, written as differently as each format allows."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Json = dict[str, Any]

TEXT = 'Grüße, "世界"!\\ \U0001f600\n\t\u2028ok \U0001f469\u200d\U0001f680'
THINKING = "Größe? \U0001f914 hm\r\n"
CALL_ID, NAME = "call_1", "wetter_für"
ARGUMENTS: Json = {"city": "Köln \U0001f307", "days": [1, 2.5, None], "deep": {"x": True, "y": ""}}
PROMPT_TOKENS, COMPLETION_TOKENS = 7, 21

_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "/": "\\/"}
_EXTRAS: Json = {
    "x_new": 1,
    "obfuscation": "aß\U0001f600",
    "nested": {"a": [{"b": None}], "data": "x"},
    "logprobs": None,
    "status": "ok",
    "type": "chunk",
    "code": 0,
    "detail": None,
    "error": None,
    "list": [],
    "warning": "",
}


class Writer:
    """Writes an answer by the choices of `random`."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._spaced = random.random() < 0.4
        self._escapes = random.choice((0.0, 0.0, 0.1, 0.3, 1.0))
        self._extras = random.choice((0.0, 0.1, 0.3))

    def maybe(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def absent(self, *values: Any) -> Any:
        """Nothing, in one of the ways in which a field can say that: ... is to leave it out."""
        return self.random.choice((..., None, *values))

    def object(self, **fields: Any) -> Json:
        """An object with these fields, in any order, and perhaps others that nobody knows."""
        given = [(name, value) for name, value in fields.items() if value is not ...]
        given += [item for item in _EXTRAS.items() if self.maybe(self._extras / 4) and item[0] not in fields]
        self.random.shuffle(given)
        return dict(given)

    def pieces(self, text: str) -> list[str]:
        """A text cut anywhere between two characters."""
        most = self.random.choice((0, 0, 1, 1, 2, 3, 5, len(text) - 1))
        cuts = sorted(self.random.sample(range(1, len(text)), most))
        return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def interleaved(self, *rows: list[Any]) -> list[Any]:
        """All of these, each row in its order."""
        left = [row[:] for row in rows]
        merged: list[Any] = []
        while left := [row for row in left if row]:
            row = left[0] if self.maybe() else self.random.choice(left)
            merged.append(row.pop(0))
        return merged

    def json(self, value: Any, newline: str = "") -> str:
        """JSON with any white space and any escapes; `newline` is one that may be in it, too."""
        match value:
            case dict():
                items: list[tuple[Any, Any]] = list(value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
                inner = ",".join(
                    f"{self._gap(newline)}{self._string(name)}{self._gap(newline)}:{self.json(item, newline)}"
                    for name, item in items
                )
                written = f"{{{inner}{self._gap(newline)}}}"
            case list():
                inner = ",".join(self.json(item, newline) for item in value)  # pyright: ignore[reportUnknownVariableType]
                written = f"[{inner}{self._gap(newline)}]"
            case str():
                written = self._string(value)
            case bool() | None:
                written = {True: "true", False: "false", None: "null"}[value]
            case _:
                written = f"{value}.0" if isinstance(value, int) and self.maybe(0.1) else str(value)
        return f"{self._gap(newline)}{written}{self._gap(newline)}"

    def reads(self, data: bytes) -> list[bytes]:
        """The bytes as the network may cut them: anywhere."""
        most = self.random.choice((0, 1, 1, 5, 5, 20, len(data) // 3, len(data) - 1))
        cuts = sorted(self.random.sample(range(1, len(data)), most))
        return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def _gap(self, newline: str) -> str:
        return self.random.choice(("", " ", "\t", "  ", newline)) if self._spaced else ""

    def _string(self, text: str) -> str:
        if not self._escapes and text.isalnum():
            return f'"{text}"'
        return f'"{"".join(map(self._character, text))}"'

    def _character(self, character: str) -> str:
        short = _SHORT_ESCAPES.get(character)
        if self.maybe(self._escapes) and (short is None or self.maybe()):
            units = character.encode("utf-16-be")
            form = self.random.choice(("\\u{:04x}", "\\u{:04X}"))
            return "".join(form.format(int.from_bytes(units[i : i + 2])) for i in range(0, len(units), 2))
        return character if short is None or (character == "/" and self.maybe()) else short


# --- Ollama -------------------------------------------------------------------------------------------------------


def ollama_chat(writer: Writer) -> bytes:
    """The lines of `/api/chat`."""

    def say(**fields: Any) -> Json:
        content = {"role": writer.random.choice((..., "assistant")), "content": writer.absent(""), **fields}
        return {"message": writer.object(**content)}

    return _ndjson(writer, say, "content")


def ollama_generate(writer: Writer) -> bytes:
    """The lines of `/api/generate`."""

    def say(**fields: Any) -> Json:
        return {"response": writer.absent(""), **fields}

    return _ndjson(writer, say, "response")


def _ndjson(writer: Writer, say: Callable[..., Json], text_field: str) -> bytes:
    function = writer.object(name=NAME, arguments=ARGUMENTS, index=writer.absent(0))
    call = writer.object(id=writer.random.choice((..., CALL_ID)), function=function, type=writer.absent("function"))
    said = writer.interleaved(
        [{"thinking": piece} for piece in writer.pieces(THINKING)],
        [{text_field: piece, "thinking": writer.absent("")} for piece in writer.pieces(TEXT)],
        [{"tool_calls": [call]}],
    )
    last = said.pop() if writer.maybe() else {}
    lines = [_line(writer, done=writer.absent(False), **say(**fields)) for fields in said]
    counts = {"prompt_eval_count": PROMPT_TOKENS, "eval_count": COMPLETION_TOKENS}
    reason, context = writer.absent("stop"), writer.absent([1, 2])
    lines.append(_line(writer, done=True, done_reason=reason, context=context, **say(**last), **counts))
    ends = [_end(writer) for _ in lines]
    if writer.maybe(0.2):
        ends[-1] = ""
    return "".join(line + end for line, end in zip(lines, ends, strict=True)).encode()


def _line(writer: Writer, **fields: Any) -> str:
    duration = writer.absent(1_500_000_000)
    return writer.json(
        writer.object(model="m", created_at=writer.absent("2026-01-01"), eval_duration=duration, **fields)
    )


def _end(writer: Writer) -> str:
    return writer.random.choice(("\n", "\n", "\r\n", "\n\n", "\r\n\r\n"))


# --- OpenAI -------------------------------------------------------------------------------------------------------


def openai(writer: Writer) -> bytes:
    """The server-sent events of `/v1/chat/completions`."""
    return _events(writer, [writer.json(chunk, "\n") for chunk in _chunks(writer)])


def _chunks(writer: Writer) -> Iterator[Json]:
    thinking = writer.random.choice(("reasoning_content", "reasoning"))
    deltas = writer.interleaved(
        [{thinking: piece, "content": writer.absent("")} for piece in writer.pieces(THINKING)],
        [{"content": piece, thinking: writer.absent("")} for piece in writer.pieces(TEXT)],
        [{"content": writer.absent(""), "tool_calls": [piece]} for piece in _call_pieces(writer)],
    )
    if writer.maybe():
        deltas.insert(0, {"role": "assistant", "content": writer.absent("")})
    usage = writer.object(prompt_tokens=PROMPT_TOKENS, completion_tokens=COMPLETION_TOKENS, total_tokens=28)
    last = writer.object(**deltas.pop()) if writer.maybe() else writer.absent({})
    place = writer.random.choice(("finish", "own", "both"))
    for fields in deltas:
        yield _chunk(writer, writer.object(**fields), writer.absent(), usage=writer.absent())
    yield _chunk(writer, last, "tool_calls", usage=writer.absent() if place == "own" else usage)
    if place != "finish":
        yield writer.object(id="c", choices=writer.absent([]), usage=usage)


def _chunk(writer: Writer, delta: Any, reason: Any, usage: Any) -> Json:
    choice = writer.object(index=writer.random.choice((..., 0)), delta=delta, finish_reason=reason)
    return writer.object(id="c", model=writer.absent("m"), choices=[choice], usage=usage)


def _call_pieces(writer: Writer) -> list[Json]:
    first, *rest = writer.pieces(writer.json(ARGUMENTS, "\n"))
    if writer.maybe():
        first, rest = writer.absent(""), [first, *rest]
    begun = writer.object(name=NAME, arguments=first)
    pieces = [writer.object(index=0, id=CALL_ID, type="function", function=begun)]
    for piece in rest:
        function = writer.object(name=writer.absent(), arguments=piece)
        pieces.append(writer.object(index=0, id=writer.absent(), type=writer.absent("function"), function=function))
    return pieces


def _events(writer: Writer, documents: list[str]) -> bytes:
    """Events as the HTML standard allows them (section 9.2). One kind of line end, for CR and LF together are one."""
    end = writer.random.choice(("\n", "\r\n", "\r"))
    lines: list[str] = []
    for document in documents:
        lines += [*_event_lines(writer, document.split("\n")), ""]
        lines += writer.random.choice(([], [], [""], [": keep-alive", ""], [":", "", "", ""], ["retry: 3", ""]))
    lines += writer.random.choice(([], ["data: [DONE]", ""], ["data:[DONE]", ""], ["data: [DONE] ", ""]))
    written = "".join(line + end for line in lines)
    if writer.maybe(0.1):
        written = written.rstrip("\r\n")  # some servers end so
    return ("\ufeff" if writer.maybe(0.2) else "").encode() + written.encode()


def _event_lines(writer: Writer, parts: list[str]) -> list[str]:
    lines = [("data: " if writer.maybe(0.7) else "data:") + part for part in parts]
    for other in ("event: message", "event:message", "event", "id: 7", "id", "retry: 10", ": comment", ":", "new: x"):
        if writer.maybe(0.05):
            lines.insert(writer.random.randint(0, len(lines)), other)
    return lines
