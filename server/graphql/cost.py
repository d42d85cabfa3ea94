"""What an operation costs, told before it runs: the most objects that it can make the gateway fetch.

The weights and lengths are those that the schema prints with `@cost` and `@listSize` (`schema/cost.py`). Each fragment
is looked at once for each length of page: measuring costs less than sending.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    is_composite_type,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.unset import UNSET

from schema.cost import LONGEST_LIST, Cost, ListSize

LONGEST_NUMBER = 11
"""Characters of an Int. What is longer is none, and its other digits are not looked at."""

_Directive = TypeVar("_Directive", Cost, ListSize)


class OperationCost(NamedTuple):
    """A cost, and whether it may be another one with other variables."""

    cost: int
    depends_on_variables: bool


def operation_cost(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: Mapping[str, Any],
    longer: Mapping[tuple[str, str], int],
) -> OperationCost:
    """Measure a valid operation with these variables, which need not be valid.

    `longer` are lengths of lists by type and field: what settings allow beyond the length that the schema assumes.
    """
    root = schema.get_root_type(operation.operation)
    defaults = {
        definition.variable.name.value: _measured(definition.default_value)
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }
    costing = _Costing(schema, fragments, {**defaults, **variables}, longer)
    return OperationCost(costing.selections(operation.selection_set, root, None), costing.looked_at_variables)


def _type_of(field: GraphQLField) -> GraphQLNamedType:
    """Give the type of a field without its lists. graphql-core's annotations leave a type variable open."""
    return cast("GraphQLNamedType", get_named_type(cast("Any", field).type))


@dataclass(frozen=True, slots=True)
class _Price:
    """What the schema says of one field."""

    weight: int
    size: ListSize | None


@cache
def _prices(schema: GraphQLSchema) -> dict[tuple[str, str], _Price]:
    """Read the directives of all fields, by their types and names. Introspection has limits of its own and no price."""
    return {
        (kind.name, name): _price(field)
        for kind in schema.type_map.values()
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and not kind.name.startswith("__")
        for name, field in kind.fields.items()
    }


def _price(field: GraphQLField) -> _Price:
    cost = _declared(field, Cost)
    weight = int(cost.weight) if cost else int(is_composite_type(_type_of(field)))
    return _Price(weight, _declared(field, ListSize))


def _declared(field: GraphQLField, kind: type[_Directive]) -> _Directive | None:
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return next((it for it in getattr(definition, "directives", ()) if isinstance(it, kind)), None)


@dataclass(frozen=True, slots=True)
class _Sized:
    """The lists of an object whose length its own field says."""

    fields: tuple[str, ...]
    size: int


class _Costing:
    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: Mapping[str, Any],
        longer: Mapping[tuple[str, str], int],
    ) -> None:
        self._schema = schema
        self._prices = _prices(schema)
        self._fragments = fragments
        self._variables = variables
        self._longer = longer
        self._known: dict[tuple[str, _Sized | None], int] = {}
        self.looked_at_variables = False

    def selections(self, node: SelectionSetNode | None, kind: GraphQLNamedType | None, sized: _Sized | None) -> int:
        """Give the sum of all fields of an object of this type, some of whose lists have a known size."""
        cost = 0
        for selection in node.selections if node else ():
            if isinstance(selection, FieldNode):
                cost += self._field(selection, kind, sized)
            elif isinstance(selection, FragmentSpreadNode):
                cost += self._fragment(selection.name.value, sized)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self._schema.get_type(condition.name.value) if condition else kind
                cost += self.selections(selection.selection_set, inner, sized)
        return cost

    def _fragment(self, name: str, sized: _Sized | None) -> int:
        if (name, sized) not in self._known:
            fragment = self._fragments[name]
            kind = self._schema.get_type(fragment.type_condition.name.value)
            self._known[name, sized] = self.selections(fragment.selection_set, kind, sized)
        return self._known[name, sized]

    def _field(self, node: FieldNode, kind: GraphQLNamedType | None, sized: _Sized | None) -> int:
        if not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            return 0
        name = node.name.value
        price = self._prices.get((kind.name, name))
        if price is None:
            return 0
        field, inner = kind.fields[name], None
        size = 1 if price.size is None else self._size(node, field, price.size)
        size = max(size, self._longer.get((kind.name, name), 0))
        if price.size is not None and price.size.sized_fields:
            inner, size = _Sized(tuple(price.size.sized_fields), size), 1
        elif sized is not None and name in sized.fields:
            size = sized.size
        return size * (price.weight + self.selections(node.selection_set, _type_of(field), inner))

    def _size(self, node: FieldNode, field: GraphQLField, declared: ListSize) -> int:
        """Give the length that the slicing argument asks for, else the assumed one."""
        assumed = declared.assumed_size if isinstance(declared.assumed_size, int) else 1
        for name in () if declared.slicing_arguments is UNSET else declared.slicing_arguments or ():
            default: object = field.args[name].default_value
            value = self._argument(node, name, default)
            asked = len(cast("list[object]", value)) if isinstance(value, list) else value
            if isinstance(asked, int):
                return max(1, min(asked, LONGEST_LIST))
        return assumed

    def _argument(self, node: FieldNode, name: str, default: object) -> object:
        """Give the value of an argument, as far as it can be measured."""
        for argument in node.arguments or ():
            if argument.name.value == name:
                if isinstance(argument.value, VariableNode):
                    self.looked_at_variables = True
                    return self._variables.get(argument.value.name.value, default)
                return _measured(argument.value)
        return default


def _measured(node: ValueNode) -> int | list[ValueNode] | None:
    """Give a number, or a list for its length; None for what is neither."""
    if isinstance(node, ListValueNode):
        return list(node.values)
    return int(node.value[:LONGEST_NUMBER]) if isinstance(node, IntValueNode) else None
