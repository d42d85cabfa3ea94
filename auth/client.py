"""Where a request comes from, as far as the connection and its headers tell."""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

MAX_USER_AGENT = 200


@dataclass(frozen=True, slots=True)
class Client:
    """A client. `host` is its address, `origin` the page that sent the request (RFC 6454), of browsers alone.

    `reached` is the address under which it reached the gateway: an origin, and the path prefix if there is one.
    """

    host: str | None = None
    origin: str | None = None
    user_agent: str = ""
    reached: str | None = None


UNKNOWN_CLIENT = Client()

UNKNOWN = "unknown"


def shown_user_agent(value: str | None) -> str:
    """Give the User-Agent header as it is kept and shown: printable, and not longer than `MAX_USER_AGENT`."""
    return "".join(character for character in value or "" if character.isprintable())[:MAX_USER_AGENT]


def origin(host: str | None) -> str:
    """Give the address that a client is counted by: of IPv6 the first 64 bits, for one machine has all of the rest."""
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return UNKNOWN
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address.packed, 64), strict=False))


def shown_address(host: str | None) -> str | None:
    """Give an address as it is kept and shown; None for what is none."""
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
