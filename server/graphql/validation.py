"""Validation, with the parts of graphql-core's that can become slow kept short.

A document within its limits is validated in time that grows with its length. Three things made exceptions of that: the
comparison of equal fields, which gets a budget here; the looks at variables, which are left out where there are none;
and the search for what an unknown name may have meant, which is made for few names, and short for names of types.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    KnownTypeNamesRule,
    NamedTypeNode,
    Node,
    NoUndefinedVariablesRule,
    NoUnusedVariablesRule,
    OverlappingFieldsCanBeMergedRule,
    ValidationContext,
    VariablesInAllowedPositionRule,
    specified_rules,
    validate,
)

from server.graphql.document_limits import too_much_to_merge

MAX_ERRORS = 5

MERGE_BUDGET = 2_000
"""What comparing equal fields may cost, in graphql-core's measure: some milliseconds. A pair of fields costs two or
more; a page of twenty components whose fragments meet in one object comes to about a thousand."""

SUGGESTING_ERRORS = 2
"""How many errors of a document, the first ones, may suggest names. Looking for names takes 1 or 2 ms for each."""

SUGGESTED_TYPES = 5
"""How many types are suggested at most, as graphql-core does for all names."""

_ABORTED = "Validation aborted."
"""graphql-core's whole message where a budget is spent."""

_OF_VARIABLES = (NoUndefinedVariablesRule, NoUnusedVariablesRule, VariablesInAllowedPositionRule)


class BudgetedMerging(OverlappingFieldsCanBeMergedRule):
    """The rule of field merging with a smaller budget than graphql-core gives it, which lasts for 0.3 s."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MERGE_BUDGET


class CloseTypeNames(KnownTypeNamesRule):
    """The rule of known types, which looks among few of the schema's for what an unknown name may have meant.

    graphql-core measures the distance to each type: up to 16 ms for one name. `difflib` looks at the letters first.
    """

    def enter_named_type(self, node: NamedTypeNode, _key: Any, parent: Node, _path: Any, ancestors: list[Node]) -> None:
        """Choose the names that are close, and leave the rest to graphql-core."""
        name = node.name.value
        if name not in self.existing_types_map and not self.context.hide_suggestions:
            self.type_names = get_close_matches(name, self.existing_types_map, SUGGESTED_TYPES)
        super().enter_named_type(node, _key, parent, _path, ancestors)


class FewSuggestions(ASTValidationRule):
    """No rule of its own: it lets the first errors of a document suggest names, whichever rules find them.

    A value counts as one error, whatever is in it; `MAX_ERRORS` bounds that.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._errors = 0
        self._context = context
        self._on_error = context.on_error
        context.on_error = self._note

    def _note(self, error: GraphQLError) -> None:
        self._errors += 1
        if self._errors >= SUGGESTING_ERRORS:
            self._context._hide_suggestions = True  # pyright: ignore[reportPrivateUsage] - it has no other way
        self._on_error(error)


_INSTEAD: dict[type[ASTValidationRule], type[ASTValidationRule]] = {
    OverlappingFieldsCanBeMergedRule: BudgetedMerging,
    KnownTypeNamesRule: CloseTypeNames,
}


def validation_errors(
    schema: GraphQLSchema, document: DocumentNode, query: str, *, hide_suggestions: bool
) -> Sequence[GraphQLError]:
    """Give the first errors of a document within its limits, whose text is `query`; none when it is valid.

    Raises GraphQLError where comparing its equal fields would take too long.
    """
    rules = _rules(variables="$" in query)
    errors = validate(schema, document, rules, max_errors=MAX_ERRORS, hide_suggestions=hide_suggestions)
    if errors and errors[-1].message == _ABORTED:
        raise too_much_to_merge()
    return errors


@cache
def _rules(*, variables: bool) -> tuple[type[ASTValidationRule], ...]:
    left_out = () if variables else _OF_VARIABLES
    return FewSuggestions, *(_INSTEAD.get(rule, rule) for rule in specified_rules if rule not in left_out)
