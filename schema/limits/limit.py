"""Limits as administrators set them."""

from datetime import datetime
from decimal import Decimal
from typing import Self
from uuid import UUID

import strawberry

from gateway.limits import (
    NO_CONDITIONS,
    Conditions,
    ExceptionKind,
    LimitDimension,
    LimitRule,
    LimitWindow,
    Measure,
    WantedException,
    WantedLimit,
)
from gateway.money import decimal_of
from schema.cost import FEW, WITHIN, list_of
from schema.node import global_id, parse_uuid

ASSUMED_LIMITS_OF_ALL = 100
"""Limits that a gateway is assumed to have, of 1,000 at most."""

_EACH = "What has an amount of its own, such as each USER; empty: all share one. Several are combined."
_ZONE = (
    "The time zone of the IANA database by whose clock days and months begin, such as Europe/Berlin. Null: that of the "
    "user, if the limit is for each USER or API_KEY, or its conditions name one; UTC otherwise."
)


@strawberry.type(description="Which generations a limit counts: those that meet all that is not null.")
class LimitConditions:
    role: str | None = strawberry.field(description="Those of users with this role.")
    group_id: strawberry.ID | None = strawberry.field(description="Those of users in this group.")
    user_id: strawberry.ID | None = strawberry.field(description="Those of this user.")
    api_key_id: strawberry.ID | None = strawberry.field(description="Those that were asked with this API key.")
    model: str | None = strawberry.field(
        description="Those of models whose name matches this pattern, in which `*` stands for any characters."
    )
    end_user: str | None = strawberry.field(description="Those for this `endUser`.")
    tag_name: str | None = strawberry.field(description="Those with a tag of this name.")
    tag_value: str | None = strawberry.field(description="Those whose tag `tagName` has this value.")

    @classmethod
    def of(cls, conditions: Conditions) -> Self:
        """Give the conditions of a limit of the gateway."""
        return cls(
            role=conditions.role,
            group_id=_id("Group", conditions.group_id),
            user_id=_id("User", conditions.user_id),
            api_key_id=_id("ApiKey", conditions.api_key_id),
            model=conditions.model,
            end_user=conditions.end_user,
            tag_name=conditions.tag_name,
            tag_value=conditions.tag_value,
        )


@strawberry.type(
    description="Another amount for somebody. One of `apiKeyId`, `userId`, `groupId` and `role` is set. If several "
    "exceptions of a limit apply, the first kind of these decides, and of one kind the smallest amount."
)
class LimitException:
    api_key_id: strawberry.ID | None = strawberry.field(description="The API key it is for.")
    user_id: strawberry.ID | None = strawberry.field(description="The user it is for.")
    group_id: strawberry.ID | None = strawberry.field(description="The group whose members it is for.")
    role: str | None = strawberry.field(description="The role it is for.")
    amount: Decimal | None = strawberry.field(description="What is allowed; null if it is not limited.")


@strawberry.type(
    description="A limit on what generations use. All limits that count a generation must have room for it."
)
class Limit:
    name: str = strawberry.field(description="The name, unique among all limits.")
    measure: Measure = strawberry.field(description="What it counts.")
    window: LimitWindow | None = strawberry.field(
        description="How long what was used counts; null for PARALLEL, which counts what runs at once."
    )
    amount: Decimal = strawberry.field(description="What is allowed in a window; of COST in units of `currency`.")
    currency: str | None = strawberry.field(description="The currency of COST (ISO 4217), null for other measures.")
    each: list[LimitDimension] = strawberry.field(description=_EACH)
    conditions: LimitConditions = strawberry.field(description="Which generations it counts.", directives=[WITHIN])
    time_zone: str | None = strawberry.field(description=_ZONE)
    exceptions: list[LimitException] = strawberry.field(
        description="Other amounts, at most 200.", directives=[WITHIN, list_of(FEW)]
    )
    created_at: datetime | None = strawberry.field(description="When it began to count as it does.")
    updated_at: datetime | None = strawberry.field(description="When it was last set.")

    @classmethod
    def of(cls, rule: LimitRule) -> Self:
        """Give a limit of the gateway."""

        def amount(value: int) -> Decimal:
            return decimal_of(value) if rule.measure is Measure.COST else Decimal(value)

        return cls(
            name=rule.name,
            measure=rule.measure,
            window=rule.window,
            amount=amount(rule.amount),
            currency=rule.currency,
            each=list(rule.each),
            conditions=LimitConditions.of(rule.conditions),
            time_zone=rule.zone and rule.zone.key,
            exceptions=[
                LimitException(
                    api_key_id=global_id("ApiKey", of) if kind is ExceptionKind.API_KEY else None,
                    user_id=global_id("User", of) if kind is ExceptionKind.USER else None,
                    group_id=global_id("Group", of) if kind is ExceptionKind.GROUP else None,
                    role=of if kind is ExceptionKind.ROLE else None,
                    amount=None if other is None else amount(other),
                )
                for (kind, of), other in sorted(rule.exceptions.items(), key=lambda it: it[0])
            ],
            created_at=rule.created_at,
            updated_at=rule.updated_at,
        )


def _id(kind: str, key: UUID | None) -> strawberry.ID | None:
    return None if key is None else global_id(kind, key)


@strawberry.input(description="A tag of generations.")
class TagConditionInput:
    name: str = strawberry.field(description="The name of the tag, which a generation must have.")
    value: str | None = strawberry.field(default=None, description="Its value; null for any.")


@strawberry.input(
    description="Which generations a limit counts: those that meet all that is given. Without any it counts all."
)
class LimitConditionsInput:
    role: str | None = strawberry.field(default=None, description="Those of users with this role.")
    group_id: strawberry.ID | None = strawberry.field(default=None, description="Those of users in this group.")
    user_id: strawberry.ID | None = strawberry.field(default=None, description="Those of this user.")
    api_key_id: strawberry.ID | None = strawberry.field(
        default=None, description="Those that are asked with this API key."
    )
    model: str | None = strawberry.field(
        default=None,
        description="Those of models whose name matches this pattern, in which `*` stands for any characters.",
    )
    end_user: str | None = strawberry.field(default=None, description="Those for this `endUser`.")
    tag: TagConditionInput | None = strawberry.field(default=None, description="Those with this tag.")

    def to_conditions(self) -> Conditions:
        """In the gateway's form. Raises InvalidInput for what is no id."""
        tag = self.tag
        return Conditions(
            self.role,
            _key("Group", self.group_id, "conditions.groupId"),
            _key("User", self.user_id, "conditions.userId"),
            _key("ApiKey", self.api_key_id, "conditions.apiKeyId"),
            self.model,
            self.end_user,
            None if tag is None else tag.name,
            None if tag is None else tag.value,
        )


@strawberry.input(one_of=True, description="Whom an exception is for.")
class LimitSubjectInput:
    api_key_id: strawberry.ID | None = strawberry.field(default=strawberry.UNSET, description="An API key.")
    user_id: strawberry.ID | None = strawberry.field(default=strawberry.UNSET, description="A user.")
    group_id: strawberry.ID | None = strawberry.field(default=strawberry.UNSET, description="A group: all its members.")
    role: str | None = strawberry.field(default=strawberry.UNSET, description="A role: all users who have it.")

    def to_subject(self, path: str) -> tuple[ExceptionKind, UUID | str]:
        """Give the kind and the id or name. Raises InvalidInput for what is no id."""
        if self.api_key_id:
            return ExceptionKind.API_KEY, parse_uuid(self.api_key_id, "ApiKey", f"{path}.apiKeyId")
        if self.user_id:
            return ExceptionKind.USER, parse_uuid(self.user_id, "User", f"{path}.userId")
        if self.group_id:
            return ExceptionKind.GROUP, parse_uuid(self.group_id, "Group", f"{path}.groupId")
        return ExceptionKind.ROLE, self.role or ""


@strawberry.input(description="Another amount for somebody.")
class LimitExceptionInput:
    for_: LimitSubjectInput = strawberry.field(name="for", description="Whom it is for.")
    amount: Decimal | None = strawberry.field(default=None, description="What is allowed; null if it is not limited.")


@strawberry.input(description="A limit as it is to be. It replaces the limit of this name as a whole.")
class SetLimitInput:
    name: str = strawberry.field(
        description="The name: 1 to 100 ASCII letters, digits, spaces or . _ : / - that begin and end with a letter or "
        "digit."
    )
    measure: Measure = strawberry.field(description="What it counts.")
    window: LimitWindow | None = strawberry.field(
        default=None, description="How long what was used counts; null for PARALLEL alone."
    )
    amount: Decimal = strawberry.field(
        description="What is allowed in a window, 0 or more: whole, and of COST in units of `currency` with at most 9 "
        "decimals."
    )
    currency: str | None = strawberry.field(
        default=None, description="The currency of COST (ISO 4217), such as EUR; null for other measures."
    )
    each: list[LimitDimension] | None = strawberry.field(default=None, description=_EACH)
    conditions: LimitConditionsInput | None = strawberry.field(
        default=None, description="Which generations it counts; null for all."
    )
    time_zone: str | None = strawberry.field(default=None, description=_ZONE)
    exceptions: list[LimitExceptionInput] | None = strawberry.field(
        default=None, description="Other amounts, at most 200."
    )

    def to_limit(self) -> WantedLimit:
        """In the gateway's form. Raises InvalidInput for what is no id."""
        exceptions: list[WantedException] = []
        for place, it in enumerate(self.exceptions or []):
            kind, subject = it.for_.to_subject(f"exceptions[{place}].for")
            exceptions.append(WantedException(kind, subject, it.amount))
        return WantedLimit(
            self.name,
            self.measure,
            self.window,
            self.amount,
            self.currency,
            self.each or (),
            NO_CONDITIONS if self.conditions is None else self.conditions.to_conditions(),
            self.time_zone,
            exceptions,
        )


def _key(kind: str, id: strawberry.ID | None, field: str) -> UUID | None:
    return None if id is None else parse_uuid(id, kind, field)


@strawberry.input(description="A limit to remove.")
class RemoveLimitInput:
    name: str = strawberry.field(description="Its name.")
