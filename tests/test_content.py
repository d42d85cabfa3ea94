"""Text, JSON and pictures that not every reader can take are refused by the field that they stand in."""

import base64
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.protocol import MediaKind
from gateway.generation.content import MAX_JSON_DEPTH, MAX_KEY_LENGTH, bare_base64, json_problem, media_problem
from gateway.media import media_type
from tests.support.gateways import GraphQLErrors, Json, RunningGateway, refused_field
from tests.support.generations import COMPLETE, none_runs
from tests.support.wire_requests import PHOTO, PIXEL


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


ROWS = "{ generations(first: 100) { nodes { id } } }"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return {"a": value}


BAD_JSON: dict[str, tuple[str, str]] = {
    "deep": ("{a:" + "[" * 100 + "]" * 100 + "}", "levels deep"),
    "a long integer": ("{a: 12345678901234567890}", "64 bits"),
    "a negative long integer": ("{a: [-12345678901234567890]}", "64 bits"),
    "5,000 digits": ("{a: " + "9" * 5_000 + "}", "64 bits"),
    "infinite": ("{a: {b: 1e400}}", "finite"),
    "a NUL": ('{a: "\\u0000"}', "U+0000"),
    "a long key": ("{" + "k" * 1_001 + ": 1}", "keys of at most"),
}
FIELDS = {
    "tools[0].parameters": "tools: [{name: \"t\", parameters: %s}]",
    "format.jsonSchema": "format: {jsonSchema: %s}",
    "prompt.messages[0].toolCalls[0].arguments":
        "prompt: {messages: [{role: ASSISTANT, toolCalls: [{callId: \"1\", name: \"t\", arguments: %s}]}]}",
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", BAD_JSON)
async def test_json_in_a_literal_that_is_too_much_is_refused_by_its_field(
    shared_gateway: RunningGateway, kind: str, field: str
):
    literal, reason = BAD_JSON[kind]
    prompt = "" if field.startswith("prompt") else 'prompt: {text: "x"}, '
    query = f"""mutation {{ generate(input: {{model: "fake:echo", {prompt}{FIELDS[field] % literal}}}) {{
        __typename ... on UserError {{ code message }} ... on InvalidInput {{ issues {{ path }} }}
    }} }}"""
    answer = (await shared_gateway.run(query))["generate"]
    assert (answer["code"], refused_field(answer)) == ("INVALID_INPUT", field)
    assert reason in answer["message"]


VARIABLES = {
    "deep": '{"a": ' + "[" * 254 + "]" * 254 + "}",
    "deeper": '{"a": ' + "[" * 900 + "]" * 900 + "}",
    "20 digits": '{"a": 12345678901234567890}',
    "20 digits beyond 64 bits": '{"a": 99999999999999999999}',
    "5,000 digits": '{"a": -' + "9" * 5_000 + "}",
    "infinite": '{"a": 1e400}',
    "a NUL": '{"a": ["\\u0000"]}',
    "a NUL in a key": '{"\\u0000": 1}',
    "a long key": '{"' + "k" * 1_001 + '": 1}',
}


@pytest.mark.parametrize("kind", VARIABLES)
async def test_json_in_variables_that_is_too_much_is_refused_before_a_row_is_written(
    gateway: RunningGateway, kind: str
):
    query = """mutation($parameters: JSON!) { startGeneration(input: {
      model: "fake:echo", prompt: {text: "x"}, onBackendLoss: CONTINUE, idempotencyKey: "k",
      tools: [{name: "t", parameters: $parameters}]
    }) { ... on UserError { code } ... on InvalidInput { issues { path } } } }"""
    body = f'{{"query": {orjson_string(query)}, "variables": {{"parameters": {VARIABLES[kind]}}}}}'
    headers = {**gateway.headers(), "Content-Type": "application/json"}
    response = await gateway.client.post("/graphql", content=body, headers=headers)
    refused = response.json()["data"]["startGeneration"]
    assert (refused["code"], refused_field(refused)) == ("INVALID_INPUT", "tools[0].parameters")
    assert (await gateway.run(ROWS))["generations"]["nodes"] == []


def orjson_string(text: str) -> str:
    return '"' + text.replace('"', '\\"').replace("\n", " ") + '"'


async def test_json_as_large_as_is_allowed_reaches_the_model_server(gateway: RunningGateway):
    parameters = {"a": 2**63 - 1, "b": -(2**63), "c": 1.7976931348623157e308, "d": nested(60), "e": "\U0001f600"}
    tools = [{"name": "t", "parameters": parameters}]
    await gateway.run(COMPLETE, {"input": {"model": "fake:echo", "prompt": {"text": "x"}, "tools": tools}})
    assert (await gateway.fake.request()).body["tools"][0]["function"]["parameters"] == parameters


def told(*messages: Json) -> Json:
    return {"prompt": {"messages": messages}}


TEXTS: list[tuple[str, Json]] = [
    ("prompt.text", {"prompt": {"text": "a\0"}}),
    ("system", {"prompt": {"text": "x"}, "system": "\0"}),
    ("model", {"prompt": {"text": "x"}, "model": "\0"}),
    ("prompt.messages[1].text", told({"role": "USER"}, {"role": "USER", "text": "\0"})),
    ("prompt.messages[0].parts[1].text", told({"role": "USER", "parts": [{"text": ""}, {"text": "\0"}]})),
    ("prompt.messages[0].thinking", told({"role": "USER", "thinking": "\0"})),
    ("prompt.messages[0].toolName", told({"role": "TOOL", "toolName": "\0"})),
    ("prompt.messages[0].toolCallId", told({"role": "TOOL", "toolCallId": "\0"})),
    ("prompt.messages[0].toolCalls[0].callId",
     told({"role": "USER", "toolCalls": [{"callId": "\0", "name": "x", "arguments": {}}]})),
    ("prompt.messages[0].toolCalls[0].name",
     told({"role": "USER", "toolCalls": [{"callId": "x", "name": "\0", "arguments": {}}]})),
    ("tools[0].name", {"prompt": {"text": "x"}, "tools": [{"name": "\0", "parameters": {}}]}),
    ("tools[0].description",
     {"prompt": {"text": "x"}, "tools": [{"name": "x", "description": "\0", "parameters": {}}]}),
    ("options.stop[0]", {"prompt": {"text": "x"}, "options": {"stop": ["\0"]}}),
    ("idempotencyKey", {"prompt": {"text": "x"}, "idempotencyKey": "\0"}),
]  # fmt: skip


@pytest.mark.parametrize(("field", "input"), TEXTS)
async def test_text_that_cannot_be_kept_is_refused_by_its_field(
    shared_gateway: RunningGateway, field: str, input: Json
):
    query = "mutation($input: GenerateInput!) { generate(input: $input) { ... on InvalidInput { issues { path } } } }"
    answer = (await shared_gateway.run(query, {"input": {"model": "fake:echo", **input}}))["generate"]
    assert refused_field(answer) == field


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {"\udfff": 1}, 2**63, -(2**63) - 1, object()])
def test_a_value_that_json_cannot_hold_is_refused(value: object):
    assert json_problem({"a": [value]})


def test_json_may_be_as_deep_and_its_keys_as_long_as_the_limits_say():
    assert json_problem(nested(MAX_JSON_DEPTH - 1)) is None
    assert json_problem({"k" * MAX_KEY_LENGTH: 1}) is None
    assert "levels deep" in (json_problem(nested(MAX_JSON_DEPTH)) or "")


PICTURES = {
    "image/png": PIXEL,
    "image/jpeg": PHOTO,
    "image/gif": base64.b64encode(b"GIF89a" + b"\0" * 9).decode(),
    "image/webp": base64.b64encode(b"RIFF\0\0\0\0WEBPVP8 ").decode(),
    "image/bmp": base64.b64encode(b"BM" + b"\0" * 9).decode(),
    "image/tiff": base64.b64encode(b"II*\0" + b"\0" * 9).decode(),
    "image/avif": base64.b64encode(b"\0\0\0\x20ftypavif").decode(),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_is_taken_with_and_without_the_head_of_a_data_url(kind: str):
    encoded = PICTURES[kind]
    for form in (encoded, f"data:{kind};base64,{encoded}", f"DATA:image/x;charset=x;base64,{encoded}"):
        assert (media_problem(form, MediaKind.IMAGE), bare_base64(form)) == (None, encoded)
    assert bare_base64(f"{encoded[:4]}\r\n{encoded[4:]}\n") == encoded
    assert media_type(base64.b64decode(encoded)) == kind


@pytest.mark.parametrize(
    "value",
    [
        "", "aGk=", "not base64", PIXEL[:-1], PIXEL + "=", PIXEL.replace("i", "-", 1), "data:image/png;base64,",
        f"data:image/png,{PIXEL}", "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(),
        "https://example.com/a.png", "data:", "\u00e9" + PIXEL,
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(value: str):
    assert media_problem(value, MediaKind.IMAGE)


async def test_pictures_reach_the_model_server_in_the_form_that_it_reads(gateway: RunningGateway):
    images = [{"image": {"base64": PIXEL}}, {"image": {"base64": f"data:image/jpeg;base64,{PHOTO}"}}]
    message = {"role": "USER", "parts": [{"text": "What?"}, *images, {"text": "Why?"}]}
    await gateway.run(COMPLETE, {"input": {"model": "fake:echo", **told(message)}})
    [sent] = (await gateway.fake.request()).body["messages"]
    assert sent == {"role": "user", "content": "What?\nWhy?", "images": [PIXEL, PHOTO]}


async def test_a_picture_in_a_message_is_refused_by_its_place(shared_gateway: RunningGateway):
    query = "mutation($input: GenerateInput!) { generate(input: $input) { ... on InvalidInput { issues { path } } } }"
    second = {"role": "USER", "parts": [{"image": {"base64": PIXEL}}, {"image": {"base64": "x"}}]}
    answer = await shared_gateway.run(query, {"input": {"model": "fake:echo", **told({"role": "USER"}, second)}})
    assert refused_field(answer["generate"]) == "prompt.messages[1].parts[1].image.base64"


@pytest.mark.parametrize(
    "prompt",
    [
        '{}', '{text: "x", messages: []}', '{text: null}', '{messages: [{role: USER, parts: [{}]}]}',
        '{messages: [{role: USER, parts: [{image: {}}]}]}',
        '{messages: [{role: USER, parts: [{text: "x", image: null}]}]}',
    ],
)  # fmt: skip
async def test_of_several_ways_to_say_a_thing_exactly_one_is_taken(shared_gateway: RunningGateway, prompt: str):
    with pytest.raises(GraphQLErrors) as refusal:
        await shared_gateway.run(
            f'mutation {{ generate(input: {{model: "fake:echo", prompt: {prompt}}}) {{ __typename }} }}'
        )
    assert refusal.value.code == "GRAPHQL_VALIDATION_FAILED"


text = st.text(max_size=20) | st.sampled_from(["\0", "\u2028", "\U0001f600", "'\"\\", "x" * 2_000])
number = st.integers() | st.floats() | st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**20, 10**400, 1e308])
json = st.recursive(
    st.none() | st.booleans() | number | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
anything = json | st.just(nested(70)) | st.just(nested(300))
image = st.fixed_dictionaries({"image": st.fixed_dictionaries({"base64": text | st.just(PIXEL)})})
part = st.fixed_dictionaries({"text": text}) | image
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["USER", "TOOL", "ASSISTANT", "SYSTEM", "DEVELOPER"])},
    optional={
        "text": text,
        "parts": st.lists(part, max_size=2),
        "thinking": text,
        "toolCallId": text,
        "toolName": text,
        "toolCalls": st.lists(st.fixed_dictionaries({"callId": text, "name": text, "arguments": anything}), max_size=2),
    },
)
generate_input = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["fake:echo"] * 9 + ["\0", "none"]),
        "prompt": st.fixed_dictionaries({"text": text})
        | st.fixed_dictionaries({"messages": st.lists(message, max_size=3)}),
    },
    optional={
        "system": text,
        "tools": st.lists(st.fixed_dictionaries({"name": text, "parameters": anything}), max_size=2),
        "format": st.fixed_dictionaries({"jsonSchema": anything}) | st.just({"jsonObject": True}),
        "options": st.dictionaries(
            st.sampled_from(["temperature", "topP", "topK", "seed", "maxTokens", "contextLength"]), number, max_size=3
        ),
        "onBackendLoss": st.sampled_from(["CONTINUE", "FAIL"]),
        "idempotencyKey": text,
    },
)


def literal(value: object) -> str:
    """A value of JSON's as a literal of GraphQL's; keys that are no names are left out."""
    if isinstance(value, dict):
        fields = (f"{key}: {literal(item)}" for key, item in value.items() if key.isascii() and key.isidentifier())
        return "{" + ", ".join(fields) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        return value if value in ENUMS else '"' + "".join(f"\\u{{{ord(one):x}}}" for one in value) + '"'
    if isinstance(value, float) and not math.isfinite(value):
        return "1e400"
    return {None: "null", True: "true", False: "false"}.get(value, repr(value)) if not is_number(value) else repr(value)


ENUMS = {"USER", "TOOL", "ASSISTANT", "SYSTEM", "DEVELOPER", "CONTINUE", "FAIL"}


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def sent(value: object) -> str:
    """A value as JSON, also where it has numbers that readers stumble over."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{sent(key)}: {sent(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(sent, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\u{unit:04x}" for unit in utf16(value)) + '"'
    return literal(value)


def utf16(value: str) -> list[int]:
    data = value.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


@settings(suppress_health_check=list(HealthCheck))
@given(input=generate_input, as_literal=st.booleans())
async def test_whatever_is_asked_of_a_model_is_answered_or_refused_and_ends(
    shared_gateway: RunningGateway, input: Json, as_literal: bool
):
    gateway = shared_gateway
    select = "{ __typename ... on UserError { code } }"
    if as_literal:
        query, variables = f"mutation {{ generate(input: {literal(input)}) {select} }}", "{}"
    else:
        query, variables = f"mutation($i: GenerateInput!) {{ generate(input: $i) {select} }}", f'{{"i": {sent(input)}}}'
    body = f'{{"query": {sent(query)}, "variables": {variables}}}'
    headers = {**gateway.headers(), "Content-Type": "application/json"}
    response = await gateway.client.post("/graphql", content=body, headers=headers)
    assert response.status_code in {200, 400}
    assert "INTERNAL_ERROR" not in response.text
    await none_runs(gateway)


ODD: list[tuple[str, Json]] = [
    ("query($x: Int!) { generations(first: $x) { __typename } }", {"x": 10**30}),
    ("query($x: Int!) { generations(first: $x) { __typename } }", {"x": 1e308}),
    ("query($x: String) { generations(after: $x) { __typename } }", {"x": "\0" * 100}),
    ("query($x: String) { generations(after: $x) { __typename } }", {"x": "R2VuZXJhdGlvbjr/"}),
    ("query($x: ID!) { node(id: $x) { id } }", {"x": 10**17}),
    ("query($x: ID!) { node(id: $x) { id } }", {"x": base64.b64encode(b"Model:\0").decode()}),
    ("query($x: String!) { model(name: $x) { id } }", {"x": "\0"}),
    ("query($x: DateTime) { usage(input: {from: $x}) { from } }", {"x": "0001-01-01T00:00:00+23:59"}),
    ("query($x: DateTime) { usage(input: {to: $x}) { from } }", {"x": "9999-12-31T23:59:59-23:59"}),
    ("query($x: DateTime) { usage(input: {to: $x}) { from } }", {"x": "0001-01-01T00:00:00Z"}),
    ("query($x: DateTime) { usage(input: {from: $x}) { from } }", {"x": "99999-12-31T23:59:59Z"}),
    ("query($x: Int = " + "9" * 5_000 + ") { generations(first: $x) { __typename } }", {}),
    ("{ generations(first: " + "9" * 5_000 + ") { __typename } }", {}),
    ('{ usage(input: {from: "' + "9" * 5_000 + '"}) { from } }', {}),
]


@pytest.mark.parametrize(("query", "variables"), ODD)
async def test_numbers_ids_and_moments_far_out_of_range_are_refused_and_nothing_breaks(
    shared_gateway: RunningGateway, query: str, variables: Json
):
    response = await shared_gateway.post(query, variables)
    assert response.status_code == 200
    assert "INTERNAL_ERROR" not in response.text


async def test_a_default_of_5000_digits_is_an_error_of_its_operation_on_a_socket(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe("query($x: Int = " + "9" * 5_000 + ") { generations(first: $x) { __typename } }")
        refusal = await socket.receive()
        assert refusal["payload"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
        await socket.subscribe("{ me { username } }")
        assert [event async for event in socket.events()]


async def test_what_nobody_can_read_is_told_once_with_its_code(shared_gateway: RunningGateway):
    with pytest.raises(GraphQLErrors) as refusal:
        await shared_gateway.run("query($x: DateTime) { usage(input: {to: $x}) { from } }", {"x": "yesterday"})
    assert (refusal.value.code, len(refusal.value.errors)) == ("GRAPHQL_VALIDATION_FAILED", 1)
    assert "such as 2026-01-31T12:00:00Z" in refusal.value.errors[0]["message"]
