"""Limits on what a document may ask for, checked before it is validated: refusing one costs less than sending it.

Everything is counted as if fragments were written out where they are spread, and yet each fragment is looked at once:
a document whose few lines would unfold to millions of fields is refused in microseconds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphql import (
    ArgumentNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSyntaxError,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    parse,
)
from graphql.language.parser import MAX_NESTING_DEPTH

from gateway.errors import TransportErrorCode, cut

TYPENAME = "__typename"
TYPENAME_REPEATS = 60
"""How often `__typename` may stand in one selection set at least: Apollo Client writes it into every fragment."""

TYPENAME_ALIASES = 60
"""How many aliases `__typename` may have, beside those of other fields: relay-compiler writes one per refinement."""

INTROSPECTION_DEPTH = 20
"""What the usual introspection query needs, with room: its types are wrapped several times over."""

INTROSPECTION_ALIASES = 0
"""How many aliases `__schema` may have, and what is below it or `__type`: each would tell all of the schema anew."""

ONCE = frozenset({"changePassword", "login", "refreshSession", "registerUser", "setPassword"})
"""Root fields that an operation may select once only: otherwise one request could guess many passwords or tokens."""


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """The most of each thing in one operation, fragments unfolded; `fragments` counts their definitions.

    `fields` counts fields and fragments of the whole document, `repeats` how often one response name stands in what
    becomes one object, and `list_length` the values of one list. `cost` is in the measure of `server.graphql.cost`, and
    checked there; for that, `api_keys` is how many keys a user's list may hold.
    """

    length: int
    tokens: int
    depth: int
    aliases: int
    root_fields: int
    directives: int
    fragments: int
    fields: int
    repeats: int
    list_length: int
    cost: int
    api_keys: int


@dataclass(frozen=True, slots=True)
class _Measure:
    """What a selection comes to."""

    depth: int = 0
    introspection: int = 0
    aliases: int = 0
    typenames: int = 0
    introspection_aliases: int = 0
    directives: int = 0
    fields: int = 0
    list_length: int = 0


_NOTHING = _Measure()


def check_limits(document: DocumentNode, limits: DocumentLimits) -> None:
    """Check a document. Raises GraphQLError with the code LIMIT_EXCEEDED, naming the limit.

    Fragments that spread themselves are refused here, too, as validation does it: they have no measure.
    """
    defined = [node for node in document.definitions if isinstance(node, FragmentDefinitionNode)]
    _check("fragments", len(defined), limits.fragments)
    fragments = fragments_of(document)
    measuring = _Measuring(fragments)
    roots = [node.selection_set for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    fields = sum(
        _check_operation(measuring, node, limits)
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    )
    for node in defined:  # those that no operation spreads: validation refuses them, but looks at them first
        name = node.name.value
        if not measuring.knows(name) or fragments[name] is not node:
            measuring.fragment(name)
            fields += _check_measure(measuring.selection_set(node.selection_set), limits)
            roots.append(node.selection_set)
    _check("fields", fields, limits.fields)
    for selections in roots:
        _check_repeats(selections, fragments, limits.repeats)


def _check_operation(measuring: "_Measuring", operation: OperationDefinitionNode, limits: DocumentLimits) -> int:
    """Check one operation, and give how many fields it has."""
    found = measuring.selection_set(operation.selection_set)
    directives, longest = _outside(operation.directives or ())
    for definition in operation.variable_definitions or ():
        more, longer = _outside(definition.directives or ())
        default = longest_list(definition.default_value) if definition.default_value else 0
        directives, longest = directives + more, max(longest, longer, default)
    fields = _check_measure(found, limits)
    _check("directives", found.directives + directives, limits.directives)
    _check("values in one list", longest, limits.list_length)
    if found.fields <= limits.fields:
        names = Counter(node.name.value for node in _top(operation.selection_set, measuring.fragments))
        _check("root fields", names.total(), limits.root_fields)
        for name in ONCE:
            _check(f"{name} fields", names[name], 1)
    return fields


def _check_measure(found: _Measure, limits: DocumentLimits) -> int:
    _check("levels", found.depth, limits.depth)
    _check("levels of introspection", found.introspection, INTROSPECTION_DEPTH)
    _check("aliases in introspection", found.introspection_aliases, INTROSPECTION_ALIASES)
    _check("aliases", found.aliases, limits.aliases)
    _check(f"aliases of {TYPENAME}", found.typenames, TYPENAME_ALIASES)
    _check("directives", found.directives, limits.directives)
    _check("values in one list", found.list_length, limits.list_length)
    return found.fields


def _check_repeats(selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], most: int) -> None:
    """Check every object of the response: equal names become one, and so do the selections below them.

    Validation compares all pairs of equal names, which is why there must not be many. This looks at each field once,
    with fragments written out; how many those are has been checked.
    """
    objects = [[selections]]
    while objects:
        named: dict[str, list[FieldNode]] = {}
        for part in objects.pop():
            for node in _top(part, fragments):
                named.setdefault(response_name(node), []).append(node)
        for name, nodes in named.items():
            allowed = max(most, TYPENAME_REPEATS) if nodes[0].name.value == TYPENAME else most
            if len(nodes) > allowed:
                raise _repeated(name, allowed)
            if below := [node.selection_set for node in nodes if node.selection_set]:
                objects.append(below)


def fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    """Give the fragments that a document defines, by their names."""
    return {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}


def root_fields(document: DocumentNode, operation: OperationDefinitionNode) -> Counter[str]:
    """Give the names of the root fields that an operation within its limits selects, and how often each."""
    return Counter(node.name.value for node in _top(operation.selection_set, fragments_of(document)))


def variable_uses(document: DocumentNode, operation: OperationDefinitionNode) -> Counter[str]:
    """Count how often the arguments of an operation's root fields use each variable."""
    uses: Counter[str] = Counter()
    for field in _top(operation.selection_set, fragments_of(document)):
        waiting = [argument.value for argument in field.arguments or ()]
        while waiting:
            node = waiting.pop()
            if isinstance(node, VariableNode):
                uses[node.name.value] += 1
            elif isinstance(node, ListValueNode):
                waiting += node.values
            elif isinstance(node, ObjectValueNode):
                waiting += [part.value for part in node.fields]
    return uses


def response_name(node: FieldNode) -> str:
    """Give the key that a field has in the response."""
    return (node.alias or node.name).value


def longest_list(value: ValueNode) -> int:
    """Count how many values the longest list within a literal has."""
    longest, waiting = 0, [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ListValueNode):
            longest = max(longest, len(node.values))
            waiting += node.values
        elif isinstance(node, ObjectValueNode):
            waiting += [field.value for field in node.fields]
    return longest


def limit_exceeded(what: str, most: int) -> GraphQLError:
    """Give the refusal of a document."""
    return GraphQLError(
        f"The document has too many {what}: at most {most:,} are allowed, with fragments written out.",
        extensions={"code": TransportErrorCode.LIMIT_EXCEEDED, "limit": most},
    )


def too_costly(cost: int, most: int) -> GraphQLError:
    """Give the refusal of an operation."""
    return GraphQLError(
        f"Query cost {cost:,} exceeds the limit of {most:,}. Request fewer fields or shorter pages.",
        extensions={"code": TransportErrorCode.LIMIT_EXCEEDED, "limit": most, "cost": cost},
    )


def too_much_to_merge() -> GraphQLError:
    """Give the refusal of a document whose equal fields take too many comparisons, though each is within its limit."""
    return GraphQLError(
        "The document has too many equal fields: comparing them would take too long. Select each field once, "
        "or use fewer fragments.",
        extensions={"code": TransportErrorCode.LIMIT_EXCEEDED},
    )


def _repeated(name: str, most: int) -> GraphQLError:
    return GraphQLError(
        f"The document has the field {cut(name)!r} too often in one selection set: {most:,} times are allowed, with "
        "fragments written out (OLLAGRAPH_MAX_QUERY_REPEATS). Select it once, or give it another alias.",
        extensions={"code": TransportErrorCode.LIMIT_EXCEEDED, "limit": most},
    )


def _check(what: str, found: int, most: int) -> None:
    if found > most:
        raise limit_exceeded(what, most)


def _top(selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> Iterable[FieldNode]:
    """Give the fields of a selection set, fragments written out. No fragment may spread itself."""
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, FragmentSpreadNode):
            if node.name.value in fragments:
                yield from _top(fragments[node.name.value].selection_set, fragments)
        else:
            yield from _top(getattr(node, "selection_set"), fragments)  # noqa: B009 - an inline fragment


def _outside(directives: Sequence[DirectiveNode]) -> tuple[int, int]:
    """Count how many directives, and the longest list in them."""
    return len(directives), max((_longest(node.arguments or ()) for node in directives), default=0)


def _longest(arguments: Sequence[ArgumentNode]) -> int:
    return max((longest_list(argument.value) for argument in arguments), default=0)


class _Measuring:
    """Measures selections, each fragment once."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self.fragments = fragments
        self._measured: dict[str, _Measure | None] = {}

    def knows(self, name: str) -> bool:
        """Tell whether the fragment has been measured."""
        return name in self._measured

    def selection_set(self, selections: SelectionSetNode | None) -> _Measure:
        """Give the deepest and the sums of all parts."""
        if selections is None or not selections.selections:
            return _NOTHING
        parts = [self._selection(node) for node in selections.selections]
        return _Measure(
            depth=max(part.depth for part in parts),
            introspection=max(part.introspection for part in parts),
            aliases=sum(part.aliases for part in parts),
            typenames=sum(part.typenames for part in parts),
            introspection_aliases=sum(part.introspection_aliases for part in parts),
            directives=sum(part.directives for part in parts),
            fields=sum(part.fields for part in parts),
            list_length=max(part.list_length for part in parts),
        )

    def fragment(self, name: str) -> _Measure:
        """Give what the selection of a fragment comes to. Raises GraphQLError for one that spreads itself."""
        if name not in self._measured:
            self._measured[name] = None
            fragment = self.fragments.get(name)
            self._measured[name] = self.selection_set(fragment.selection_set if fragment else None)
        measure = self._measured[name]
        if measure is None:
            raise GraphQLError(f"Cannot spread fragment {cut(name)!r} within itself.", [self.fragments[name]])
        return measure

    def _selection(self, node: SelectionNode) -> _Measure:
        directives, longest = _outside(node.directives or ())
        spread = isinstance(node, FragmentSpreadNode)
        inner = self.fragment(node.name.value) if spread else self.selection_set(getattr(node, "selection_set", None))
        depth, introspection, aliases, typenames = inner.depth, inner.introspection, inner.aliases, inner.typenames
        introspection_aliases = inner.introspection_aliases
        if isinstance(node, FieldNode):
            introspects = node.name.value in {"__schema", "__type"}
            depth, introspection = (1, depth + 1) if introspects else (depth + 1, introspection)
            if introspects:
                introspection_aliases += (
                    aliases + typenames + (node.name.value == "__schema" and node.alias is not None)
                )
            renamed_typename = node.alias is not None and node.name.value == TYPENAME
            typenames += renamed_typename
            aliases += node.alias is not None and not renamed_typename
            longest = max(longest, _longest(node.arguments or ()))
        return _Measure(
            depth=depth,
            introspection=introspection,
            aliases=aliases,
            typenames=typenames,
            introspection_aliases=introspection_aliases,
            directives=inner.directives + directives,
            fields=inner.fields + 1,
            list_length=max(inner.list_length, longest),
        )


def parse_within(query: str, limits: DocumentLimits) -> DocumentNode:
    """Parse. Raises GraphQLError, with a code of its own where the parser gave up on the document's size."""
    try:
        return parse(query, max_lexical_tokens=limits.tokens)
    except GraphQLSyntaxError as error:
        if error.message.endswith("nested too deeply. Parsing aborted."):
            raise limit_exceeded("levels of nesting", MAX_NESTING_DEPTH) from error
        if error.message.endswith("tokens. Parsing aborted."):
            raise limit_exceeded("tokens", limits.tokens) from error
        raise
