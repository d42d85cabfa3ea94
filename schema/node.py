"""Global ids and pages, as the Relay specifications define them (Global Object Identification, Cursor Connections)."""

import binascii
from collections.abc import Sequence
from uuid import UUID

import strawberry
from strawberry import relay
from strawberry.relay.utils import from_base64, to_base64

from gateway.errors import InvalidInput, cut

MAX_PAGE = 100
"""Items of one page of a connection. What asks for more is refused; the cost of an operation assumes no more."""

DEFAULT_PAGE = 20
"""Generations of one page where nobody says how many."""

MAX_NODE_IDS = 100
"""Ids in one `nodes`. What names more is refused; the cost of an operation assumes no more."""


@strawberry.interface(description="An object that can be fetched by its id.")
class Node:
    id: strawberry.ID = strawberry.field(description="The globally unique id, opaque to clients.")


def page_size(first: int | None, default: int) -> int:
    """Give the number of items that a page is asked for. Raises InvalidInput for what no page can have."""
    size = default if first is None else first
    if not 1 <= size <= MAX_PAGE:
        raise InvalidInput("first", f"must be from 1 to {MAX_PAGE}, not {size}.")
    return size


def page_info(cursors: Sequence[str], *, has_more: bool, after: str | None) -> relay.PageInfo:
    """Tell of a page with these cursors, asked for after `after`, how to get the next one."""
    return relay.PageInfo(
        has_next_page=has_more,
        has_previous_page=after is not None,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )


def global_id(kind: str, key: UUID | str) -> strawberry.ID:
    """Give the id under which the API knows a thing: base64 of "Type:key"."""
    return strawberry.ID(to_base64(kind, key))


def parse_global_id(value: str, field: str = "id") -> tuple[str, str]:
    """Give the type and the key in an id. Raises InvalidInput naming `field`."""
    try:
        return from_base64(value)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(field, f"{cut(value)!r} is not an id of this API.") from error


def parse_cursor(value: str, kind: str, field: str = "after") -> str:
    """Give the name in a cursor of this kind. Raises InvalidInput."""
    found, name = parse_global_id(value, field)
    if found != kind or "\0" in name:
        raise InvalidInput(field, f"{cut(value)!r} is not a cursor of this list.")
    return name


def parse_uuid(value: str, kind: str, field: str = "id") -> UUID:
    """Give the key of a thing of this type. Raises InvalidInput for an id of another type, or none at all."""
    found, key = parse_global_id(value, field)
    if found != kind:
        raise InvalidInput(field, f"this is the id of another type ({cut(found)!r}), not of the type {kind}.")
    try:
        return UUID(key)
    except ValueError as error:
        raise InvalidInput(field, f"{cut(value)!r} is not an id of this API.") from error
