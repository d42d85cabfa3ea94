"""What a limit is, to whom it applies, and how much of it a generation may need."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import Self
from uuid import UUID
from zoneinfo import ZoneInfo

from auth.model_access import matches
from auth.principal import Principal
from db.queries import CounterKey, Reserve
from db.tables import Limit, LimitException
from gateway.limits.windows import LimitWindow, span
from gateway.time_zones import stored_zone


class Measure(StrEnum):
    """What a limit counts."""

    REQUESTS = "REQUESTS"
    TOKENS = "TOKENS"
    PARALLEL = "PARALLEL"
    COST = "COST"


class LimitDimension(StrEnum):
    """What a limit counts by: each has a counter of its own."""

    USER = "USER"
    GROUP = "GROUP"
    API_KEY = "API_KEY"
    MODEL = "MODEL"
    END_USER = "END_USER"
    TAG = "TAG"


class ExceptionKind(StrEnum):
    """Whom an exception is for. The first kind here that has one for a caller decides."""

    API_KEY = "API_KEY"
    USER = "USER"
    GROUP = "GROUP"
    ROLE = "ROLE"


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks for what, as far as limits look at it. None is what is not known, or not there."""

    user_id: UUID
    role: str
    groups: frozenset[UUID] = frozenset()
    api_key_id: UUID | None = None
    model: str | None = None
    end_user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    time_zone: str | None = None

    @classmethod
    def of(
        cls,
        principal: Principal,
        model: str | None = None,
        end_user: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Self:
        """Give what a caller asks for."""
        return cls(
            principal.user_id,
            principal.role,
            frozenset(principal.group_ids),
            principal.api_key_id,
            model,
            end_user,
            tags or {},
            principal.time_zone,
        )


@dataclass(frozen=True, slots=True)
class Needs:
    """The most that a generation can use. `cost` is in 1e-9 of each currency that has a price for its model."""

    tokens: int
    cost: Mapping[str, int] = field(default_factory=dict[str, int])

    def of(self, measure: Measure, currency: str | None) -> int:
        """Give how much of what is measured."""
        match measure:
            case Measure.TOKENS:
                return self.tokens
            case Measure.COST:
                return self.cost.get(currency or "", 0)
            case Measure.REQUESTS | Measure.PARALLEL:
                return 1


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which generations a limit counts: those that meet all that is not None."""

    role: str | None = None
    group_id: UUID | None = None
    user_id: UUID | None = None
    api_key_id: UUID | None = None
    model: str | None = None
    end_user: str | None = None
    tag_name: str | None = None
    tag_value: str | None = None

    def met_by(self, asking: Asking) -> bool:
        """Tell whether what is asked for counts."""
        return (
            self.role in (None, asking.role)
            and (self.group_id is None or self.group_id in asking.groups)
            and self.user_id in (None, asking.user_id)
            and self.api_key_id in (None, asking.api_key_id)
            and (self.model is None or (asking.model is not None and matches(self.model, asking.model)))
            and self.end_user in (None, asking.end_user)
            and (self.tag_name is None or self.tag_name in asking.tags)
            and self.tag_value in (None, asking.tags.get(self.tag_name or ""))
        )


NO_CONDITIONS = Conditions()
"""Counts every generation."""


@dataclass(frozen=True, slots=True)
class LimitRule:
    """A limit: `amount` of what is measured in each window, by each of what it counts by.

    `zone` is by whose clock days and months begin; None: by that of the user whose counter it is, else UTC.
    `exceptions` are other amounts by kind and id, None for no limit. `amount` of COST is in 1e-9 of the currency.
    """

    id: UUID
    name: str
    measure: Measure
    window: LimitWindow | None
    amount: int
    currency: str | None = None
    each: tuple[LimitDimension, ...] = ()
    conditions: Conditions = NO_CONDITIONS
    zone: ZoneInfo | None = None
    exceptions: Mapping[tuple[ExceptionKind, str], int | None] = field(
        default_factory=dict[tuple[ExceptionKind, str], int | None]
    )
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def of(cls, row: Limit, exceptions: Iterable[LimitException] = ()) -> Self:
        """Read a stored limit."""
        return cls(
            row.id,
            row.name,
            Measure(row.measure),
            None if row.window is None else LimitWindow(row.window),
            row.amount,
            row.currency,
            tuple(dimension for dimension in LimitDimension if dimension in row.each),
            Conditions(*(getattr(row, name) for name in Conditions.__dataclass_fields__)),
            None if row.time_zone is None else stored_zone(row.time_zone),
            {(ExceptionKind(it.kind), it.subject): it.amount for it in exceptions},
            row.created_at,
            row.updated_at,
        )

    def zone_for(self, asking: Asking) -> ZoneInfo:
        """Give the zone of a counter: a user's own only where it counts one user alone, or one of their keys."""
        if self.zone is not None:
            return self.zone
        each, conditions = self.each, self.conditions
        of_one = LimitDimension.USER in each or LimitDimension.API_KEY in each
        of_one = of_one or conditions.user_id is not None or conditions.api_key_id is not None
        return stored_zone(asking.time_zone if of_one else None)

    def bound(self, asking: Asking) -> int | None:
        """Give what is allowed to who asks; None: everything. Of several exceptions of a kind the strictest wins."""
        of_kinds: dict[ExceptionKind, Iterable[object]] = {
            ExceptionKind.API_KEY: [asking.api_key_id],
            ExceptionKind.USER: [asking.user_id],
            ExceptionKind.GROUP: asking.groups,
            ExceptionKind.ROLE: [asking.role],
        }
        for kind in ExceptionKind:
            found = [self.exceptions[key] for it in of_kinds[kind] if (key := (kind, str(it))) in self.exceptions]
            if found:
                return min((amount for amount in found if amount is not None), default=None)
        return self.amount

    def subjects(self, asking: Asking) -> list[dict[LimitDimension, str]]:
        """Give whose counters count what is asked for: one, or one for each group; none without a value for a part."""
        values = [_values(dimension, asking, self.conditions.tag_name) for dimension in self.each]
        return [dict(zip(self.each, combination, strict=True)) for combination in product(*values)]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a generation may need of one counter. `subject` is whose counter it is; empty: that of all together."""

    rule: LimitRule
    subject: Mapping[LimitDimension, str]
    bound: int
    reserve: Reserve


def claims_of(rules: Sequence[LimitRule], asking: Asking, needs: Needs, at: datetime) -> list[Claim]:
    """Give what is to be reserved, of every limit that applies."""
    found: list[Claim] = []
    for rule in rules:
        if not rule.conditions.met_by(asking) or (bound := rule.bound(asking)) is None:
            continue
        amount, window = needs.of(rule.measure, rule.currency), span(rule.window, at, rule.zone_for(asking))
        for subject in rule.subjects(asking):
            key, scope = CounterKey(rule.id, digest(subject)), {str(part): value for part, value in subject.items()}
            reserve = Reserve(
                key, amount, bound, window.start, window.end, rule.measure, rule.currency, window.following_end, scope
            )
            found.append(Claim(rule, subject, bound, reserve))
    return found


def digest(subject: Mapping[LimitDimension, str]) -> str:
    """Give 32 characters that stand for a subject: names of models and end users can be long."""
    text = "\0".join(f"{dimension}={value}" for dimension, value in sorted(subject.items()))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _values(dimension: LimitDimension, asking: Asking, tag_name: str | None) -> list[str]:
    match dimension:
        case LimitDimension.USER:
            return [str(asking.user_id)]
        case LimitDimension.GROUP:
            return sorted(map(str, asking.groups))
        case LimitDimension.API_KEY:
            value = asking.api_key_id and str(asking.api_key_id)
        case LimitDimension.MODEL:
            value = asking.model
        case LimitDimension.END_USER:
            value = asking.end_user
        case LimitDimension.TAG:
            value = asking.tags.get(tag_name or "")
    return [] if value is None else [value]
