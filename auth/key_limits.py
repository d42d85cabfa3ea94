"""From where an API key may be used: from networks, and from pages of some sites. Lists of texts, in one form each.

A key that lists origins is for browsers: they send `Origin`, no page can change it, and other programs can send what
they like. So the list keeps a key that stands in a page from being used by the pages of others, and a request without
an origin is refused; the networks are what limits programs.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

from auth.addresses import NotAnAddress, parse_ip, parse_network, parse_origin
from auth.client import Client
from auth.errors import AddressNotAllowed, AuthenticationError, OriginNotAllowed

MAX_PLACES = 50
"""Networks of one key, and origins."""

MAX_PLACE = 300
"""Characters of one network or origin: a host name has up to 253."""

_MAPPED = IPv6Network("::ffff:0:0/96")
_MAPPED_PREFIX = 96


def canonical_network(text: str) -> str:
    """Give an address or a network in CIDR form. Raises NotAnAddress."""
    return str(_network(_short(text)))


def canonical_origin(text: str) -> str:
    """Give an origin such as `https://app.example` as it is compared. Raises NotAnAddress."""
    return str(parse_origin(_short(text)))


def network_covers(outer: str, inner: str) -> bool:
    """Tell whether a network, in CIDR form, holds all the addresses of another one."""
    within, whole = _network(inner), _network(outer)
    if isinstance(within, IPv4Network):
        return isinstance(whole, IPv4Network) and within.subnet_of(whole)
    return isinstance(whole, IPv6Network) and within.subnet_of(whole)


def misplaced(
    client: Client, networks: Sequence[str] | None, origins: Sequence[str] | None
) -> AuthenticationError | None:
    """Say why a client may not use a key with these limits, each None for no limit; None where it may."""
    if networks is not None and not _is_within(client.host, networks):
        return AddressNotAllowed()
    if origins is not None and not _is_one_of(client.origin, origins):
        return OriginNotAllowed()
    return None


def _is_within(host: str | None, networks: Sequence[str]) -> bool:
    try:
        address = parse_ip(host or "")
    except NotAnAddress:  # such as that of a Unix socket
        return False
    return any(address in _network(network) for network in networks)


def _is_one_of(origin: str | None, origins: Sequence[str]) -> bool:
    try:
        return origin is not None and canonical_origin(origin) in origins
    except NotAnAddress:  # such as `null`, which stands for every page that must not tell where it is from
        return False


@lru_cache(maxsize=4096)
def _network(text: str) -> IPv4Network | IPv6Network:
    """Parse a network; one of IPv4 that is written as IPv6 becomes IPv4, as addresses do."""
    network = parse_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return IPv4Network((int(mapped or 0), network.prefixlen - _MAPPED_PREFIX))
    return network


def _short(text: str) -> str:
    if len(text) > MAX_PLACE:
        raise NotAnAddress(f"must have at most {MAX_PLACE} characters")
    return text
