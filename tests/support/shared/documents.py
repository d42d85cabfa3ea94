"""Documents that one gateway has found valid, which all with the same schema take from it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from graphql import DocumentNode, GraphQLError, GraphQLSchema

from server.graphql import executor

_validated = executor.validation_errors


@contextmanager
def shared_documents() -> Iterator[None]:
    """Let each document be validated by one gateway within the block.

    A gateway keeps the documents that it has found valid. In a test it lives for a few, and most are those of the
    test before. Of an invalid one each gateway finds the errors anew.
    """
    valid: set[tuple[GraphQLSchema, str]] = set()

    def errors(
        schema: GraphQLSchema, document: DocumentNode, query: str, *, hide_suggestions: bool
    ) -> Sequence[GraphQLError]:
        if (schema, query) in valid:
            return []
        found = _validated(schema, document, query, hide_suggestions=hide_suggestions)
        if not found:
            valid.add((schema, query))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "validation_errors", errors)
        yield
