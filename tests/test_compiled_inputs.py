"""Objects of input types: made by what was looked up once, and by Strawberry itself, they are the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLList, GraphQLNonNull
from hypothesis import given
from hypothesis import strategies as st
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.arguments import convert_argument

from resolvers.root import build_schema
from server.graphql.compiled_inputs import compile_inputs

SCHEMA = build_schema()
compile_inputs(SCHEMA)
INPUTS = {
    name: kind for name, kind in SCHEMA._schema.type_map.items() if isinstance(kind, GraphQLInputObjectType)
}  # fmt: skip


def definition_of(kind: GraphQLInputObjectType) -> Any:
    return kind.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Give what graphql-core gives for a value of an input type. Of scalars nothing but themselves is made."""
    if isinstance(kind, GraphQLNonNull):
        return plain_values(kind.of_type)
    return st.none() | plain_values(kind)


def plain_values(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, GraphQLList):
        return st.lists(values(kind.of_type), max_size=2)
    if isinstance(kind, GraphQLEnumType):
        return st.sampled_from([it.value for it in kind.values.values()])
    if isinstance(kind, GraphQLInputObjectType):
        required = {name: values(it.type) for name, it in kind.fields.items() if isinstance(it.type, GraphQLNonNull)}
        optional = {name: values(it.type) for name, it in kind.fields.items() if name not in required}
        return st.fixed_dictionaries(required, optional=optional)
    return st.text(max_size=2) | st.integers()


def made(kind: GraphQLInputObjectType, value: Any) -> Any:
    return convert_argument(value, definition_of(kind).origin, SCHEMA.schema_converter.scalar_registry, SCHEMA.config)


@contextmanager
def strawberrys_own_way() -> Iterator[None]:
    ways = {name: definition_of(kind).from_input for name, kind in INPUTS.items()}
    try:
        for kind in INPUTS.values():
            definition_of(kind).from_input = None
        yield
    finally:
        for name, kind in INPUTS.items():
            definition_of(kind).from_input = ways[name]


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_an_input_is_made_as_strawberry_makes_it(name: str):
    kind = INPUTS[name]
    assert definition_of(kind).from_input is not None

    @given(plain_values(kind))
    def same(value: Any) -> None:
        with strawberrys_own_way():
            expected = made(kind, value)
        assert made(kind, value) == expected

    same()


def test_a_list_of_a_default_is_not_shared():
    value = {"stop": ["a"]}
    assert made(INPUTS["GenerationOptions"], value).stop is not value["stop"]
