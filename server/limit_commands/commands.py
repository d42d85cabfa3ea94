"""What the command line does to limits. Whoever has the machine may do all of it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from uuid import UUID

import click
import orjson

from gateway.errors import InvalidInput
from gateway.identity import Identity
from gateway.limits import (
    Asking,
    Conditions,
    ExceptionKind,
    LimitAdministration,
    LimitDimension,
    LimitRule,
    Limits,
    LimitStatus,
    LimitWindow,
    Measure,
    WantedException,
    WantedLimit,
    shown_amount,
)
from gateway.money import decimal_of
from schema.node import parse_uuid
from schema.scalars import decimal_text
from server.commands import database_of_command, opened_identity
from server.settings import Settings

UNLIMITED = "unlimited"

_KINDS = {
    "key": ExceptionKind.API_KEY,
    "user": ExceptionKind.USER,
    "group": ExceptionKind.GROUP,
    "role": ExceptionKind.ROLE,
}


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """The options of `limits set`, as they were typed."""

    name: str
    measure: str
    window: str | None
    amount: str
    currency: str | None
    each: tuple[str, ...]
    role: str | None
    group: str | None
    user: str | None
    key: str | None
    model: str | None
    end_user: str | None
    tag: str | None
    time_zone: str | None
    exceptions: tuple[str, ...]


async def list_limits(settings: Settings, *, as_json: bool) -> None:
    """Print a line for each limit, or all as JSON."""
    async with _opened(settings) as (_, _, administration):
        rules = await administration.all()
        if as_json:
            click.echo(orjson.dumps([_rule(rule) for rule in rules]))
            return
        for rule in rules:
            click.echo("\t".join(_line(rule)))


async def set_limit(settings: Settings, options: LimitOptions) -> None:
    """Set a limit. Raises InvalidInput and NotFound."""
    async with _opened(settings) as (identity, _, administration):
        rule = await administration.set(await _wanted(identity, options))
        click.echo(f"Set the limit {rule.name!r}: {_amount(rule, rule.amount)}.")


async def remove_limit(settings: Settings, name: str) -> None:
    """Remove a limit. Raises NotFound."""
    async with _opened(settings) as (_, _, administration):
        click.echo(f"Removed the limit {(await administration.remove(name)).name!r}.")


async def show_limits(settings: Settings, username: str, *, as_json: bool) -> None:
    """Print how the limits stand that apply to a user. Raises NotFound."""
    async with _opened(settings) as (identity, limits, _):
        principal = await identity.accounts.principal_named(username)
        statuses = await limits.statuses(Asking.of(principal))
        if as_json:
            click.echo(orjson.dumps([_status(status) for status in statuses]))
            return
        for status in statuses:
            resets = "" if status.resets_at is None else f"resets {status.resets_at:%Y-%m-%d %H:%M} UTC"
            amounts = (f"{of} {shown_amount(status, getattr(status, of))}" for of in ("used", "reserved", "limit"))
            click.echo("\t".join((status.name, *amounts, resets)).rstrip())


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[tuple[Identity, Limits, LimitAdministration]]:
    async with opened_identity(settings) as (identity, _), database_of_command(settings) as database:
        limits = Limits(database, identity_max_age=0)
        yield identity, limits, LimitAdministration(database, limits)


async def _wanted(identity: Identity, options: LimitOptions) -> WantedLimit:
    name, equals, value = (options.tag or "").partition("=")
    conditions = Conditions(
        options.role,
        None if options.group is None else await _subject(identity, ExceptionKind.GROUP, options.group),
        None if options.user is None else await _subject(identity, ExceptionKind.USER, options.user),
        None if options.key is None else await _subject(identity, ExceptionKind.API_KEY, options.key),
        options.model,
        options.end_user,
        None if options.tag is None else name,
        value if equals else None,
    )
    return WantedLimit(
        options.name,
        Measure(options.measure.upper()),
        None if options.window is None else LimitWindow(options.window.upper()),
        _number(options.amount, "--amount"),
        options.currency,
        [LimitDimension(it.upper()) for it in options.each],
        conditions,
        options.time_zone,
        [await _exception(identity, text) for text in options.exceptions],
    )


async def _exception(identity: Identity, text: str) -> WantedException:
    whom, _, amount = text.rpartition("=")
    kind, _, name = whom.partition(":")
    if kind not in _KINDS or not name:
        raise InvalidInput("--except", f"must be KIND:NAME=AMOUNT with one of {', '.join(_KINDS)}, not {text!r}.")
    of = _KINDS[kind]
    subject = name if of is ExceptionKind.ROLE else await _subject(identity, of, name)
    return WantedException(of, subject, None if amount == UNLIMITED else _number(amount, "--except"))


async def _subject(identity: Identity, kind: ExceptionKind, name: str) -> UUID:
    """Find a user or a group by name, or a key by its id. Raises NotFound and InvalidInput."""
    if kind is ExceptionKind.USER:
        return (await identity.accounts.named(name)).id
    if kind is ExceptionKind.GROUP:
        return (await identity.groups.named(name)).id
    try:
        return UUID(name)
    except ValueError:
        return parse_uuid(name, "ApiKey", "key")


def _number(text: str, option: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise InvalidInput(option, f"must be a number, not {text!r}.")
    return number


def _amount(rule: LimitRule, amount: int) -> str:
    return shown_amount(rule, amount) + ("" if rule.window is None else f" a {rule.window.lower()}")


def _line(rule: LimitRule) -> tuple[str, ...]:
    each = f"each {', '.join(it.lower() for it in rule.each)}" if rule.each else "all together"
    exceptions = f"{len(rule.exceptions)} exceptions" if rule.exceptions else ""
    conditions = " ".join(f"{name}={value}" for name, value in _conditions(rule).items())
    return rule.name, _amount(rule, rule.amount), each, *(it for it in (conditions, exceptions) if it)


def _conditions(rule: LimitRule) -> dict[str, str]:
    names = Conditions.__dataclass_fields__
    return {name: str(value) for name in names if (value := getattr(rule.conditions, name)) is not None}


def _rule(rule: LimitRule) -> dict[str, object]:
    return {
        "name": rule.name,
        "measure": rule.measure,
        "window": rule.window,
        "amount": _plain(rule, rule.amount),
        "currency": rule.currency,
        "each": list(rule.each),
        "conditions": _conditions(rule),
        "timeZone": rule.zone and rule.zone.key,
        "exceptions": [
            {"kind": kind, "of": of, "amount": None if amount is None else _plain(rule, amount)}
            for (kind, of), amount in rule.exceptions.items()
        ],
    }


def _status(status: LimitStatus) -> dict[str, object]:
    amounts = {name: _plain(status, getattr(status, name)) for name in ("used", "reserved", "limit", "remaining")}
    return {
        "name": status.name,
        "measure": status.measure,
        "window": status.window,
        "currency": status.currency,
        "scope": {dimension.value: value for dimension, value in status.scope.items()},
        **amounts,
        "resetsAt": status.resets_at,
    }


def _plain(of: LimitRule | LimitStatus, amount: int) -> str:
    """Give an amount as the API does: a decimal number as a string."""
    return decimal_text(decimal_of(amount) if of.measure is Measure.COST else Decimal(amount))
