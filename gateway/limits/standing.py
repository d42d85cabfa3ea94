"""How limits stand for others than the caller: for users, API keys, groups and generations, many at once."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from auth.principal import Principal
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import Database
from db.queries import Caller
from db.tables import Generation
from gateway.limits.limits import Limits, Standings
from gateway.limits.rules import NO_CONDITIONS, Asking, Claim, LimitDimension, LimitRule, Needs, claims_of

NOBODY = UUID(int=0)


class LimitStandings:
    """Tells how limits stand of what belongs to the caller; of what belongs to others with USAGE_READ_ALL."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    async def of_users(self, principal: Principal, ids: Sequence[UUID]) -> Standings:
        """Tell of the limits that count what these users ask for: those of their groups and their role among them."""
        callers = await self._callers([user_id for user_id in ids if _may_see(principal, user_id)])
        return await self._standings([_asking(callers.get(user_id)) for user_id in ids])

    async def of_api_keys(self, principal: Principal, ids: Sequence[UUID]) -> Standings:
        """Tell of the limits that count what is asked for with these keys: those of their users among them."""
        async with self._database.reading() as session:
            keys = await queries.api_key.api_keys_by_id(session, ids)
        owners = [keys[it].user_id if it in keys and _may_see(principal, keys[it].user_id) else None for it in ids]
        callers = await self._callers([user_id for user_id in owners if user_id is not None])
        askings = [
            None if user_id is None else _asking(callers.get(user_id), api_key_id=key_id)
            for key_id, user_id in zip(ids, owners, strict=True)
        ]
        return await self._standings(askings)

    async def of_generations(self, principal: Principal, rows: Sequence[Generation | None]) -> Standings:
        """Tell of the limits that count these generations, as they stand now. A user's role is that of today."""
        callers = await self._callers([row.user_id for row in rows if row and _may_see(principal, row.user_id)])
        return await self._standings(
            [None if row is None else _asking_of(row, callers.get(row.user_id)) for row in rows]
        )

    async def of_groups(self, principal: Principal, ids: Sequence[UUID]) -> Standings:
        """Tell of the limits that these groups have as a whole; to their members, too."""
        at, rules = now(), await self._limits.rules() if self._limits.enabled else ()
        claims: list[list[Claim] | None] = []
        for group_id in ids:
            asking = Asking(NOBODY, "", frozenset([group_id]))
            mine = [replace(rule, conditions=NO_CONDITIONS) for rule in rules if _is_of_group(rule, group_id)]
            seen = group_id in principal.group_ids or principal.has(Scope.USAGE_READ_ALL)
            claims.append(claims_of(mine, asking, Needs(0), at) if seen else None)
        return await self._limits.standings(claims, at)

    async def _callers(self, user_ids: Sequence[UUID]) -> dict[UUID, Caller]:
        async with self._database.reading() as session:
            return await queries.identity.callers_by_id(session, list(dict.fromkeys(user_ids)))

    async def _standings(self, askings: Sequence[Asking | None]) -> Standings:
        at, rules = now(), await self._limits.rules() if self._limits.enabled else ()
        claims = [None if asking is None else claims_of(rules, asking, Needs(0), at) for asking in askings]
        return await self._limits.standings(claims, at)


def _may_see(principal: Principal, user_id: UUID) -> bool:
    return principal.may_see_of(user_id, Scope.USAGE_READ_ALL)


def _asking(caller: Caller | None, *, api_key_id: UUID | None = None) -> Asking | None:
    if caller is None:
        return None
    user = caller.user
    return Asking(user.id, user.role, frozenset(caller.groups), api_key_id, time_zone=user.time_zone)


def _asking_of(row: Generation, caller: Caller | None) -> Asking | None:
    if caller is None:
        return None
    groups, user = frozenset(map(UUID, row.group_ids or ())), caller.user
    return Asking(user.id, user.role, groups, row.api_key_id, row.model, row.end_user, row.tags or {}, user.time_zone)


def _is_of_group(rule: LimitRule, group_id: UUID) -> bool:
    """Tell whether a limit has one counter for the whole group: as `each` GROUP, or by its condition."""
    conditions = rule.conditions
    if conditions.role or conditions.user_id or conditions.api_key_id or conditions.group_id not in (None, group_id):
        return False
    return rule.each == (LimitDimension.GROUP,) or (not rule.each and conditions.group_id == group_id)
