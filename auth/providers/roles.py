"""From a provider's groups to a role of the gateway."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from auth.providers.errors import RefusalReason, SignInRefused


@dataclass(frozen=True, slots=True)
class RoleMapping:
    """Rules `(group, role)`, of which the first that matches decides.

    `default` is the role of who matches none; None leaves the role open, or refuses them if `required`. With no
    mapping at all, a provider says nothing of roles.
    """

    rules: tuple[tuple[str, str], ...] = ()
    default: str | None = None
    required: bool = False

    def role_of(self, groups: Collection[str], normal: Callable[[str], str] = str) -> str | None:
        """Give the role for these groups, compared in their `normal` form. Raises SignInRefused if one is required."""
        held = {normal(group) for group in groups}
        for group, role in self.rules:
            if normal(group) in held:
                return role
        if self.default is None and self.required:
            message = "Your account is known, but it has no access here. Ask an administrator for it."
            raise SignInRefused(RefusalReason.NO_ROLE, message, detail="no group of the account is mapped to a role")
        return self.default
