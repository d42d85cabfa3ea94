"""What an operation selects, for fields whose values cost something to get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
)

from schema.context import Info


@dataclass(frozen=True, slots=True)
class _Operation:
    """What a selection may refer to, and whether to look `deep`, into the selections of fields."""

    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, object]
    deep: bool = False


def selects(info: Info, name: str) -> bool:
    """Tell whether a field of this name is selected of the resolved field's object, whatever its type is.

    It walks the document itself: `info.selected_fields` makes objects of all that is selected, with arguments, which
    took a twenty-fifth of all that an answer of one token costs.
    """
    raw = cast("Any", info)._raw_info  # Strawberry has no other way to it
    operation = _Operation(raw.fragments, raw.variable_values)
    return _of_any(raw.field_nodes, name, operation)


def selects_within(info: Info, name: str) -> bool:
    """Tell whether a field of this name is selected anywhere below the resolved field."""
    raw = cast("Any", info)._raw_info
    operation = _Operation(raw.fragments, raw.variable_values, deep=True)
    return _of_any(raw.field_nodes, name, operation)


def _of_any(fields: Sequence[FieldNode], name: str, operation: _Operation) -> bool:
    for node in fields:
        if _has(node.selection_set, name, operation):
            return True
    return False


def _has(selected: SelectionSetNode | None, name: str, operation: _Operation) -> bool:
    for node in selected.selections if selected else ():
        if _is_or_has(node, name, operation) and not _is_left_out(node, operation):
            return True
    return False


def _is_left_out(node: SelectionNode, operation: _Operation) -> bool:
    return any(_leaves_out(directive, operation) for directive in node.directives or ())


def _is_or_has(node: SelectionNode, name: str, operation: _Operation) -> bool:
    match node:
        case FieldNode():
            return node.name.value == name or (operation.deep and _has(node.selection_set, name, operation))
        case FragmentSpreadNode():
            return _has(operation.fragments[node.name.value].selection_set, name, operation)
        case InlineFragmentNode():
            return _has(node.selection_set, name, operation)
        case _:
            return False


def _leaves_out(directive: DirectiveNode, operation: _Operation) -> bool:
    """Tell what `@skip` and `@include` say; validation has seen to their one argument."""
    if directive.name.value not in {"skip", "include"}:
        return False
    [argument] = list(directive.arguments or ())
    value = argument.value
    if isinstance(value, VariableNode):
        said = operation.variables.get(value.name.value)
    else:
        said = isinstance(value, BooleanValueNode) and value.value
    return said is (directive.name.value == "skip")
