"""Sets and removes limits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from auth.model_access import pattern_problem
from auth.roles import BUILT_IN_ROLES, ROLE_NAME
from db import queries
from db.clock import new_id, now
from db.engine import Database, ReadSession, WriteSession
from db.tables import Limit
from gateway.errors import InputIssues, InvalidInput, NotFound, cut
from gateway.limits.limits import MOST_LIMITS, Limits
from gateway.limits.rules import NO_CONDITIONS, Conditions, ExceptionKind, LimitDimension, LimitRule, Measure
from gateway.limits.windows import LimitWindow
from gateway.money import CURRENCY_RULE, MINOR_UNITS, NANO
from gateway.time_zones import check_time_zone

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/-]{0,98}[A-Za-z0-9])?")
"""Names stand in HTTP headers, which take ASCII alone."""

MOST_EXCEPTIONS = 200
"""Of one limit: all are read again whenever gateways look for changes."""

MOST_UNITS = 10**15
"""Requests, tokens or generations at once. What is used and reserved together still fits into 64 bits."""

MOST_MONEY = 10**9
"""Units of a currency; kept in 1e-9 of it."""


@dataclass(frozen=True, slots=True)
class WantedException:
    """Another amount for a key, a user, a group or a role, by its id or name; None is no limit."""

    kind: ExceptionKind
    subject: UUID | str
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class WantedLimit:
    """A limit as it is to be; see LimitRule. `amount` of COST is in units of the currency."""

    name: str
    measure: Measure
    window: LimitWindow | None
    amount: Decimal
    currency: str | None = None
    each: Sequence[LimitDimension] = ()
    conditions: Conditions = NO_CONDITIONS
    time_zone: str | None = None
    exceptions: Sequence[WantedException] = ()


class LimitAdministration:
    """Lists, sets and removes limits. Other gateways notice within `identity_max_age` seconds."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    async def all(self) -> Sequence[LimitRule]:
        """Give all limits, by name, as they are now."""
        self._limits.clear()
        return await self._limits.rules()

    async def set(self, wanted: WantedLimit) -> LimitRule:
        """Make a limit, or replace the one of this name as a whole, and give it.

        Where nothing changes but amounts, what was counted still counts; else counting begins anew. Raises
        InvalidInput.
        """
        issues = InputIssues()
        columns = _columns(wanted, issues)
        exceptions = _exceptions(wanted, issues)
        try:
            await self._write(wanted, columns, exceptions, issues)
        except IntegrityError:  # another administrator was quicker, with this name or with what it refers to
            await self._write(wanted, columns, exceptions, issues)
        self._limits.clear()
        return await self._found(wanted.name.strip())

    async def remove(self, name: str) -> LimitRule:
        """Remove a limit with all that was counted for it, and give it as it was. Raises NotFound."""
        rule = await self._found(name.strip())
        async with self._database.transaction() as tx:
            await queries.limit.remove(tx, rule.id)
        self._limits.clear()
        self._limits.freed()
        return rule

    async def _found(self, name: str) -> LimitRule:
        for rule in await self.all():
            if rule.name == name:
                return rule
        raise NotFound(f"There is no limit {cut(name)!r}.", "Limit", cut(name))

    async def _write(
        self,
        wanted: WantedLimit,
        columns: dict[str, object],
        exceptions: dict[tuple[str, str], int | None],
        issues: InputIssues,
    ) -> None:
        async with self._database.transaction() as tx:
            await _check_references(tx, wanted, issues)
            issues.check()
            limit = await _replaced(tx, columns)
            await queries.limit.set_exceptions(tx, limit.id, exceptions)


async def _replaced(tx: WriteSession, columns: dict[str, object]) -> Limit:
    """Change the amount of the limit that is there, or put another one into its place. Raises InvalidInput."""
    there = await queries.limit.by_name(tx, str(columns["name"]))
    if there is not None and all(getattr(there, name) == columns[name] for name in columns.keys() - {"amount"}):
        await queries.limit.set_amount(tx, there.id, int(str(columns["amount"])), now())
        return there
    if there is not None:
        await queries.limit.remove(tx, there.id)
    elif await queries.limit.count(tx) >= MOST_LIMITS:
        raise InvalidInput("name", f"there are {MOST_LIMITS:,} limits, and no more are allowed. Remove one first.")
    limit = Limit(id=new_id(), created_at=now() if there is None else there.created_at, updated_at=now(), **columns)
    tx.add(limit)
    await tx.flush()
    return limit


def _columns(wanted: WantedLimit, issues: InputIssues) -> dict[str, object]:
    """Give the columns to write, and add to `issues` what cannot be written."""
    name, conditions = wanted.name.strip(), wanted.conditions
    if not NAME.fullmatch(name):
        issues.add(
            "name",
            "must have 1 to 100 ASCII letters, digits, spaces or . _ : / -, and begin and end with a letter or digit.",
        )
    if wanted.measure is Measure.PARALLEL and wanted.window is not None:
        issues.add("window", "must be null for PARALLEL: what runs at once has no window.")
    if wanted.measure is not Measure.PARALLEL and wanted.window is None:
        issues.add("window", f"is needed for {wanted.measure}: MINUTE, DAY or MONTH.")
    _check_currency(wanted, issues)
    _check_conditions(conditions, wanted.each, issues)
    if wanted.time_zone is not None:
        check_time_zone(wanted.time_zone, issues)
    return {
        "name": name,
        "measure": wanted.measure.value,
        "window": wanted.window and wanted.window.value,
        "amount": _amount(wanted.amount, wanted.measure, "amount", issues),
        "currency": wanted.currency,
        "each": [dimension.value for dimension in LimitDimension if dimension in wanted.each],
        "time_zone": wanted.time_zone,
        **{field.name: getattr(conditions, field.name) for field in fields(conditions)},
    }


def _check_currency(wanted: WantedLimit, issues: InputIssues) -> None:
    if wanted.measure is not Measure.COST and wanted.currency is not None:
        issues.add("currency", f"must be null for {wanted.measure}: only COST has one.")
    if wanted.measure is Measure.COST and wanted.currency not in MINOR_UNITS:
        issues.add("currency", f"is needed for COST: {CURRENCY_RULE}")


def _check_conditions(conditions: Conditions, each: Sequence[LimitDimension], issues: InputIssues) -> None:
    if conditions.model is not None and (problem := pattern_problem(conditions.model)):
        issues.add("conditions.model", problem)
    for field, value, most in (
        ("conditions.endUser", conditions.end_user, 256),
        ("conditions.tag.name", conditions.tag_name, 64),
        ("conditions.tag.value", conditions.tag_value, 256),
    ):
        if value is not None and not (len(value) <= most and value.isprintable() and (value or "value" in field)):
            issues.add(field, f"must have 1 to {most} printable characters.")
    if conditions.tag_value is not None and conditions.tag_name is None:
        issues.add("conditions.tag.name", "is needed with a value.")
    if LimitDimension.TAG in each and conditions.tag_name is None:
        issues.add("each", "holds TAG, so `conditions.tag` must name the tag.")


def _amount(amount: Decimal, measure: Measure, field: str, issues: InputIssues) -> int:
    """Give an amount as it is kept: whole, and of COST in 1e-9."""
    most, unit = (MOST_MONEY, NANO) if measure is Measure.COST else (MOST_UNITS, 1)
    if not 0 <= amount <= most:
        issues.add(field, f"must be from 0 to {most:,}.")
        return 0
    if amount * unit % 1:
        issues.add(field, "may have at most 9 decimals." if unit > 1 else f"must be a whole number for {measure}.")
    return int(amount * unit)


def _exceptions(wanted: WantedLimit, issues: InputIssues) -> dict[tuple[str, str], int | None]:
    """Give the amounts by kind and subject, and add to `issues` what cannot be written."""
    if len(wanted.exceptions) > MOST_EXCEPTIONS:
        issues.add("exceptions", f"must hold at most {MOST_EXCEPTIONS}, not {len(wanted.exceptions):,}.")
        return {}
    found: dict[tuple[str, str], int | None] = {}
    for place, it in enumerate(wanted.exceptions):
        key = it.kind.value, str(it.subject)
        if key in found:
            issues.add(f"exceptions[{place}]", "there is an exception for the same before.")
        amount = it.amount
        path = f"exceptions[{place}].amount"
        found[key] = None if amount is None else _amount(amount, wanted.measure, path, issues)
    return found


_FIELDS = {
    ExceptionKind.API_KEY: ("apiKeyId", "API key"),
    ExceptionKind.USER: ("userId", "user"),
    ExceptionKind.GROUP: ("groupId", "group"),
    ExceptionKind.ROLE: ("role", "role"),
}


async def _check_references(session: ReadSession, wanted: WantedLimit, issues: InputIssues) -> None:
    """Add to `issues` the users, groups, keys and roles that there are not."""
    conditions = wanted.conditions
    named: list[tuple[str, ExceptionKind, UUID | str]] = [
        ("conditions", kind, value)
        for kind, value in (
            (ExceptionKind.API_KEY, conditions.api_key_id),
            (ExceptionKind.USER, conditions.user_id),
            (ExceptionKind.GROUP, conditions.group_id),
            (ExceptionKind.ROLE, conditions.role),
        )
        if value is not None
    ]
    if len(wanted.exceptions) <= MOST_EXCEPTIONS:
        named += [(f"exceptions[{place}].for", it.kind, it.subject) for place, it in enumerate(wanted.exceptions)]
    there = {kind: await _there(session, kind, [it for _, of, it in named if of is kind]) for kind in ExceptionKind}
    for path, kind, subject in named:
        if subject not in there[kind]:
            field, called = _FIELDS[kind]
            how = repr(cut(subject)) if isinstance(subject, str) else "with this id"
            issues.add(f"{path}.{field}", f"there is no {called} {how}.")


async def _there(session: ReadSession, kind: ExceptionKind, subjects: Sequence[UUID | str]) -> set[UUID | str]:
    """Give those of these that exist."""
    ids = [it for it in subjects if isinstance(it, UUID)]
    if not subjects:
        return set()
    match kind:
        case ExceptionKind.API_KEY:
            return set(await queries.api_key.api_keys_by_id(session, ids))
        case ExceptionKind.USER:
            users = await queries.identity.users_by_id(session, ids)
            return {user.id for user in users.values() if user.deleted_at is None}
        case ExceptionKind.GROUP:
            return set(await queries.group.groups_by_id(session, ids))
        case ExceptionKind.ROLE:
            roles = {it for it in subjects if isinstance(it, str) and ROLE_NAME.fullmatch(it)}
            return {it for it in roles if it in BUILT_IN_ROLES or await queries.role.find(session, it) is not None}
