"""Limits on what a document may ask for, checked before it is validated: refusing one costs less than sending it.

Everything is counted as if fragments were written out where they are spread, and yet each fragment is looked at once:
a document whose few lines would unfold to millions of fields is refused in microseconds.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
)

from gateway.errors import ErrorCode

INTROSPECTION_DEPTH = 20
"""What the usual introspection query needs, with room: its types are wrapped several times over."""

ONCE = frozenset({"login"})
"""Root fields that an operation may select once only: otherwise one request could guess many passwords."""


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """The most of each thing in one operation, fragments unfolded; `fragments` counts their definitions.

    `cost` is in the measure of `server.cost`, and checked there.
    """

    length: int = 15_000
    tokens: int = 1_000
    depth: int = 10
    aliases: int = 15
    root_fields: int = 10
    directives: int = 50
    fragments: int = 50
    cost: int = 1_000


@dataclass(frozen=True, slots=True)
class _Measure:
    """What a selection comes to. `fields` are the names at its top: of an operation, its root fields."""

    depth: int
    introspection: int
    aliases: int
    directives: int
    fields: Counter[str]


_NOTHING = _Measure(0, 0, 0, 0, Counter())


def check_limits(document: DocumentNode, limits: DocumentLimits) -> None:
    """Raises GraphQLError with the code LIMIT_EXCEEDED, naming the limit."""
    fragments = fragments_of(document)
    _check("fragments", len(fragments), limits.fragments)
    measuring = _Measuring(fragments)
    for operation in document.definitions:
        if isinstance(operation, OperationDefinitionNode):
            found = measuring.selection_set(operation.selection_set)
            _check("levels", found.depth, limits.depth)
            _check("levels of introspection", found.introspection, INTROSPECTION_DEPTH)
            _check("aliases", found.aliases, limits.aliases)
            _check("directives", found.directives + len(operation.directives or ()), limits.directives)
            _check("root fields", found.fields.total(), limits.root_fields)
            for name in ONCE:
                _check(f"{name} fields", found.fields[name], 1)


def fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    """The fragments that a document defines, by their names."""
    return {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}


def root_fields(document: DocumentNode, operation: OperationDefinitionNode) -> Counter[str]:
    """The names of the root fields that an operation selects, and how often each."""
    return _Measuring(fragments_of(document)).selection_set(operation.selection_set).fields


def limit_exceeded(what: str, most: int) -> GraphQLError:
    """The refusal of a document."""
    return GraphQLError(
        f"The document has too many {what}: at most {most:,} are allowed, with fragments written out.",
        extensions={"code": ErrorCode.LIMIT_EXCEEDED, "limit": most},
    )


def too_costly(cost: int, most: int) -> GraphQLError:
    """The refusal of an operation."""
    return GraphQLError(
        f"The operation may cost {cost:,}, and {most:,} is the most allowed. Ask for fewer fields or shorter pages.",
        extensions={"code": ErrorCode.LIMIT_EXCEEDED, "limit": most, "cost": cost},
    )


def _check(what: str, found: int, most: int) -> None:
    if found > most:
        raise limit_exceeded(what, most)


class _Measuring:
    """Measures selections, each fragment once."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._measured: dict[str, _Measure] = {}

    def selection_set(self, selections: SelectionSetNode | None) -> _Measure:
        """The deepest and the sums of all parts."""
        parts = [self._selection(node) for node in selections.selections] if selections else []
        fields: Counter[str] = Counter()
        for part in parts:
            fields += part.fields
        return _Measure(
            depth=max((part.depth for part in parts), default=0),
            introspection=max((part.introspection for part in parts), default=0),
            aliases=sum(part.aliases for part in parts),
            directives=sum(part.directives for part in parts),
            fields=fields,
        )

    def _selection(self, node: SelectionNode) -> _Measure:
        if isinstance(node, FragmentSpreadNode):
            return _with_directives(self._fragment(node.name.value), node)
        inner = self.selection_set(getattr(node, "selection_set", None))
        if not isinstance(node, FieldNode):
            return _with_directives(inner, node)
        name = node.name.value
        introspects = name in {"__schema", "__type"}
        return _Measure(
            depth=1 if introspects else inner.depth + 1,
            introspection=inner.depth + 1 if introspects else inner.introspection,
            aliases=inner.aliases + (node.alias is not None),
            directives=inner.directives + len(node.directives or ()),
            fields=Counter({name: 1}),
        )

    def _fragment(self, name: str) -> _Measure:
        if name not in self._measured:
            self._measured[name] = _NOTHING  # what a fragment that spreads itself finds; validation refuses it
            fragment = self._fragments.get(name)
            self._measured[name] = self.selection_set(fragment.selection_set if fragment else None)
        return self._measured[name]


def _with_directives(measure: _Measure, node: SelectionNode) -> _Measure:
    directives = measure.directives + len(node.directives or ())
    return _Measure(measure.depth, measure.introspection, measure.aliases, directives, measure.fields)
