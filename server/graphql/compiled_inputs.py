"""Makes the objects of input types out of what a client sent, as Strawberry does, with what it looks up looked up once.

Strawberry asks for each field of an input type, given or not, what it is called and of what type it is, each time
anew. For `generate` that took a tenth of the time from an operation's arrival to the request that it makes.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from functools import cached_property
from typing import Any, cast

import strawberry
from graphql import GraphQLInputObjectType
from strawberry.relay import GlobalID
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.arguments import InputContext
from strawberry.types.base import StrawberryMaybe, StrawberryObjectDefinition, StrawberryOptional
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.lazy_type import LazyType

_Convert = Callable[[Any, InputContext], Any]


def compile_inputs(schema: strawberry.Schema) -> None:
    """Let the input types of a schema be made this way, but those of plugins that are made in a way of their own."""
    for kind in schema._schema.type_map.values():  # pyright: ignore[reportPrivateUsage] - Strawberry has no other way
        if isinstance(kind, GraphQLInputObjectType):
            definition = kind.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
            tells_null = any(isinstance(field.type, StrawberryMaybe) for field in definition.fields)
            if definition.from_input is None and not tells_null:
                definition.from_input = _Maker(definition, schema).make


class _Maker:
    """Makes the objects of one input type."""

    def __init__(self, definition: StrawberryObjectDefinition, schema: strawberry.Schema) -> None:
        self._definition = definition
        self._schema = schema

    @cached_property
    def _fields(self) -> dict[str, tuple[str, _Convert | None]]:
        """By the name that clients write: the one of Python, and how its value is made of what came."""
        name_of = self._schema.config.name_converter.from_field
        return {name_of(field): (field.python_name, self._conversion(field)) for field in self._definition.fields}

    @cached_property
    def _absent(self) -> dict[str, None]:
        """What may be left out and has no default."""
        fields = cast("list[Any]", self._definition.fields)
        return {it.python_name: None for it in fields if it.default_value is MISSING and it.default_factory is MISSING}

    def make(self, kind: type, value: Mapping[str, Any], context: InputContext) -> Any:
        """Make an object of what graphql-core has checked: fields by name, with the defaults that the schema tells."""
        arguments: dict[str, Any] = {**self._absent}
        for name, item in value.items():
            python_name, convert = self._fields[name]
            arguments[python_name] = item if convert is None or item is None else convert(item, context)
        return kind(**arguments)

    def _conversion(self, field: StrawberryField) -> _Convert | None:
        """Give how to make a field's value; None where it stays as it is."""
        kind = cast("Any", field.resolve_type(type_definition=self._definition))
        plain = kind
        while isinstance(plain, StrawberryOptional | LazyType):
            plain = plain.resolve_type() if isinstance(plain, LazyType) else plain.of_type
        is_scalar = plain is not GlobalID and plain in self._schema.schema_converter.scalar_registry
        if is_scalar or isinstance(plain, StrawberryEnumDefinition):
            return None
        name = self._schema.config.name_converter.from_field(field)
        return lambda value, context: context.convert(value, kind, name)
