"""Compiled subscription events answer exactly as graphql-core does without them."""

import math
from typing import Any

import pytest
from graphql import ExecutionResult, parse, subscribe, validate
from hypothesis import given
from hypothesis import strategies as st
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from backends.logprobs import TokenLogprob
from backends.protocol import ToolCall
from db.clock import new_id
from gateway.errors import ErrorCode
from gateway.streams import events
from gateway.streams.events import TokenUsage
from resolvers.root import build_schema
from schema.events import to_generation_event
from schema.node import global_id
from server.graphql.compiled_events import CompiledEventExecutor, executor_of

SCHEMA = build_schema()._schema
KEY = new_id()
USAGE = TokenUsage(3, 5)
EVENTS: tuple[events.Event, ...] = (
    events.Queued(1, 4),
    events.Started(2, 17),
    events.TextDelta(3, 'say "hé" \u2028 😀', 0, 2),
    events.TextDelta(2**31, "a sequence that does not fit in an Int", 7, 1),
    events.TextDelta(3, "ab", 0, 2, [TokenLogprob("a", -0.5, b"a"), TokenLogprob("b", 0.0)]),
    events.TextDelta(3, "no number that JSON holds", 0, 2, [TokenLogprob("a", -math.inf)]),
    events.TextDelta(3, "none", 0, 2, []),
    events.ThinkingDelta(4, "hm", 0, 1),
    events.ToolCallRequested(5, ToolCall("c1", "add", {"a": [1, {"b": None}]})),
    events.Completed(6, events.FinishReason.STOP, USAGE),
    events.Cancelled(7, events.CancelReason.REQUESTED, USAGE),
    events.Failed(7, ErrorCode.BACKEND_FAILED, "broke", True, USAGE),
)

USAGE_FIELDS = (
    "promptTokens",
    "completionTokens",
    "totalTokens",
    "thinkingTokens",
    "cachedTokens",
    "source",
    "__typename",
)
CALL_FIELDS = ("callId", "name", "arguments", "__typename")
ERROR_FIELDS = ("code", "message", "retryable", "retryAfterMs", "__typename")
FIELDS = {
    "GenerationEvent": ("generationId", "sequence", "__typename"),
    "GenerationQueued": ("position", "ahead", "estimatedStartMs", "sequence"),
    "GenerationStarted": ("queuedMs", "backend", "__typename"),
    "TextDelta": ("text", "offset", "tokens", "sequence", "logprobs"),
    "ThinkingDelta": ("text", "offset", "tokens"),
    "ToolCallRequested": ("call", "generationId"),
    "GenerationCompleted": ("finishReason", "usage", "sequence"),
    "GenerationCancelled": ("cancelReason", "usage"),
    "GenerationFailed": ("error", "usage"),
}
LOGPROB_FIELDS = ("token", "logprob", "bytes", "__typename")
NESTED = {"usage": USAGE_FIELDS, "call": CALL_FIELDS, "error": ERROR_FIELDS, "logprobs": LOGPROB_FIELDS}
DIRECTIVES = ("", "@include(if: $yes)", "@skip(if: $yes)", "@include(if: false)", "@skip(if: $no)")


@st.composite
def field(draw: st.DrawFn, names: tuple[str, ...]) -> str:
    """A field, perhaps under an alias and a directive. An alias names its field, so that two never conflict."""
    name = draw(st.sampled_from(names))
    alias = draw(st.sampled_from(("", f"my_{name}: ")))
    directive = draw(st.sampled_from(DIRECTIVES))
    inner = ""
    if name in NESTED:
        fields = draw(st.lists(field(NESTED[name]), min_size=1, max_size=3))
        inner = "{ " + " ".join(fields) + " }"
    return f"{alias}{name} {directive} {inner}"


@st.composite
def selection(draw: st.DrawFn, depth: int = 2) -> str:
    """A selection on the event interface: fields, inline fragments, and spreads of the named fragments."""
    parts = draw(st.lists(field(FIELDS["GenerationEvent"]), min_size=1, max_size=3))
    for kind in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=4)):
        inner = " ".join(draw(st.lists(field(FIELDS[kind]), min_size=1, max_size=4)))
        if depth and kind == "GenerationEvent":
            inner += " " + draw(selection(depth - 1))
        parts.append(f"... on {kind} {draw(st.sampled_from(DIRECTIVES))} {{ {inner} }}")
    if draw(st.booleans()):
        parts.append("...Named")
    return " ".join(draw(st.permutations(parts)))


@st.composite
def document(draw: st.DrawFn) -> str:
    """A subscription with a named fragment."""
    alias = draw(st.sampled_from(("", "stream: ")))
    named = " ".join(draw(st.lists(field(FIELDS["TextDelta"]), min_size=1, max_size=3)))
    return (
        f'subscription($yes: Boolean!, $no: Boolean = false) {{ {alias}generation(id: "x") {{ {draw(selection())} '
        "...Named ... @include(if: $yes) { sequence } ... @skip(if: $no) { sequence } } } "
        f"fragment Named on TextDelta {{ {named} }}"
    )


async def source(*_: Any, **__: Any) -> Any:
    for event in EVENTS:
        yield to_generation_event(global_id("Generation", KEY), KEY, event)


async def responses(text: str, yes: bool, executor_class: type[CompiledEventExecutor]) -> list[ExecutionResult]:
    """What a subscriber gets for every kind of event."""
    begun = await executor_class.begin(
        {"yes": yes}, schema=SCHEMA, document=parse(text), subscribe_field_resolver=source
    )
    assert not isinstance(begun, list)
    answers, events = begun
    results: list[ExecutionResult] = []
    async for event in events:
        data = answers.compiled(event)
        results.append(await answers.executed(event) if data is None else ExecutionResult(data))
    return results


async def ordinary_responses(text: str, yes: bool) -> list[ExecutionResult]:
    """What they would get from Strawberry and graphql-core alone."""
    stream: Any = subscribe(
        SCHEMA,
        parse(text),
        variable_values={"yes": yes},
        subscribe_field_resolver=source,
        executor_class=StrawberryGraphQLCoreExecutionContext,
    )
    return [result async for result in stream]


@pytest.fixture(autouse=True)
def event_source() -> Any:
    """Subscribe to the events above, in place of the gateway's."""
    subscription = SCHEMA.subscription_type
    assert subscription is not None
    root = subscription.fields["generation"]
    original, root.subscribe = root.subscribe, None
    yield
    root.subscribe = original


@given(text=document(), yes=st.booleans())
async def test_every_selection_is_answered_as_without_compiling(text: str, yes: bool):
    assert validate(SCHEMA, parse(text)) == []
    compiled = await responses(text, yes, CompiledEventExecutor)
    ordinary = await ordinary_responses(text, yes)
    assert compiled == ordinary
    of_document = executor_of(text)
    for again in (yes, not yes, yes):
        expected = ordinary if again is yes else await ordinary_responses(text, again)
        assert await responses(text, again, of_document) == expected
    assert [list((result.data or {}).values()) for result in compiled] == [
        list((result.data or {}).values()) for result in ordinary
    ]


async def test_what_is_compiled_is_kept_for_the_next_operation_of_a_document_without_directives():
    text = """
        subscription A { generation(id: "x") { __typename ... on TextDelta { text } } }
        subscription B { generation(id: "x") { ... on TextDelta { sequence } } }
    """
    executor = executor_of(text)
    assert executor_of(text.replace("text", "text @skip(if: false)")) is CompiledEventExecutor
    payload = to_generation_event(global_id("Generation", KEY), KEY, EVENTS[2])
    for name in ("A", "B", "A"):
        begun: Any = await executor.begin(
            None, schema=SCHEMA, document=parse(text), operation_name=name, subscribe_field_resolver=source
        )
        data = begun[0].compiled(payload)["generation"]
        assert data == ({"__typename": "TextDelta", "text": EVENTS[2].text} if name == "A" else {"sequence": 3})
    assert executor.kept is not None
    assert {name: list(kinds) for name, kinds in executor.kept.items()} == {"A": [type(payload)], "B": [type(payload)]}


async def test_plain_events_do_not_go_the_ordinary_way():
    text = """subscription { generation(id: "x") {
        __typename sequence ... on TextDelta { text logprobs { token logprob bytes } }
        ... on GenerationCompleted { usage { source } }
    } }"""
    begun: Any = await CompiledEventExecutor.begin(
        None, schema=SCHEMA, document=parse(text), subscribe_field_resolver=source
    )
    for event in (EVENTS[2], EVENTS[4], EVENTS[9]):
        payload = to_generation_event(global_id("Generation", KEY), KEY, event)
        assert begun[0].compiled(payload) is not None
