"""Where a caller is, as far as it can be told one from another."""

from ipaddress import IPv6Address, ip_address, ip_network

UNKNOWN = "unknown"


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
