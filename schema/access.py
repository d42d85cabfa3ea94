"""Who may use which field: the check before a resolver, and the directives that print it in the schema.

Both come from one mark, which `requires` puts on a resolver, so the printed schema says what is enforced.
"""

import functools
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeVar, cast

import strawberry
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from auth.scopes import Scope

_Resolver = TypeVar("_Resolver", bound=Callable[..., Any])


class Access(Enum):
    """What a field needs where it is no scope."""

    PUBLIC = "no credentials at all"
    SIGNED_IN = "valid credentials, with any scope or none"


PUBLIC: Final = Access.PUBLIC
SIGNED_IN: Final = Access.SIGNED_IN


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="requiresScopes",
    description="The field needs credentials with certain scopes.",
)
class RequiresScopes:
    scopes: list[list[Scope]] = strawberry.field(
        description="Lists of scopes; the credentials need all scopes of at least one list."
    )


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="authenticated",
    description="The field needs valid credentials, with or without scopes.",
)
class Authenticated: ...


def requires(scope: Scope | Access, *, null_for_nobody: bool = False) -> Callable[[_Resolver], _Resolver]:
    """Check the scope before the resolver runs, and mark the resolver with it.

    Every root field carries this mark (a test walks them all), so that a permission cannot be forgotten. The resolver
    must take `info`. With `null_for_nobody` a caller who sends no credentials gets null instead of an error. Raises
    AuthenticationError or Forbidden.
    """

    def decorate(resolver: _Resolver) -> _Resolver:
        @functools.wraps(resolver)
        async def checked(*args: Any, **kwargs: Any) -> Any:
            context = kwargs["info"].context
            if null_for_nobody and context.is_nobody:
                return None
            if isinstance(scope, Scope):
                context.require(scope)
            elif scope is SIGNED_IN:
                _ = context.caller
            return await resolver(*args, **kwargs)

        checked.required_scope = scope  # pyright: ignore[reportAttributeAccessIssue]
        checked.is_public = null_for_nobody or scope is PUBLIC  # pyright: ignore[reportAttributeAccessIssue]
        return checked  # pyright: ignore[reportReturnType]

    return decorate


def required_scope(field: StrawberryField) -> Scope | Access | None:
    """Give what the resolver of a field was marked with; None for a field that checks nothing by itself."""
    return _mark(field, "required_scope", None)


def is_public(field: StrawberryField) -> bool:
    """Tell whether a field was marked as one that callers without credentials may select."""
    return _mark(field, "is_public", False)


def access_directive(field: StrawberryField) -> RequiresScopes | Authenticated | None:
    """Give the directive that says what the field checks; None where it checks nothing."""
    scope = required_scope(field)
    if isinstance(scope, Scope):
        return RequiresScopes(scopes=[[scope]])
    return Authenticated() if scope is SIGNED_IN else None


def _mark(field: StrawberryField, name: str, default: Any) -> Any:
    resolver = cast("Any", field.base_resolver)  # Strawberry's annotations leave its type variable open
    return default if resolver is None else getattr(resolver.wrapped_func, name, default)
