"""Who may use which root field."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from graphql import GraphQLSchema, OperationType
from strawberry.schema.schema_converter import GraphQLCoreConverter

from auth.scopes import Scope

_Resolver = TypeVar("_Resolver", bound=Callable[..., Any])

PUBLIC = None
"""For the fields that need no credentials at all."""


def requires(scope: Scope | None) -> Callable[[_Resolver], _Resolver]:
    """Check the scope before the resolver runs, and mark it as checked.

    Every root field carries this mark (a test walks them all), so that a permission cannot be forgotten. The
    resolver must take `info`. Raises AuthenticationError or Forbidden.
    """

    def decorate(resolver: _Resolver) -> _Resolver:
        @functools.wraps(resolver)
        async def checked(*args: Any, **kwargs: Any) -> Any:
            if scope is not PUBLIC:
                kwargs["info"].context.require(scope)
            return await resolver(*args, **kwargs)

        checked.required_scope = scope  # pyright: ignore[reportAttributeAccessIssue]
        return checked  # pyright: ignore[reportReturnType]

    return decorate


def public_fields(schema: GraphQLSchema) -> Mapping[OperationType, frozenset[str]]:
    """The root fields of each kind of operation that need no credentials."""
    return {
        kind: frozenset(name for name, field in root.fields.items() if _scope(field.extensions) is PUBLIC)
        if (root := schema.get_root_type(kind))
        else frozenset()
        for kind in OperationType
    }


def _scope(extensions: dict[str, Any]) -> Scope | None:
    """The scope that a root field was marked with."""
    return extensions[GraphQLCoreConverter.DEFINITION_BACKREF].base_resolver.wrapped_func.required_scope
