"""Validation, with the parts of graphql-core's that can become slow kept short.

A document within its limits is validated in time that grows with its length. Two things made exceptions of that: the
comparison of equal fields, which gets a budget here, and the looks at variables, which are left out where there are
none.
"""

from collections.abc import Sequence
from functools import cache

from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
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

_ABORTED = "Validation aborted."
"""graphql-core's whole message where a budget is spent."""

_OF_VARIABLES = (NoUndefinedVariablesRule, NoUnusedVariablesRule, VariablesInAllowedPositionRule)


class BudgetedMerging(OverlappingFieldsCanBeMergedRule):
    """The rule of field merging with a smaller budget than graphql-core gives it, which lasts for 0.3 s."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MERGE_BUDGET


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
    rules: list[type[ASTValidationRule]] = [
        BudgetedMerging if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules
    ]
    if not variables:
        rules = [rule for rule in rules if rule not in _OF_VARIABLES]
    return tuple(rules)
