"""What of a request reaches a model server, whose kinds say the same in different words, or cannot be told it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from backends.errors import BackendError, BackendRejected, BackendUnsupported
from backends.ollama import OllamaBackend
from backends.ollama.backend import chat_body as ollama_body
from backends.openai import OpenAIBackend
from backends.openai.request import ServerKind, chat_body
from backends.protocol import (
    AudioPart,
    Backend,
    ChatRequest,
    FilePart,
    ImagePart,
    Json,
    Message,
    NamedTool,
    OutputFormat,
    Part,
    TextPart,
    ThinkingLevel,
    ToolChoice,
    ToolChoiceMode,
)
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.wire_requests import PHOTO, PIXEL, SCHEMA, WEATHER

HELLO = ChatRequest("fake:echo", [Message("user", "hello")])


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    async with running_fake_model_server() as fake:
        yield fake


@pytest.fixture(params=["ollama", "openai"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def backend(kind: str, fake: FakeModelServer) -> AsyncIterator[Backend]:
    """A backend of each kind in turn."""
    make = OllamaBackend if kind == "ollama" else OpenAIBackend
    async with aclosing(make(kind, fake.url)) as backend:
        yield backend


async def body_of(backend: Backend, fake: FakeModelServer, request: ChatRequest) -> Json:
    """What the server gets for a request that it answers."""
    async with backend.generate(request) as batches:
        assert [batch async for batch in batches]
    return fake.requests[-1].body


async def failure_of(backend: Backend, request: ChatRequest) -> BackendError:
    with pytest.raises(BackendError) as failure:
        async with backend.generate(request):
            pass
    return failure.value


async def test_parts_of_a_message_reach_the_server_in_their_order(backend: Backend, fake: FakeModelServer):
    parts = [TextPart("one"), ImagePart(PHOTO), TextPart("two"), ImagePart(PIXEL)]
    [message] = (await body_of(backend, fake, replace(HELLO, messages=[Message("user", parts)])))["messages"]
    assert parts_of(message) == {"texts": ["one", "two"], "images": [PHOTO, PIXEL]}


@pytest.mark.parametrize(
    ("server", "part", "sent"),
    [
        (ServerKind.UNKNOWN, AudioPart("YQ==", "audio/wav"), {"data": "YQ==", "format": "wav"}),
        (ServerKind.VLLM, AudioPart("YQ==", "audio/flac"), {"data": "YQ==", "format": "flac"}),
        (ServerKind.LLAMA_CPP, AudioPart("YQ==", "audio/mpeg"), {"data": "YQ==", "format": "mp3"}),
        (ServerKind.UNKNOWN, FilePart("YQ==", "application/pdf"),
         {"filename": "file.pdf", "file_data": "data:application/pdf;base64,YQ=="}),
        (ServerKind.UNKNOWN, FilePart("YQ==", "text/plain"),
         {"filename": "file.txt", "file_data": "data:text/plain;base64,YQ=="}),
    ],
)  # fmt: skip
def test_sounds_and_documents_are_told_in_the_words_of_openai(server: ServerKind, part: Part, sent: Json):
    request = replace(HELLO, messages=[Message("user", [part, TextPart("x")])])
    [message] = chat_body(request, server)["messages"]
    [media, text] = message["content"]
    assert media == {"type": media["type"], media["type"]: sent}
    assert text == {"type": "text", "text": "x"}


@pytest.mark.parametrize(
    ("server", "part"),
    [
        (ServerKind.LLAMA_CPP, AudioPart("YQ==", "audio/ogg")),
        (ServerKind.LLAMA_CPP, FilePart("YQ==", "application/pdf")),
        (ServerKind.VLLM, FilePart("YQ==", "application/pdf")),
        (None, FilePart("YQ==", "application/pdf")),
        (None, AudioPart("YQ==", "audio/wav")),
    ],
)
def test_media_that_a_server_has_no_words_for_are_refused_before_it_is_asked(server: ServerKind | None, part: Part):
    request = replace(HELLO, messages=[Message("user", [part])])
    with pytest.raises(BackendUnsupported):
        ollama_body(request) if server is None else chat_body(request, server)


def parts_of(message: Json) -> Json:
    """Read what either API says of a message: Ollama's keeps the order of texts and that of images."""
    if isinstance(message["content"], str):
        return {"texts": message["content"].split("\n"), "images": message["images"]}
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url", "text", "image_url"]
    texts, images = message["content"][::2], message["content"][1::2]
    return {
        "texts": [part["text"] for part in texts],
        "images": [part["image_url"]["url"].partition(",")[2] for part in images],
    }


@pytest.mark.parametrize("level", ThinkingLevel)
async def test_every_level_of_thinking_reaches_the_server(
    backend: Backend, kind: str, fake: FakeModelServer, level: ThinkingLevel
):
    body = await body_of(backend, fake, replace(HELLO, thinking=level))
    thinks = bool(body["think"]) if kind == "ollama" else body["chat_template_kwargs"]["enable_thinking"]
    assert thinks is (level is not ThinkingLevel.OFF)


async def test_a_model_that_may_call_no_tool_is_told_so(backend: Backend, kind: str, fake: FakeModelServer):
    body = await body_of(backend, fake, replace(HELLO, tools=[WEATHER], tool_choice=ToolChoiceMode.NONE))
    assert "tools" not in body if kind == "ollama" else body["tool_choice"] == "none"


@pytest.mark.parametrize("choice", [None, ToolChoiceMode.AUTO])
async def test_a_model_that_may_choose_gets_all_tools(
    backend: Backend, fake: FakeModelServer, choice: ToolChoiceMode | None
):
    body = await body_of(backend, fake, replace(HELLO, tools=[WEATHER], tool_choice=choice))
    assert (len(body["tools"]), body.get("tool_choice", "auto")) == (1, "auto")


CHOICES = [
    (ToolChoiceMode.REQUIRED, "required"),
    (NamedTool("weather"), {"type": "function", "function": {"name": "weather"}}),
]


@pytest.mark.parametrize(("choice", "wire"), CHOICES)
async def test_a_tool_that_must_be_called_is_named_to_a_server_that_can_see_to_that(
    backend: Backend, kind: str, fake: FakeModelServer, choice: ToolChoice, wire: Json
):
    request = replace(HELLO, tools=[WEATHER], tool_choice=choice)
    if kind == "ollama":
        error = await failure_of(backend, request)
        assert isinstance(error, BackendUnsupported)
        assert "AUTO or NONE" in str(error)
    else:
        assert (await body_of(backend, fake, request))["tool_choice"] == wire


def test_llama_cpp_is_told_the_one_tool_to_call_by_leaving_out_the_others():
    other = replace(WEATHER, name="other")
    request = replace(HELLO, tools=[other, WEATHER], tool_choice=NamedTool("weather"))
    body = chat_body(request, ServerKind.LLAMA_CPP)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["weather"]
    assert body["tool_choice"] == "required"


EFFORTS = {
    "OFF": (None, "none"), "ON": (None, "medium"), "MINIMAL": ("low", "minimal"), "LOW": ("low", "low"),
    "MEDIUM": ("medium", "medium"), "HIGH": ("high", "high"), "MAX": ("high", "high"),
}  # fmt: skip
"""What llama.cpp is told, and what a server of which nothing is known is told."""


@pytest.mark.parametrize("level", ThinkingLevel)
def test_each_level_of_thinking_has_a_word_for_the_template_and_one_of_openais(level: ThinkingLevel):
    for server, effort in zip((ServerKind.LLAMA_CPP, ServerKind.UNKNOWN), EFFORTS[level.name], strict=True):
        body = chat_body(replace(HELLO, thinking=level), server)
        assert body.get("reasoning_effort") == effort
        assert body["chat_template_kwargs"]["enable_thinking"] is (level is not ThinkingLevel.OFF)


@pytest.mark.parametrize("refused", ["reasoning_effort", "chat_template_kwargs"])
async def test_a_server_that_refuses_one_word_for_thinking_is_asked_with_the_other(fake: FakeModelServer, refused: str):
    fake.refuses = lambda body: f"Unrecognized request argument: {refused}" if refused in body else None
    async with aclosing(OpenAIBackend("openai", fake.url)) as backend:
        async with backend.generate(replace(HELLO, thinking=ThinkingLevel.OFF)) as batches:
            assert [batch async for batch in batches]
    words = {"reasoning_effort", "chat_template_kwargs"}
    assert [words & request.body.keys() for request in fake.requests] == [words, words - {refused}]


async def test_a_server_that_refuses_both_words_for_thinking_says_so(fake: FakeModelServer):
    fake.refuses = lambda body: (
        "Unknown: " + ("reasoning_effort" if "reasoning_effort" in body else "chat_template_kwargs")
    )
    async with aclosing(OpenAIBackend("openai", fake.url)) as backend:
        with pytest.raises(BackendRejected):
            async with backend.generate(replace(HELLO, thinking=ThinkingLevel.OFF)):
                pass


CHOICE = OutputFormat(choice=["yes", 'no "\\"\n', "vielleicht ä"])
GRAMMAR = OutputFormat(grammar='root ::= "a"')
REGEX = OutputFormat(regex="a+")


async def test_json_is_asked_of_every_server(backend: Backend, kind: str, fake: FakeModelServer):
    body = await body_of(backend, fake, replace(HELLO, format=OutputFormat(json_object=True)))
    assert body["format"] == "json" if kind == "ollama" else body["response_format"] == {"type": "json_object"}


async def test_a_schema_is_asked_of_every_server(backend: Backend, kind: str, fake: FakeModelServer):
    body = await body_of(backend, fake, replace(HELLO, format=OutputFormat(json_schema=SCHEMA)))
    wire = body["format"] if kind == "ollama" else body["response_format"]["json_schema"]["schema"]
    assert wire == SCHEMA


@pytest.mark.parametrize("form", [REGEX, GRAMMAR, CHOICE])
async def test_a_form_that_a_server_is_not_known_to_take_is_not_asked_for(
    backend: Backend, fake: FakeModelServer, form: OutputFormat
):
    error = await failure_of(backend, replace(HELLO, format=form))
    assert isinstance(error, BackendUnsupported)
    assert "Use the format jsonObject or jsonSchema" in str(error)
    assert not fake.requests


@pytest.mark.parametrize(("form", "name"), [(REGEX, "regex"), (GRAMMAR, "grammar"), (CHOICE, "choice")])
async def test_vllm_is_known_by_its_list_and_asked_in_the_words_of_all_its_versions(
    fake: FakeModelServer, form: OutputFormat, name: str
):
    fake.owner = "vllm"
    async with aclosing(OpenAIBackend("openai", fake.url)) as backend:
        await backend.models()
        body = await body_of(backend, fake, replace(HELLO, format=form))
    value = getattr(form, name)
    assert (body["structured_outputs"], body[f"guided_{name}"]) == ({name: value}, value)


@pytest.mark.parametrize(
    ("form", "grammar"),
    [
        (GRAMMAR, 'root ::= "a"'),
        (CHOICE, r'root ::= "yes" | "no \U00000022\U0000005c\U00000022\U0000000a" | "vielleicht ä"'),
    ],
)
async def test_llama_cpp_is_asked_by_a_grammar_also_before_its_models_were_described(
    fake: FakeModelServer, form: OutputFormat, grammar: str
):
    fake.replies["/props"] = (200, b'{"default_generation_settings": {"n_ctx": 512}, "total_slots": 1}')
    async with aclosing(OpenAIBackend("openai", fake.url)) as backend:
        assert (await body_of(backend, fake, replace(HELLO, format=form)))["grammar"] == grammar


def test_llama_cpp_takes_no_regular_expression():
    with pytest.raises(BackendUnsupported, match="grammar or choice"):
        chat_body(replace(HELLO, format=REGEX), ServerKind.LLAMA_CPP)
