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


def requires(*needed: Scope | Access, null_for_nobody: bool = False) -> Callable[[_Resolver], _Resolver]:
    """Check before the resolver runs that the caller has one of these scopes, and mark the resolver with them.

    Every root field carries this mark (a test walks them all), so that a permission cannot be forgotten. The resolver
    must take `info`. With `null_for_nobody` a caller who sends no credentials gets null instead of an error. Raises
    AuthenticationError or Forbidden.
    """

    scopes = _scopes(needed)

    def decorate(resolver: _Resolver) -> _Resolver:
        @functools.wraps(resolver)
        async def checked(*args: Any, **kwargs: Any) -> Any:
            context = kwargs["info"].context
            if null_for_nobody and context.is_nobody:
                return None
            if scopes:
                context.require(*scopes)
            elif SIGNED_IN in needed:
                _ = context.caller
            return await resolver(*args, **kwargs)

        checked.needs = needed  # pyright: ignore[reportAttributeAccessIssue]
        checked.is_public = null_for_nobody or PUBLIC in needed  # pyright: ignore[reportAttributeAccessIssue]
        return checked  # pyright: ignore[reportReturnType]

    return decorate


def needs(field: StrawberryField) -> tuple[Scope | Access, ...]:
    """Give what the resolver of a field was marked with; nothing for a field that checks nothing by itself."""
    return _mark(field, "needs", ())


def is_public(field: StrawberryField) -> bool:
    """Tell whether a field was marked as one that callers without credentials may select."""
    return _mark(field, "is_public", False)


def access_directive(field: StrawberryField) -> RequiresScopes | Authenticated | None:
    """Give the directive that says what the field checks; None where it checks nothing."""
    needed = needs(field)
    if scopes := _scopes(needed):
        return RequiresScopes(scopes=[[scope] for scope in scopes])
    return Authenticated() if SIGNED_IN in needed else None


def _scopes(needed: tuple[Scope | Access, ...]) -> tuple[Scope, ...]:
    return tuple(it for it in needed if isinstance(it, Scope))


def _mark(field: StrawberryField, name: str, default: Any) -> Any:
    resolver = cast("Any", field.base_resolver)  # Strawberry's annotations leave its type variable open
    return default if resolver is None else getattr(resolver.wrapped_func, name, default)
