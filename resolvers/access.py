"""Who may use which root field."""

import functools
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from graphql import GraphQLSchema, OperationType
from strawberry.schema.schema_converter import GraphQLCoreConverter

from auth.scopes import Scope

_Resolver = TypeVar("_Resolver", bound=Callable[..., Any])


class Access(Enum):
    """What a root field needs where it is no scope."""

    PUBLIC = "no credentials at all"
    SIGNED_IN = "valid credentials, with any scope or none"


PUBLIC: Final = Access.PUBLIC
SIGNED_IN: Final = Access.SIGNED_IN


def requires(scope: Scope | Access) -> Callable[[_Resolver], _Resolver]:
    """Check the scope before the resolver runs, and mark it as checked.

    Every root field carries this mark (a test walks them all), so that a permission cannot be forgotten. The
    resolver must take `info`. Raises AuthenticationError or Forbidden.
    """

    def decorate(resolver: _Resolver) -> _Resolver:
        @functools.wraps(resolver)
        async def checked(*args: Any, **kwargs: Any) -> Any:
            if isinstance(scope, Scope):
                kwargs["info"].context.require(scope)
            elif scope is SIGNED_IN:
                _ = kwargs["info"].context.caller
            return await resolver(*args, **kwargs)

        checked.required_scope = scope  # pyright: ignore[reportAttributeAccessIssue]
        return checked  # pyright: ignore[reportReturnType]

    return decorate


def public_fields(schema: GraphQLSchema) -> Mapping[OperationType, frozenset[str]]:
    """Give the root fields of each kind of operation that need no credentials."""
    return {
        kind: frozenset(name for name, field in root.fields.items() if _scope(field.extensions) is PUBLIC)
        if (root := schema.get_root_type(kind))
        else frozenset()
        for kind in OperationType
    }


def _scope(extensions: dict[str, Any]) -> Scope | Access:
    """Give what a root field was marked with."""
    return extensions[GraphQLCoreConverter.DEFINITION_BACKREF].base_resolver.wrapped_func.required_scope
