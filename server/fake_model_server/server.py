"""A model server without a model, which speaks Ollama and OpenAI over real HTTP, and fails when asked to.

A model's name says what it does; N and M are whole numbers and may be left out:

| model                | it                                                                       |
|----------------------|--------------------------------------------------------------------------|
| `fake:echo`          | streams the last message back, word by word                              |
| `fake:count-N`       | streams "0 ", "1 "... N tokens, each a chunk of its own, as fast as it can |
| `fake:together-N`    | the same N tokens in a single write                                      |
| `fake:paced-N-M`     | N tokens, M milliseconds before each                                     |
| `fake:thinking`      | thinks two tokens ("Let me ", "think."), then echoes                     |
| `fake:tools-N`       | calls the first N tools offered (1), each with {"text": last message}    |
| `fake:length-N`      | N tokens, then stops because of the length                               |
| `fake:no-usage-N`    | N tokens, and never tells any usage                                      |
| `fake:hold-N`        | sends nothing at all until released, then N tokens                       |
| `fake:stall-N`       | N tokens, then nothing until released, then the end                      |
| `fake:error-N`       | N tokens, then an error inside the stream                                |
| `fake:malformed-N`   | N tokens, then broken JSON                                               |
| `fake:truncated-N`   | N tokens, then a clean end of the stream without the end of the answer   |
| `fake:cut-N`         | N tokens, then a TCP reset                                               |
| `fake:loses-N-M`     | N tokens, then a TCP reset; asked to go on, the M tokens that come next   |
| `fake:status-N`      | answers with HTTP status N and an error message                          |

Where the last message is the assistant's and begins what the model would say, it goes on behind that.
A request's max_tokens (num_predict) cuts every answer short, and then the reason is "length". The prompt's tokens
are the words of all messages; as Ollama, the server has a context of `num_ctx` tokens (`wire.fitted`).
`FakeModelServer.scripts` gives a model of any name a script of its own. A model that is neither is a 404.

In a test: `async with running_fake_model_server() as fake`. As a process: `ollagraph fake-model-server`; then
`GET /fake/requests` tells what `FakeModelServer.requests` would, and `POST /fake/release` releases whatever is held at
that moment. `FakeModelServer.faults` makes answers slower, and some of them fail.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import anyio
import orjson
from anyio.lowlevel import checkpoint

from server.fake_model_server.faults import Faults
from server.fake_model_server.raw import Raw, reset, write_raw
from server.fake_model_server.scripts import Ending, Prompt, Script, script_for, unsaid
from server.fake_model_server.wire import (
    CONTEXT_EXCEEDED,
    OllamaGenerateWire,
    OllamaWire,
    OpenAIWire,
    Wire,
    fitted,
    read_prompt,
    rendered_prompt,
)

OFFERED = ("fake:echo", "fake:count-256", "fake:paced-64-20", "fake:thinking", "fake:tools")
"""The models that are listed; the others are there all the same."""

_WIRES = {"/api/chat": OllamaWire, "/api/generate": OllamaGenerateWire, "/v1/chat/completions": OpenAIWire}


@dataclass(eq=False)
class FakeRequest:
    """One chat request, as it came and as it went."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    client: tuple[str, int] = ("", 0)
    """The client's end of the connection: the same for two requests that shared one."""
    sent: int = 0
    """Tokens written while the client was still there."""
    reported: tuple[int, int] | None = None
    """The tokens of prompt and answer that it told at its end; None where it did not."""
    left: bool = False
    """Whether the client went away before the end."""
    complete: bool = False
    """Whether the script was played to its end, whatever end that is."""
    ended: anyio.Event = field(default_factory=anyio.Event)
    """Set when the server works on it no more."""
    released: anyio.Event = field(default_factory=anyio.Event)

    @property
    def model(self) -> str:
        return self.body["model"]

    def release(self) -> None:
        """Let a held or stalled answer go on."""
        self.released.set()


class FakeModelServer:
    """The ASGI app. Its attributes may be changed while it runs."""

    watchers: ClassVar[list[Callable[[dict[str, Any]], None]]] = []  # are told every chat request to any server

    def __init__(self) -> None:
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """Be as new, at the same address."""
        self.requests: deque[FakeRequest] = deque(maxlen=10_000)
        self.asked: deque[str] = deque(maxlen=10_000)
        """Method and path of everything else that was asked, such as "GET /api/tags"."""
        self.models: list[str] = list(OFFERED)
        self.scripts: dict[str, Script] = {}
        self.behaviours: dict[str, str] = {}
        """Models of any name, and the one in the table as which they behave."""
        self.faults = Faults()
        self.api_key: str | None = None
        """When set, `/v1` wants it as a bearer token."""
        self.old_ollama = False
        """Whether `/api/tags` leaves out capabilities and context length, as it did before 2026."""
        self.closes_turns = False
        """Whether Ollama's template marks the assistant's last message as ended, as most do: it then begins anew."""
        self.num_ctx = 10_000_000
        """Ollama's context where a request asks for none: more than any test fills by chance."""
        self.renders = True
        """Whether `_debug_render_only` is understood."""
        self.replies: dict[str, tuple[int, bytes]] = {}
        """Status and body to give for a path instead of the usual, such as {"/api/tags": (500, b"")}."""
        self.raw: dict[str, list[Raw]] = {}
        """Answers to give for a chat path instead of the usual, one after the other; the last one stays."""
        self.refuses: Callable[[dict[str, Any]], str | None] = lambda _body: None
        """Why to refuse a chat with this body with status 400; None to answer it."""
        self.owner: str | None = None
        """Who owns the models by `/v1/models`, where it says so: "vllm"."""
        self.silent: set[str] = set()
        """Paths that take a request and never answer it."""
        self.journal: int | None = None
        """A file descriptor to which the prompt's first word is written for each token sent: it outlives a kill."""
        self._arrived = anyio.Event()
        self._lets_go = False

    async def request(self, index: int = 0) -> FakeRequest:
        """Wait until there is a chat request of that number, counted from 0."""
        while len(self.requests) <= index:
            await self._arrived.wait()
        return self.requests[index]

    async def was_asked(self, question: str, times: int = 1) -> None:
        """Wait until something else than a chat was asked so often, such as "GET /api/tags"."""
        while self.asked.count(question) < times:
            await self._arrived.wait()

    def release(self) -> None:
        """Let every held or stalled answer go on, also those still on their way here."""
        self._lets_go = True
        for request in self.requests:
            request.release()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path: str = scope["path"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        data = b""
        while (message := await receive()).get("more_body"):
            data += message["body"]
        data += message.get("body", b"")
        if path not in _WIRES:
            self.asked.append(f"{scope['method']} {path}")
            self._tell_arrival()
        if path in self.silent:
            while (await receive())["type"] != "http.disconnect":
                pass
        elif path.startswith("/v1") and self.api_key and headers.get("authorization") != f"Bearer {self.api_key}":
            await _answer(send, 401, {"error": {"message": f"Incorrect API key: {headers.get('authorization')}"}})
        elif path in self.replies:
            status, body = self.replies[path]
            await _answer(send, status, body)
        elif path == "/api/chat" and orjson.loads(data).get("_debug_render_only"):
            rendered = rendered_prompt(orjson.loads(data), closes_turns=self.closes_turns)
            shown = {"_debug_info": {"rendered_template": rendered}} if self.renders else {}
            await _answer(send, 200, {"message": {"role": "assistant", "content": "x"}, "done": True} | shown)
        elif path in self.raw:
            await self._give_raw(FakeRequest(path, headers, orjson.loads(data), scope["client"]), receive, send)
        elif path in _WIRES:
            await self._chat(FakeRequest(path, headers, orjson.loads(data), scope["client"]), receive, send)
        else:
            await _answer(send, *self._page(path, data))

    def _page(self, path: str, data: bytes) -> tuple[int, Any]:
        match path:
            case "/api/version":
                return 200, {"version": "0.0.0-fake"}
            case "/api/tags":
                return 200, {"models": [_tag(model, old=self.old_ollama) for model in self.models]}
            case "/api/show" if orjson.loads(data)["model"] in self.models:
                return 200, {
                    "capabilities": ["completion", "tools"],
                    "model_info": {"general.architecture": "fake", "fake.context_length": 4096},
                }
            case "/v1/models":
                owned = {} if self.owner is None else {"owned_by": self.owner}
                entries = [{"id": model, "max_model_len": 4096} | owned for model in self.models]
                return 200, {"object": "list", "data": entries}
            case "/fake/requests":
                told = ("path", "body", "sent", "left")
                return 200, [{name: getattr(request, name) for name in told} for request in self.requests]
            case "/fake/release":
                for request in self.requests:
                    request.release()
                return 200, {}
            case _:
                return 404, b"404 page not found"

    def _note_for(self, request: FakeRequest) -> Callable[[], object]:
        if self.journal is None:
            return lambda: None
        line = request.body["messages"][0]["content"].split()[0].encode() + b"\n"
        return partial(os.write, self.journal, line)

    async def _give_raw(self, request: FakeRequest, receive: Any, send: Any) -> None:
        self._note_request(request)
        answers = self.raw[request.path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_watch, request, receive, tasks.cancel_scope)
                await write_raw(answer, _WIRES[request.path].content_type, request.released, send)
                request.complete = True
                tasks.cancel_scope.cancel()
        finally:
            request.ended.set()

    def _note_request(self, request: FakeRequest) -> None:
        if self._lets_go:
            request.release()
        for watcher in self.watchers:
            watcher(request.body)
        self.requests.append(request)
        self._tell_arrival()

    def _tell_arrival(self) -> None:
        self._arrived.set()
        self._arrived = anyio.Event()

    async def _chat(self, request: FakeRequest, receive: Any, send: Any) -> None:
        self._note_request(request)
        prompt = read_prompt(request.body)
        if self.closes_turns and request.path == "/api/chat":
            prompt = replace(prompt, last=prompt.begun or prompt.last, begun="")
        fitting = fitted(prompt, request.body, self.num_ctx) if request.path.startswith("/api") else prompt
        prompt = fitting or prompt
        script = self.scripts.get(request.model) or script_for(
            self.behaviours.get(request.model, request.model), prompt
        )
        script = script or Script(status=404, message=f"model '{request.model}' not found")
        if fitting is None:
            script = Script(status=400, message=CONTEXT_EXCEEDED)
        if why := self.refuses(request.body):
            script = Script(status=400, message=why)
        script = self.faults.applied(script)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_watch, request, receive, tasks.cancel_scope)
                await _Play(request, script, send, self._note_for(request)).run(prompt)
                tasks.cancel_scope.cancel()
        finally:
            request.ended.set()


async def _watch(request: FakeRequest, receive: Any, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    request.left = not request.complete
    scope.cancel()


class _Play:
    """Plays a script to one client."""

    def __init__(self, request: FakeRequest, script: Script, send: Any, note: Callable[[], object]) -> None:
        self._note = note
        self._request = request
        self._script = script
        self._send = send
        self._held = b""
        self._wire: Wire = _WIRES[request.path](request.body)

    async def run(self, prompt: Prompt) -> None:
        script = self._script
        if script.hold:
            await self._request.released.wait()
        if script.status != 200:
            self._request.complete = True
            await _answer(self._send, script.status, orjson.dumps(_error(self._request.path, script.message)))
            return
        await self._send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", self._wire.content_type)]}
        )
        await self._write(self._wire.begin())
        cut = await self._tokens(prompt)
        if script.stall:
            await self._flush()
            await self._request.released.wait()
        for piece in script.rest:
            await self._write(self._wire.text(piece))
            self._request.sent += 1
        await self._end("length" if cut else script.finish_reason, prompt.words)

    async def _tokens(self, prompt: Prompt) -> bool:
        pieces = [] if prompt.begun else [self._wire.thinking(piece) for piece in self._script.thinking]
        pieces += [self._wire.text(piece) for piece in unsaid(self._script.text, prompt.begun)]
        for piece in pieces[: prompt.max_tokens]:
            if self._script.delay_ms:
                await anyio.sleep(self._script.delay_ms / 1000)
            self._note()  # first: one that is killed here has sent no more than it noted
            await self._write(piece)
            self._request.sent += 1
            if self._request.sent % 8 == 0:
                await checkpoint()  # as fast as it can, but the client's leaving must be seen
        return prompt.max_tokens is not None and len(pieces) > prompt.max_tokens

    async def _end(self, reason: str, prompt_tokens: int) -> None:
        self._request.complete = True
        match self._script.ending:
            case Ending.FINISH:
                for index, (name, arguments) in enumerate(self._script.tool_calls):
                    for piece in self._wire.tool_call(index, name, arguments):
                        await self._write(piece)
                if self._script.usage:
                    self._request.reported = prompt_tokens, self._request.sent
                for piece in self._wire.finish(reason, prompt_tokens, self._request.sent, usage=self._script.usage):
                    await self._write(piece)
            case Ending.ERROR:
                await self._write(self._wire.error(self._script.message))
            case Ending.MALFORMED:
                await self._write(self._wire.malformed())
            case Ending.CUT:
                await self._flush()
                await reset(self._send.__self__.transport)
                return
            case Ending.TRUNCATED | Ending.HOLD:
                pass
        await self._flush()
        await self._send({"type": "http.response.body"})

    async def _write(self, data: bytes) -> None:
        self._held += data
        if not self._script.together:
            await self._flush()

    async def _flush(self) -> None:
        if self._held:
            await self._send({"type": "http.response.body", "body": self._held, "more_body": True})
            self._held = b""


async def _answer(send: Any, status: int, body: Any) -> None:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


def _error(path: str, message: str) -> Mapping[str, Any]:
    return {"error": {"message": message}} if path.startswith("/v1") else {"error": message}


def _tag(model: str, *, old: bool) -> Mapping[str, Any]:
    details = {"format": "gguf", "family": "fake", "parameter_size": "1.2B", "quantization_level": "Q4_K_M"}
    tag = {
        "name": model,
        "model": model,
        "modified_at": "2026-08-21T10:00:00.123456789-07:00",
        "size": 1234,
        "digest": f"sha256:{model}",
    }
    if old:
        return tag | {"details": details}
    capabilities = ["completion", "tools", "vision", "thinking", "insert"]
    return tag | {"details": details | {"context_length": 8192}, "capabilities": capabilities}
