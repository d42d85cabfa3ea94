"""How an enum of the gateway becomes one of the API."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar, cast

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

_Enum = TypeVar("_Enum", bound=type[Enum])


def describe(enum: _Enum, name: str, description: str, values: Mapping[str, str]) -> _Enum:
    """Make an enum part of the API. Raises KeyError for a value without a description."""
    strawberry.enum(enum, name=name, description=description)
    definition = cast("StrawberryEnumDefinition", vars(enum)["__strawberry_definition__"])
    for value in definition.values:
        value.description = values[value.name]
    return enum
