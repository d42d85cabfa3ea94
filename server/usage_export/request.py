"""Reads which report is asked for, from the parameters of an address or the options of a command."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import strawberry

from gateway.usage import Granularity, UsageDimension, UsageFilter, UsageRequest
from schema.node import parse_uuid
from server.audit_export import read_moment

_Choice = TypeVar("_Choice", bound=StrEnum)

_ONCE = frozenset({"from", "to", "timeZone", "granularity", "allUsers", "percentiles"})
_REPEATED = frozenset({"groupBy", "model", "backend", "endUser", "userId", "apiKeyId", "groupId"})


def read_request(given: Mapping[str, Sequence[str]]) -> UsageRequest:
    """Read parameters by name, each with its values. Raises ValueError with a sentence, and InvalidInput."""
    for name, values in given.items():
        if name not in _ONCE | _REPEATED:
            raise ValueError(f"{name[:40]} is no parameter: there are {', '.join(sorted(_ONCE | _REPEATED))}.")
        if name in _ONCE and len(values) != 1:
            raise ValueError(f"{name} may be given once.")
    one = {name: values[0] for name, values in given.items() if name in _ONCE}
    for name in ("allUsers", "percentiles"):
        if one.get(name, "false") not in {"true", "false"}:
            raise ValueError(f"{name} must be true or false.")
    return UsageRequest(
        start=read_moment(one["from"], "from") if "from" in one else None,
        end=read_moment(one["to"], "to") if "to" in one else None,
        time_zone=one.get("timeZone"),
        granularity=_choice(Granularity, one.get("granularity", "DAY"), "granularity"),
        group_by=[_choice(UsageDimension, value, "groupBy") for value in given.get("groupBy", ())],
        filter=UsageFilter(
            models=given.get("model"),
            backends=given.get("backend"),
            end_users=given.get("endUser"),
            user_ids=_ids(given.get("userId"), "User", "userId"),
            api_key_ids=_ids(given.get("apiKeyId"), "ApiKey", "apiKeyId"),
            group_ids=_ids(given.get("groupId"), "Group", "groupId"),
            all_users=one.get("allUsers") == "true",
        ),
        percentiles=one.get("percentiles") == "true",
    )


def _choice(kind: type[_Choice], text: str, name: str) -> _Choice:
    try:
        return kind(text.upper())
    except ValueError:
        raise ValueError(f"{name} must be one of {', '.join(kind)}, not {text[:40]!r}.") from None


def _ids(ids: Sequence[str] | None, kind: str, name: str) -> list[UUID] | None:
    return None if ids is None else [parse_uuid(strawberry.ID(it), kind, name) for it in ids]
