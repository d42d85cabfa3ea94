"""Who may administer whom: nobody grants what they do not have, or changes a user who may do more than they.

What decides is read in the transaction that changes something, so a right that was taken away a moment ago is gone.
Transactions lock in one order: roles, administrators, the user.
"""

from collections.abc import Iterable
from uuid import UUID

from auth.principal import Principal
from auth.roles import BUILT_IN_ROLES, ROLE_NAME, BuiltInRole, known_scopes
from auth.scopes import ALL_SCOPES, Scope
from db import queries
from db.engine import ReadSession, WriteSession
from gateway.errors import Forbidden, NotFound, cut
from gateway.identity.known import KnownUser
from gateway.identity.refusals import LastAdministrator

OPERATOR = Principal(UUID(int=0), "operator", ALL_SCOPES)
"""Whoever can run commands on the machine. No user has this id."""


async def acting_scopes(session: ReadSession, principal: Principal) -> frozenset[Scope]:
    """Give the scopes that the caller has at this moment. Raises Forbidden for who may not administer users.

    Who is limited to some models may not: they could let others, or themselves, use the rest. An administrator may
    all the same, since they could lift their own limit.
    """
    if principal.user_id == OPERATOR.user_id:
        return principal.scopes
    caller = (await queries.identity.callers_by_id(session, [principal.user_id])).get(principal.user_id)
    known = None if caller is None else KnownUser.of(caller)
    scopes = principal.scopes & known.scopes if known is not None and known.is_active else frozenset[Scope]()
    if Scope.USERS_WRITE not in scopes:
        raise Forbidden("This needs the scope USERS_WRITE, which these credentials do not have.")
    if principal.models.lists and scopes != ALL_SCOPES:
        raise Forbidden("These credentials are limited to some models, so they cannot change users or groups.")
    return scopes


async def lock_target(tx: WriteSession, principal: Principal, user_id: UUID) -> KnownUser:
    """Give a user whom the caller may change, and who is changed by nobody else meanwhile.

    Raises NotFound; Forbidden for one who may do more than the caller.
    """
    scopes = await acting_scopes(tx, principal)
    await queries.user.lock_user(tx, user_id)
    caller = (await queries.identity.callers_by_id(tx, [user_id])).get(user_id)
    visible = principal.may_see_of(user_id, Scope.USERS_READ)
    if caller is None or caller.user.deleted_at is not None or not visible:
        raise NotFound("There is no user with this id.", "User", user_id)
    target = KnownUser.of(caller)
    check_covers(scopes, target.scopes, "This user")
    return target


def check_covers(own: frozenset[Scope], others: frozenset[Scope], who: str) -> None:
    """Raise Forbidden where `who` has a scope that the caller lacks."""
    if missing := missing_scopes(own, others):
        raise Forbidden(f"{who} may do more than these credentials, which lack {missing}.")


def missing_scopes(own: frozenset[Scope], wanted: Iterable[Scope]) -> str:
    """Name the scopes that the caller lacks, for people; "" where there are none."""
    return ", ".join(sorted(scope.name for scope in frozenset(wanted) - own))


async def scopes_of_role(session: ReadSession, name: str) -> frozenset[Scope] | None:
    """Give what a role allows; None where there is no such role."""
    built_in = BUILT_IN_ROLES.get(name)
    if built_in is not None:
        return built_in.scopes
    row = await queries.role.find(session, name) if ROLE_NAME.fullmatch(name) else None
    return None if row is None else known_scopes(row.scopes)


async def role_problem(session: ReadSession, own: frozenset[Scope], name: str) -> str | None:
    """Say why the caller cannot give this role to anybody; None where they can."""
    scopes = await scopes_of_role(session, name)
    if scopes is None:
        return f"there is no role {cut(name)!r}."
    if missing := missing_scopes(own, scopes):
        return f"nobody can grant more than they have: these credentials lack {missing}."
    return None


async def lock_leaver(tx: WriteSession, principal: Principal, user_id: UUID) -> KnownUser:
    """Do what `lock_target` does for a user who is to be no administrator any more, or no user.

    Raises LastAdministrator, too, where nobody but them can administer the gateway: it locks all who can.
    """
    administrators = await queries.user.lock_administrators(tx, BuiltInRole.ADMIN.value)
    target = await lock_target(tx, principal, user_id)
    if administrators == {user_id}:
        raise LastAdministrator
    return target
