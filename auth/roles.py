"""Roles: names for what users may do. Four are built in; an administrator can define others."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from auth.scopes import ALL_SCOPES, DEVELOPER_SCOPES, READ_ONLY_SCOPES, USER_SCOPES, Scope

ROLE_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,62}[a-z0-9])?")
"""1 to 64 lower-case letters, digits, hyphens and underscores, the first one a letter."""


class BuiltInRole(StrEnum):
    """The roles that are always there."""

    ADMIN = "admin"
    DEVELOPER = "developer"
    USER = "user"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class RoleScopes:
    """What a role allows. `description` is one sentence for people."""

    name: str
    description: str
    scopes: frozenset[Scope]
    built_in: bool = False


BUILT_IN_ROLES = {
    role.name: role
    for role in (
        RoleScopes(BuiltInRole.ADMIN.value, "Everything.", ALL_SCOPES, built_in=True),
        RoleScopes(
            BuiltInRole.DEVELOPER.value,
            "Use models, and create API keys for programs.",
            DEVELOPER_SCOPES,
            built_in=True,
        ),
        RoleScopes(BuiltInRole.USER.value, "Use models, without API keys.", USER_SCOPES, built_in=True),
        RoleScopes(
            BuiltInRole.READ_ONLY.value,
            "See one's own generations and usage, and change nothing.",
            READ_ONLY_SCOPES,
            built_in=True,
        ),
    )
}


def known_scopes(words: Iterable[str]) -> frozenset[Scope]:
    """Read stored scopes. Words that this version does not know are left out: they grant nothing."""
    return _known_scopes(tuple(words))


@lru_cache(1_000)
def _known_scopes(words: tuple[str, ...]) -> frozenset[Scope]:
    return frozenset(scope for scope in Scope if scope.value in words)


@lru_cache(1_000)
def common_scopes(one: frozenset[Scope], other: frozenset[Scope]) -> frozenset[Scope]:
    """Give what is in both: one set for all who have the same, of 700 bytes, and not one for each operation."""
    return one & other
