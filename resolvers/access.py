"""Who may use which root field."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

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
