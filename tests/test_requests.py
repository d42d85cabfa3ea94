"""What is asked of a model is checked before any backend sees it."""

import base64
import math
from typing import Any
from uuid import UUID

import pytest

from backends.protocol import (
    AudioPart,
    BlobPart,
    Capability,
    FilePart,
    ImagePart,
    Json,
    MediaKind,
    Message,
    ModelInfo,
    NamedTool,
    Options,
    OutputFormat,
    TextPart,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolChoiceMode,
)
from gateway.catalog.catalog import Model
from gateway.errors import MOST_ISSUES, InvalidInput, Unsupported
from gateway.generation.request import (
    MAX_STOP_SEQUENCES,
    MAX_TOOLS,
    OPTION_RANGES,
    GenerationRequest,
    Tag,
    Turn,
    chat_request,
    problems_of,
)
from tests.support.gateways import RunningGateway
from tests.support.generations import GENERATE
from tests.support.wire_requests import PIXEL

INTEGERS = {"top_k", "max_tokens", "seed", "context_length"}
RANGES = [(attribute, *bounds) for attribute, bounds in OPTION_RANGES.items()]
LOOK = Tool("look", "Looks.", {"type": "object"})
LIST: Any = [1]
NOT_AN_OBJECT = ToolCall("call_0", "look", LIST)
WAVE = base64.b64encode(b"RIFF\0\0\0\0WAVEfmt ").decode()
PICTURE = [Turn("user", parts=[ImagePart(PIXEL)])]


class NoBackend:
    """A model needs a backend; none of these tests may reach it. It has words for images and files."""

    name = "none"

    def takes(self, kind: MediaKind, model: str) -> bool:
        return kind is not MediaKind.AUDIO


def model(capabilities: frozenset[Capability] | None = None) -> Model:
    backend: Any = NoBackend()
    return Model("known as", "called there", backend, ModelInfo("called there", capabilities))


def request(**fields: Any) -> GenerationRequest:
    return GenerationRequest(**{"model": "known as", "prompt": "Hello", **fields})


def refused(**fields: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        chat_request(request(**fields), model())
    return refusal.value


@pytest.mark.parametrize(("attribute", "name", "low", "high"), RANGES)
def test_an_option_may_have_its_smallest_and_its_largest_value(attribute: str, name: str, low: float, high: float):
    for value in (low, high):
        options = Options(**{attribute: value})
        assert chat_request(request(options=options), model()).options == options


@pytest.mark.parametrize(("attribute", "name", "low", "high"), RANGES)
def test_an_option_below_or_above_its_range_is_refused_by_name(attribute: str, name: str, low: float, high: float):
    step = 1 if attribute in INTEGERS else 0.001
    for value in (low - step, high + step):
        assert refused(options=Options(**{attribute: value})).field == f"options.{name}"


@pytest.mark.parametrize("attribute", sorted(OPTION_RANGES.keys() - INTEGERS))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused(attribute: str, value: float):
    assert refused(options=Options(**{attribute: value})).field == f"options.{OPTION_RANGES[attribute][0]}"


def test_every_numeric_option_has_a_range():
    assert OPTION_RANGES.keys() == set(Options.__slots__) - {"stop"}


def test_too_many_stop_sequences_are_refused():
    assert refused(options=Options(stop=["x"] * (MAX_STOP_SEQUENCES + 1))).field == "options.stop"


def test_an_empty_stop_sequence_is_refused():
    assert refused(options=Options(stop=["x", ""])).field == "options.stop"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": ""}, "prompt.text"),
        ({"prompt": []}, "prompt.messages"),
        ({"prompt": [Turn("user", "Hi"), Turn("tool", "42")]}, "prompt.messages[1]"),
        ({"prompt": [Turn("user", "Hi", parts=[TextPart("Hi")])]}, "prompt.messages[0]"),
        ({"prompt": [Turn("user", parts=[])]}, "prompt.messages[0].parts"),
        (
            {"prompt": [Turn("user", parts=[TextPart("Hi"), ImagePart("Hi")])]},
            "prompt.messages[0].parts[1].image.base64",
        ),
        ({"prompt": [Turn("user", tool_calls=[NOT_AN_OBJECT])]}, "prompt.messages[0].toolCalls[0].arguments"),
        ({"tools": [Tool("look", "", NOT_AN_OBJECT.arguments or {})]}, "tools[0].parameters"),
        ({"tools": [Tool("", "", {})]}, "tools[0].name"),
        ({"tools": [LOOK, LOOK]}, "tools[1].name"),
        ({"tags": [Tag(str(number), "") for number in range(17)]}, "tags"),
        ({"tags": [Tag("a", "1"), Tag("a", "2")]}, "tags[1].name"),
        ({"tags": [Tag("", "1")]}, "tags[0].name"),
        ({"tags": [Tag("a" * 65, "1")]}, "tags[0].name"),
        ({"tags": [Tag("a", "1" * 257)]}, "tags[0].value"),
        ({"end_user": ""}, "endUser"),
        ({"end_user": "a" * 257}, "endUser"),
        ({"end_user": "\0"}, "endUser"),
        ({"format": OutputFormat(json_schema=LIST)}, "format.jsonSchema"),
        ({"format": OutputFormat(regex="")}, "format.regex"),
        ({"format": OutputFormat(grammar="\0")}, "format.grammar"),
        ({"format": OutputFormat(choice=[])}, "format.choice"),
        ({"format": OutputFormat(choice=["a", "a"])}, "format.choice"),
        ({"format": OutputFormat(choice=["a", "\0"])}, "format.choice[1]"),
        ({"tools": [LOOK], "tool_choice": NamedTool("hear")}, "toolChoice.name"),
        ({"tool_choice": ToolChoiceMode.REQUIRED}, "toolChoice.mode"),
        ({"tools": [Tool(str(number), "", {}) for number in range(MAX_TOOLS + 1)]}, "tools"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_by_field(fields: dict[str, Any], field: str):
    assert refused(**fields).field == field


def test_everything_that_is_wrong_is_found_in_the_order_of_the_fields():
    turns = [Turn("user", "Hi", parts=[ImagePart("x")]), Turn("tool", "\0")]
    fields = {"prompt": turns, "options": Options(top_k=-1), "tools": [LOOK, LOOK], "end_user": ""}
    wrong = request()
    for name, value in fields.items():
        object.__setattr__(wrong, name, value)  # none of them can be made: the first problem is raised
    assert [path for path, _ in problems_of(wrong)] == [
        "prompt.messages[0]",
        "prompt.messages[0].parts[0].image.base64",
        "prompt.messages[1]",
        "prompt.messages[1].text",
        "options.topK",
        "tools[1].name",
        "endUser",
    ]
    assert refused(**fields).field == "prompt.messages[0]"


def test_a_text_becomes_one_message_of_the_user():
    assert list(chat_request(request(), model()).messages) == [Message("user", "Hello")]


def test_parts_keep_their_order_and_their_images_lose_the_head_of_a_data_url():
    parts = [TextPart("Is this"), ImagePart(f"data:image/png;base64,{PIXEL}"), TextPart("a dot?")]
    [message] = chat_request(request(prompt=[Turn("user", parts=parts)]), model()).messages
    assert message.content == [TextPart("Is this"), ImagePart(PIXEL), TextPart("a dot?")]


def test_system_instructions_come_first():
    chat = chat_request(
        request(prompt=[Turn("developer", "Be brief."), Turn("user", "Hi")], system="Be kind."), model()
    )
    assert [(message.role, message.content) for message in chat.messages] == [
        ("system", "Be kind."),
        ("developer", "Be brief."),
        ("user", "Hi"),
    ]


def test_a_tools_answer_may_name_the_call_or_the_tool():
    turns = [Turn("tool", "42", tool_call_id="call_0"), Turn("tool", "42", tool_name="look")]
    messages = [Message("tool", "42", tool_call_id="call_0"), Message("tool", "42", tool_name="look")]
    assert list(chat_request(request(prompt=turns), model()).messages) == messages


def test_the_backend_is_asked_by_its_own_name_of_the_model():
    assert chat_request(request(), model()).model == "called there"


@pytest.mark.parametrize(
    ("fields", "capability"),
    [
        ({"tools": [LOOK]}, Capability.TOOLS),
        ({"thinking": ThinkingLevel.LOW}, Capability.THINKING),
        ({"prompt": PICTURE}, Capability.VISION),
        ({}, Capability.COMPLETION),
    ],
)
def test_an_ability_that_the_model_lacks_is_refused(fields: dict[str, Json], capability: Capability):
    others = frozenset(Capability) - {capability}
    with pytest.raises(Unsupported, match=f"'known as' does not support {capability}"):
        chat_request(request(**fields), model(others))
    assert chat_request(request(**fields), model(others | {capability}))


def test_a_model_whose_abilities_are_not_told_gets_the_benefit_of_the_doubt():
    assert chat_request(request(tools=[LOOK], thinking=ThinkingLevel.ON, prompt=PICTURE), model(None)).tools == [LOOK]


def test_a_model_without_thinking_may_be_told_not_to_think():
    chat = chat_request(request(thinking=ThinkingLevel.OFF), model(frozenset({Capability.COMPLETION})))
    assert chat.thinking is ThinkingLevel.OFF


def test_all_that_is_wrong_with_a_request_is_told_at_once():
    refusal = refused(prompt="", options=Options(temperature=3, stop=["", "x"]), tools=[Tool("", "", {}), LOOK])
    fields = [issue.field for issue in refusal.issues]
    assert fields == ["prompt.text", "options.temperature", "options.stop", "tools[0].name"]
    assert refusal.issues[-1].path == ["tools", "0", "name"]
    assert str(refusal).endswith("Invalid values in total: 4 values.")


def test_all_texts_that_cannot_be_kept_are_told_at_once():
    with pytest.raises(InvalidInput) as refusal:
        request(prompt="\0", system="\0")
    assert [issue.field for issue in refusal.value.issues] == ["prompt.text", "system"]


def test_no_more_than_a_bounded_number_of_values_is_told():
    tools = [Tool("\0", "\0", {}) for _ in range(MAX_TOOLS)]
    with pytest.raises(InvalidInput) as refusal:
        request(tools=tools)
    assert len(refusal.value.issues) == MOST_ISSUES


DEFAULTS = {
    "system", "options", "format", "thinking", "tools", "toolChoice", "onDisconnect", "onBackendLoss", "idempotencyKey",
    "tags", "endUser",
}  # fmt: skip


async def test_null_means_the_default_of_every_input_that_has_one(shared_gateway: RunningGateway):
    message = {"role": "USER", "text": "one", "parts": None, "toolCalls": None}
    tools = [{"name": "look", "description": None, "parameters": {}}]
    given = dict.fromkeys(DEFAULTS) | {"model": "fake:echo", "prompt": {"messages": [message]}}
    [*_, end] = await shared_gateway.events(GENERATE, {"input": given})
    assert end["finishReason"] == "STOP"
    [*_, end] = await shared_gateway.events(GENERATE, {"input": given | {"tools": tools, "options": {"stop": None}}})
    assert end["finishReason"] == "STOP"


async def test_no_input_demands_what_has_a_default(shared_gateway: RunningGateway):
    value = "{ name defaultValue type { kind } }"
    query = f"{{ __schema {{ types {{ name inputFields {value} fields {{ args {value} }} }} }} }}"
    types = (await shared_gateway.run(query))["__schema"]["types"]
    types = [one for one in types if not one["name"].startswith("__")]
    args = [arg for one in types for field in one["fields"] or () for arg in field["args"]]
    inputs = args + [field for one in types for field in one["inputFields"] or ()]
    assert [one["name"] for one in inputs if one["type"]["kind"] == "NON_NULL" and one["defaultValue"]] == []


async def test_a_page_of_null_is_a_page_of_the_usual_length(shared_gateway: RunningGateway):
    query = "query($first: Int) { generations(first: $first) { nodes { id } } }"
    assert await shared_gateway.run(query, {"first": None}) == await shared_gateway.run(query)


NO_BLOB = UUID(int=0)


def of(*parts: Any) -> Json:
    return {"prompt": [Turn("user", parts=parts)]}


def test_a_part_that_the_server_has_no_words_for_is_refused_by_its_ability():
    for part in (BlobPart(NO_BLOB, MediaKind.AUDIO), AudioPart(WAVE, "")):
        with pytest.raises(Unsupported, match="does not accept audio") as refusal:
            chat_request(request(**of(TextPart("x"), part)), model())
        assert refusal.value.capability is Capability.AUDIO


def test_a_reference_counts_as_what_it_stands_for():
    with pytest.raises(Unsupported) as refusal:
        chat_request(request(**of(BlobPart(NO_BLOB, MediaKind.IMAGE))), model(frozenset({Capability.COMPLETION})))
    assert refusal.value.capability is Capability.VISION


def test_a_document_goes_on_with_the_type_of_its_bytes():
    encoded = base64.b64encode(b"%PDF-1.7").decode()
    [message] = chat_request(request(**of(FilePart(f"data:text/plain;base64,{encoded}", ""))), model()).messages
    assert message.content == [FilePart(encoded, "application/pdf")]


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (AudioPart(PIXEL, ""), "audio.base64"),
        (FilePart(PIXEL, ""), "file.base64"),
        (ImagePart(WAVE), "image.base64"),
    ],
)
def test_media_of_another_kind_are_refused_by_their_place(part: Any, path: str):
    assert refused(**of(part)).field == f"prompt.messages[0].parts[0].{path}"
