"""No document costs much before it runs: neither those that were made to, nor any of a family found at random."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from graphql import GraphQLError, get_introspection_query, parse, specified_rules, validate

from auth.errors import MissingCredentials
from bench.documents import Search, make_executor
from bench.hostile import FAMILIES, GENERATE, changed
from gateway.errors import ErrorCode
from server.execution import document_limits
from server.graphql.document_limits import check_limits
from server.graphql.executor import RequestError
from server.graphql.request import GraphQLRequest
from server.graphql.validation import MAX_ERRORS, validation_errors
from server.settings import Settings
from tests.test_repository import ROOT

EXECUTOR = make_executor()
SCHEMA = EXECUTOR._schema  # pyright: ignore[reportPrivateUsage]
LIMITS = document_limits(Settings(_env_file=None))

MOST_CALLS = 130_000
"""Function calls of Python's, a fifth of a microsecond each: some 25 ms. A long search found one of 129,000."""

FULL = "{types{name description fields{name args{name description type{name}} type{name ofType{name}}}}}"

OPERATIONS = sorted((ROOT / "web/src/operations").glob("*.graphql"))


@contextmanager
def calls() -> Iterator[list[int]]:
    """Count the function calls within the block: work, whatever else the machine does."""
    count = [0]

    def note(frame: Any, event: str, argument: Any) -> None:
        count[0] += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(before)


def work(document: str) -> int:
    """The function calls that it takes to prepare a document that nobody has sent before."""
    EXECUTOR.forget()
    with calls() as count:
        try:
            EXECUTOR.prepare(GraphQLRequest(document), None)
        except RequestError:
            pass
    return count[0]


def refusal(document: str) -> GraphQLError:
    with pytest.raises(RequestError) as refused:
        EXECUTOR.prepare(GraphQLRequest(document), None)
    return refused.value.errors[0]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_no_document_of_a_hostile_family_makes_much_work(family: Any):
    rng = random.Random(family.__name__)
    documents = [family(rng) for _ in range(12)]
    documents += [changed(rng.choice(documents), rng.choice(documents), rng) for _ in range(8)]
    worst = max(documents, key=work)
    assert work(worst) <= MOST_CALLS, worst[:300]


@pytest.mark.parametrize("kind", ["documents", "variables"])
def test_the_bench_searches_for_what_is_dear(kind: str):
    search = Search(seed=3)
    for _ in range(3):
        getattr(search, kind)()
    assert search.tried == 3


PLAIN = "{generations(first:1){nodes{" + "user{id} " * 160 + "}}}"
REPEATED = {
    "plain": PLAIN,
    "with another comment": PLAIN + "#7",
    "aliased": "{generations{nodes{" + "a:user{id} " * 11 + "}}}",
    "below equal fields": "{me{" + "apiKeys{user{id} user{username}} " * 6 + "}}",
    "in fragments": "{me{" + "...F " * 11 + "}} fragment F on User{id}",
    "in fragments of fragments": "{me{...A ...A}} fragment A on User{...B ...B ...B} fragment B on User{"
    "apiKeys{id} apiKeys{id}}",
    "in inline fragments": "{me{" + "... on User{id} " * 11 + "}}",
    "in a fragment that nothing spreads": "{me{id}} fragment F on Generation{" + "user{id} " * 11 + "}",
    "in a fragment that is there twice": "{me{...F}} fragment F on User{" + "id " * 11 + "} fragment F on User{id}",
    "in the second operation": "query A{me{id}} query B{me{" + "id " * 11 + "}}",
    "of introspection": "{__schema{" + "types{name} " * 11 + "}}",
    "unknown": "{me{" + "nothing{id} " * 11 + "}}",
}


@pytest.mark.parametrize("kind", REPEATED)
def test_a_response_name_that_stands_too_often_in_a_selection_set_is_refused(kind: str):
    error = refusal(REPEATED[kind])
    assert (error.extensions or {})["code"] == ErrorCode.LIMIT_EXCEEDED
    assert "OLLAGRAPH_MAX_QUERY_REPEATS" in error.message


def test_a_response_name_may_stand_in_a_selection_set_as_often_as_the_limit_says():
    EXECUTOR.prepare(GraphQLRequest("{me{" + "id " * 10 + "}}"), None)


def test_the_same_name_in_different_objects_is_not_repeated():
    fields = " ".join(f"a{number}:me{{id}}" for number in range(10))
    EXECUTOR.prepare(GraphQLRequest(f"{{{fields}}}"), None)


@pytest.mark.parametrize("count", [3, 20, 50])
def test_fragments_that_spread_one_another_in_a_circle_are_an_error_of_the_document(count: int):
    everything = " ".join(f"...F{number}" for number in range(17))
    document = "{...F0}" + "".join(f" fragment F{number} on Query{{{everything}}}" for number in range(count))
    assert work(document) <= MOST_CALLS


def test_many_fields_in_fragments_written_out_are_refused():
    fragments = "".join(f" fragment F{n} on Query{{...F{n + 1} ...F{n + 1}}}" for n in range(20))
    error = refusal("{...F0}" + fragments + " fragment F20 on Query{}")
    assert "too many fields" in error.message


def test_a_list_in_a_document_is_as_long_as_one_in_variables_may_be():
    error = refusal(
        'mutation{generate(input:{model:"x" messages:[' + "{role:USER}" * 0 + "5 " * 501 + "]}){__typename}}"
    )
    assert (error.extensions or {})["limit"] == 500


@pytest.mark.parametrize("argument", ["$input", "{model:$model prompt:{messages:[$message]}}"])
def test_a_variable_counts_for_each_root_field_that_uses_it(argument: str):
    parts = [{"image": {"base64": "eA=="}}] * 400
    declared = "$input:GenerateInput!" if argument == "$input" else "$model:String! $message:MessageInput!"
    message = {"role": "USER", "parts": parts}
    variables = {"input": {"model": "x", "prompt": {"messages": [message]}}, "model": "x", "message": message}
    used = {name: value for name, value in variables.items() if f"${name}" in argument}

    def document(fields: int) -> str:
        argument_ = f"input:{argument}"
        return f"mutation({declared}){{{' '.join(f'a{n}:generate({argument_}){{__typename}}' for n in range(fields))}}}"

    EXECUTOR.prepare(GraphQLRequest(document(3), variables=used), None)
    with pytest.raises(RequestError, match=r"OLLAGRAPH_MAX_VARIABLE_VALUES.*each root field"):
        EXECUTOR.prepare(GraphQLRequest(document(4), variables=used), None)


def prepared_with(**given: Any) -> None:
    EXECUTOR.prepare(GraphQLRequest(GENERATE, variables={"input": {"model": "x", **given}}), None)


def test_an_object_of_an_input_type_counts_for_more_than_its_values():
    message = {"role": "USER", "parts": [{"text": "x"}] * 100}
    prepared_with(prompt={"messages": [message] * 24})
    with pytest.raises(RequestError, match="object of an input type counts as 3"):
        prepared_with(prompt={"messages": [message] * 25})


def test_an_object_within_json_counts_as_one_value():
    prepared_with(prompt={"text": "x"}, tools=[{"name": "t", "parameters": {"a": [{"b": 1}] * 490}}] * 10)


def test_what_takes_too_long_to_compare_is_refused_as_too_much():
    spreads = " ".join(f"...F{number}" for number in range(50))
    names = " ".join(f"x{number}:id" for number in range(7))
    document = f"{{me{{{spreads}}}}}" + "".join(f" fragment F{n} on User{{{names}}}" for n in range(50))
    with pytest.raises(GraphQLError) as refused:
        validation_errors(SCHEMA, parse(document), document, hide_suggestions=True)
    assert (refused.value.extensions or {})["code"] == ErrorCode.LIMIT_EXCEEDED


@pytest.mark.parametrize("seed", range(40))
def test_validation_finds_what_graphql_core_finds(seed: int):
    rng = random.Random(seed)
    document = ""
    while not document:
        candidate = rng.choice(FAMILIES)(rng)
        try:
            parsed = parse(candidate, max_lexical_tokens=400)
            check_limits(parsed, LIMITS)
        except (GraphQLError, RecursionError):
            continue
        document = candidate
    parsed = parse(document)
    try:
        found = validation_errors(SCHEMA, parsed, document, hide_suggestions=False)
    except GraphQLError:
        return
    expected = validate(SCHEMA, parsed, specified_rules, max_errors=MAX_ERRORS)
    assert [without_suggestion(error) for error in found] == [without_suggestion(error) for error in expected]


def without_suggestion(error: GraphQLError) -> str:
    """graphql-core suggests names in every error."""
    return error.message.partition(" Did you mean")[0]


UNKNOWN = {
    "types": "... on GenerationConnectio%d{id}",
    "fields": "usernam%d",
    "arguments": "generations(firs%d:1){__typename}",
    "enum values": "generations(filter:{states:[COMPLETE%d]}){__typename}",
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_the_first_errors_of_a_document_suggest_names_and_no_more(kind: str):
    each = UNKNOWN[kind] if "generations" in UNKNOWN[kind] else f"me{{{UNKNOWN[kind]}}}"
    document = "{" + " ".join(f"a{number}:{each % number}" for number in range(4)) + "}"
    errors = validation_errors(SCHEMA, parse(document), document, hide_suggestions=False)
    assert ["Did you mean" in error.message for error in errors] == [True, True, False, False]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("Generatoin", "Generation"), ("user", "User"), ("CreateApiKeyInputt0123456", "CreateApiKeyInput")],
)
def test_a_type_that_was_misspelt_is_suggested_first_without_looking_at_all_types(wrong: str, meant: str):
    document = f"{{me{{... on {wrong}{{id}}}}}}"
    EXECUTOR.forget()
    assert f"'{wrong}'. Did you mean '{meant}'" in refusal(document).message
    assert work(document) < MOST_CALLS / 6


EVENTS = ("GenerationQueued", "GenerationStarted", "TextDelta", "ThinkingDelta", "GenerationCompleted")
WRITTEN = {
    "introspection": get_introspection_query(),
    "full introspection": get_introspection_query(
        input_value_deprecation=True, directive_is_repeatable=True, schema_description=True
    ),
    **{path.stem: path.read_text() for path in OPERATIONS},
    "nine components": "query Nine{me{"
    + " ".join(f"...Part{number}" for number in range(9))
    + "}}"
    + "".join(f" fragment Part{number} on User{{id username __typename}}" for number in range(9)),
    "Apollo": 'subscription Apollo{generation(id:"x"){__typename '
    + " ".join(f"... on {name}{{__typename sequence}}" for name in EVENTS)
    + " ".join(f"... on {name}{{__typename}}" for name in EVENTS * 5)
    + "}}",
}
"""What pages and tools send."""


@pytest.mark.parametrize("name", WRITTEN)
def test_what_pages_and_tools_send_is_within_the_limits(name: str):
    EXECUTOR.prepare(GraphQLRequest(WRITTEN[name]), None)


@pytest.mark.parametrize(
    "document",
    [
        "{" + " ".join(f"a{number}:__schema{FULL}" for number in range(10)) + "}",
        "{...A} fragment A on Query{a:__schema{types{name}}}",
        "{__schema{types{name} a:types{name}}}",
        "{__schema{...A}} fragment A on __Schema{types{...B}} fragment B on __Type{a:fields{name}}",
        '{a:__type(name:"User"){b:fields{name}}}',
        "{__schema{types{a:__typename}}}",
    ],
)
def test_aliases_do_not_multiply_introspection(document: str):
    error = refusal(document)
    assert (error.extensions or {})["code"] == ErrorCode.LIMIT_EXCEEDED
    assert "aliases in introspection" in error.message


def test_several_types_may_be_looked_at():
    types = '{a:__type(name:"User"){name} b:__type(name:"ApiKey"){name} c:__typename}'
    EXECUTOR.prepare(GraphQLRequest(types), None)


def test_nobody_pays_for_validation_that_would_refuse_them_anyway():
    document = "{models{" + " ".join(f"nothing{number}" for number in range(300)) + "}}"
    EXECUTOR.forget()
    with calls() as count, pytest.raises(RequestError, match="Sign in"):
        EXECUTOR.prepare(GraphQLRequest(document), MissingCredentials())
    assert count[0] < work(document)


def test_the_operations_of_the_page_are_found():
    assert "Stream" in {path.stem for path in OPERATIONS}
