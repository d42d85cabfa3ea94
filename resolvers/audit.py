"""The audit of mutations: each is recorded where it is resolved, so that none can be forgotten."""

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias, cast
from uuid import UUID

from graphql import GraphQLField, GraphQLResolveInfo, GraphQLSchema

from auth.errors import AuthenticationError
from gateway.audit import AuditOutcome, Deed, Target, with_outcome
from gateway.errors import ErrorCode, Forbidden, GatewayError, InvalidInput
from schema.context import Context
from schema.errors import UserError
from schema.identity import DeviceSignInRequest, User
from schema.node import Node, parse_global_id

IN_THE_LEDGER = frozenset({"generate", "startGeneration"})
"""What is not recorded here, since each has a row of its own for good that says as much, and they are many."""

ROUTINE = frozenset({"refreshSession", "startDeviceSignIn"})
"""What clients do by themselves every few minutes, or strangers without an effect: only refusals are recorded."""

WAITING = frozenset({ErrorCode.AUTHORIZATION_PENDING, ErrorCode.SLOW_DOWN})
"""What a device is told while it waits for a person: nobody was refused anything."""

TOLD = frozenset(
    {
        "active",
        "allowedModels",
        "allowedNetworks",
        "allowedOrigins",
        "cachedPerMillion",
        "completionPerMillion",
        "contentPolicy",
        "amount",
        "conditions",
        "currency",
        "description",
        "displayName",
        "each",
        "everywhere",
        "exceptions",
        "expiresAt",
        "graceSeconds",
        "groupId",
        "model",
        "measure",
        "models",
        "mustChangePassword",
        "name",
        "promptPerMillion",
        "provider",
        "role",
        "scopes",
        "timeZone",
        "userId",
        "userIds",
        "username",
        "validFrom",
        "window",
    }
)
"""Fields of inputs whose values are recorded. All others may hold secrets or what is nobody's business."""


ResolveInfo: TypeAlias = "GraphQLResolveInfo[Any]"


def audit_mutations(schema: GraphQLSchema) -> None:
    """Let every mutation be recorded, with what came of it. Called once, when the schema is made."""
    mutation = schema.mutation_type
    mutations = cast("Mapping[str, GraphQLField]", mutation.fields if mutation else {})
    for name, field in mutations.items():
        if name not in IN_THE_LEDGER and field.resolve is not None:
            field.resolve = _audited(name, field)


def _audited(name: str, field: GraphQLField) -> Callable[..., Awaitable[Any]]:
    resolve = cast("Callable[..., Awaitable[Any]]", field.resolve)

    @functools.wraps(resolve)
    async def resolver(source: Any, info: ResolveInfo, **arguments: Any) -> Any:
        context = cast("Context", info.context)
        deed = _deed(name, context, arguments)
        audit = context.gateway.identity.audit
        try:
            result = await resolve(source, info, **arguments)
        except BaseException as error:
            if not (isinstance(error, Forbidden) and error.recorded):
                audit.note(with_outcome(deed, *_failure(error)))
            raise
        if isinstance(result, UserError):
            if result.code not in WAITING:
                audit.note(with_outcome(deed, AuditOutcome.REFUSED, result.code.value))
        elif name not in ROUTINE:
            done = with_outcome(deed, AuditOutcome.SUCCESS, target=_target_of(result))
            details = {**done.details, **_told_by(result)}
            await audit.record(replace(done, user_id=_signed_in(result), details=details))
        return result

    resolver.is_audited = True  # pyright: ignore[reportAttributeAccessIssue]
    return resolver


def _failure(error: BaseException) -> tuple[AuditOutcome, str]:
    """Give what came of a mutation that raised, and why. Whose client has left may have been done all the same."""
    if isinstance(error, AuthenticationError):
        return AuditOutcome.REFUSED, error.code
    if isinstance(error, GatewayError):
        return (AuditOutcome.REFUSED if isinstance(error, Forbidden) else AuditOutcome.FAILED), error.told_as.value
    return AuditOutcome.FAILED, "INTERNAL_ERROR" if isinstance(error, Exception) else "CLIENT_LEFT"


def _deed(name: str, context: Context, arguments: Mapping[str, Any]) -> Deed:
    given = cast("Mapping[str, Any]", arguments.get("input") or {})
    details = {key: _shown(value) for key, value in given.items() if key in TOLD and value is not None}
    return Deed(
        name,
        AuditOutcome.SUCCESS,
        principal=context.principal,
        client=context.client,
        request_id=context.request_id,
        target=_target_in(given),
        name=given.get("username") if context.principal is None else None,
        details={} if context.principal is None else details,
    )


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(one) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.name if isinstance(value, Enum) else value


def _target_in(given: Mapping[str, Any]) -> Target | None:
    """Give what the input names by an id, where that is one."""
    for name in ("id", "userId", "groupId"):
        if isinstance(given.get(name), str):
            try:
                return Target(*parse_global_id(given[name], name))
            except InvalidInput:
                return None
    return None


def _signed_in(result: object) -> UUID | None:
    """Give the user in what a mutation gives, for those that nobody is signed in for."""
    user = getattr(result, "user", None)
    return user.key if isinstance(user, User) else None


def _told_by(result: object) -> Mapping[str, Any]:
    """Give what the log keeps of the device that somebody decided about: the input has nothing but a code."""
    request = getattr(result, "request", None)
    return request.told if isinstance(request, DeviceSignInRequest) else {}


def _target_of(result: object) -> Target | None:
    """Give the first object with an id in what a mutation gives."""
    if not is_dataclass(result):
        return None
    for field in fields(result):
        value = getattr(result, field.name, None)
        if isinstance(value, Node):
            return Target(*parse_global_id(value.id))
    return None
