"""What fields cost, after IBM's GraphQL Cost Directive Specification.

A field declares its cost beside its type, the printed schema shows it, and the gateway computes the cost of an
operation from the same declarations. An object costs 1 and a scalar nothing, unless its field declares another weight.
What stands in a list counts as often as the list may be long. Specification:
https://ibm.github.io/graphql-specs/cost-spec.html
"""

import strawberry
from strawberry.schema_directive import Location
from strawberry.types.unset import UNSET

from schema.node import MAX_PAGE

FEW = 10
"""Assumed length of lists that are short and not counted before: tool calls, attempts, tags, mistakes in an input."""


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="cost",
    description="The cost of the field. By default an object costs 1 and a scalar 0.",
)
class Cost:
    weight: str = strawberry.field(description="The cost of one value, an integer.")


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="listSize",
    description="The length of a list for computing the cost: the cost of the field is multiplied by it.",
)
class ListSize:
    assumed_size: int | None = strawberry.field(
        default=UNSET, description="The length if no slicing argument gives it."
    )
    slicing_arguments: list[str] | None = strawberry.field(
        default=UNSET,
        description="The arguments that give the length: as a number, or by how many values they list.",
    )
    sized_fields: list[str] | None = strawberry.field(
        default=UNSET,
        description="The lists within the field's object that have this length; null for the field itself.",
    )
    require_one_slicing_argument: bool | None = strawberry.field(
        default=True, description="Whether a query must set one of the slicing arguments."
    )


WITHIN = Cost(weight="0")
"""A part of an object that is read, bounded and paid for as a whole."""


def list_of(size: int) -> ListSize:
    """Declare a list that no argument makes longer or shorter."""
    return ListSize(assumed_size=size, require_one_slicing_argument=UNSET)


def page_of(default: int) -> ListSize:
    """Declare a connection: `first` says how long its lists are, and `default` where nobody says it."""
    return ListSize(
        assumed_size=default,
        slicing_arguments=["first"],
        sized_fields=["edges", "nodes"],
        require_one_slicing_argument=False,
    )


LONGEST_LIST = MAX_PAGE
"""What no slicing argument makes longer: more is refused when the field is resolved."""
