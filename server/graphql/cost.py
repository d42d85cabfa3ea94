"""What an operation costs, told before it runs: the most objects that it can make the gateway fetch.

After IBM's GraphQL Cost Directive Specification (https://ibm.github.io/graphql-specs/cost-spec.html), with its weights
in tables here: an object is 1, a scalar is nothing unless it is large, and what stands in a list counts as often as
the list may be long. Each fragment is looked at once for each length of page: measuring costs less than sending.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
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

from schema.node import MAX_NODE_IDS, MAX_PAGE

WEIGHTS = {"generate": 100, "startGeneration": 100, "login": 50}
"""Fields that cost more than an object: those that make a model, or a password's hash, be computed."""

SCALARS = {("Generation", name): 10 for name in ("text", "thinking", "lastSequence")}
"""Scalars that are not small, by the type and the field: a whole answer is read from the stream log."""

WHOLE = {("Generation", "input"): 10}
"""Objects that are read as a whole, however much of them is selected: what they hold is bounded by its size."""

MODELS = 100

DEPLOYMENTS = 3
"""Backends that one model may be listed by: there is at most one of each kind."""

ASSUMED_LENGTH = 10
"""Of a list that no table knows."""

PAGE = "first"

LISTED = {("Query", "nodes"): ("ids", MAX_NODE_IDS)}
"""Lists that are as long as one of their arguments, with the most values that their fields take in it."""

LONGEST_NUMBER = 11
"""Characters of an Int. What is longer is none, and its other digits are not looked at."""


def operation_cost(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: Mapping[str, Any],
    api_keys: int,
) -> int:
    """Give the cost of a valid operation with these variables, which need not be valid.

    `api_keys` is how many a user may have.
    """
    root = schema.get_root_type(operation.operation)
    defaults = {
        definition.variable.name.value: _measured(definition.default_value)
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }
    costing = _Costing(schema, fragments, {**defaults, **variables}, api_keys)
    return costing.selections(operation.selection_set, root, None)


# graphql-core's own annotations leave type variables open, which strict checking does not let through
_named = cast("Callable[[object], GraphQLNamedType]", get_named_type)


def _is_list(kind: object) -> bool:
    return isinstance(kind.of_type if isinstance(kind, GraphQLNonNull) else kind, GraphQLList)  # pyright: ignore[reportUnknownMemberType]


class _Costing:
    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: Mapping[str, Any],
        api_keys: int,
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables
        self._lengths = {
            ("Query", "models"): MODELS,
            ("Model", "deployments"): DEPLOYMENTS,
            ("User", "apiKeys"): api_keys,
        }
        self._known: dict[tuple[str, int | None], int] = {}

    def selections(self, node: SelectionSetNode | None, kind: GraphQLNamedType | None, page: int | None) -> int:
        """Give the sum of all fields of an object of this type; `page` is how many a connection was asked for."""
        cost = 0
        for selection in node.selections if node else ():
            if isinstance(selection, FieldNode):
                cost += self._field(selection, kind, page)
            elif isinstance(selection, FragmentSpreadNode):
                cost += self._fragment(selection.name.value, page)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self._schema.get_type(condition.name.value) if condition else kind
                cost += self.selections(selection.selection_set, inner, page)
        return cost

    def _fragment(self, name: str, page: int | None) -> int:
        if (name, page) not in self._known:
            fragment = self._fragments[name]
            kind = self._schema.get_type(fragment.type_condition.name.value)
            self._known[name, page] = self.selections(fragment.selection_set, kind, page)
        return self._known[name, page]

    def _field(self, node: FieldNode, kind: GraphQLNamedType | None, page: int | None) -> int:
        if not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            return 0
        name = node.name.value
        field = kind.fields.get(name)
        inner = _named(field.type) if field else None
        if field is None or not is_composite_type(inner):
            return SCALARS.get((kind.name, name), 0)  # introspection has limits of its own
        if (kind.name, name) in WHOLE:
            return WHOLE[kind.name, name]
        asked = self._page(node, field)
        one = WEIGHTS.get(name, 1) + self.selections(node.selection_set, inner, asked)
        if not _is_list(field.type):
            return one
        return one * (self._listed(node, kind.name) or self._lengths.get((kind.name, name)) or page or ASSUMED_LENGTH)

    def _listed(self, node: FieldNode, kind: str) -> int | None:
        """Count how many values the argument has that a list is as long as; None for another list."""
        if (kind, node.name.value) not in LISTED:
            return None
        name, most = LISTED[kind, node.name.value]
        value = self._argument(node, name, None)
        return max(1, min(len(cast("list[object]", value)), most)) if isinstance(value, list) else 1

    def _page(self, node: FieldNode, field: GraphQLField) -> int | None:
        """Count how many are asked for; None for a field that has no pages."""
        if PAGE not in field.args:
            return None
        default: object = field.args[PAGE].default_value
        value = self._argument(node, PAGE, default)
        value = default if value is None else value
        return max(1, min(value, MAX_PAGE)) if isinstance(value, int) else MAX_PAGE

    def _argument(self, node: FieldNode, name: str, default: object) -> object:
        """Give the value of an argument, as far as it can be measured."""
        for argument in node.arguments or ():
            if argument.name.value == name:
                if isinstance(argument.value, VariableNode):
                    return self._variables.get(argument.value.name.value, default)
                return _measured(argument.value)
        return default


def _measured(node: ValueNode) -> int | list[ValueNode] | None:
    """Give a number, or a list for its length; None for what is neither."""
    if isinstance(node, ListValueNode):
        return list(node.values)
    return int(node.value[:LONGEST_NUMBER]) if isinstance(node, IntValueNode) else None
