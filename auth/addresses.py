"""Hosts, origins and networks, from headers and settings, in the one form in which they can be compared."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]+)/?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class NotAnAddress(ValueError):
    """The text has not the form of a host, an origin or a network."""


@dataclass(frozen=True, slots=True)
class Host:
    """A name in lower case or an address (IPv6: in its short form, without brackets), and the port if it is told."""

    name: str
    port: int | None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a page comes from (RFC 6454). A port that is the scheme's default is not told."""

    scheme: str
    host: Host

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"

    def is_of(self, host: Host) -> bool:
        """Tell whether a page of this origin was served by this host."""
        return self.host == Host(host.name, None if host.port == _DEFAULT_PORTS.get(self.scheme) else host.port)


def parse_host(text: str) -> Host:
    """Parse what stands in a `Host` header: `name`, `name:port`, `[IPv6]` or `[IPv6]:port`. Raises NotAnAddress."""
    name, port = _split_port(text.strip())
    if name.startswith("[") and name.endswith("]"):
        return Host(_ipv6(name[1:-1]), port)
    name = name.lower().removesuffix(".")
    if not _NAME.fullmatch(name) or ".." in name:
        raise NotAnAddress(f"{text!r} is not a host")
    return Host(name, port)


def parse_host_name(text: str) -> Host:
    """Parse a host as a person writes it: also an IPv6 address without brackets, or a name outside ASCII."""
    text = text.strip()
    if text.count(":") > 1 and not text.startswith("["):
        return Host(_ipv6(text), None)
    try:
        return parse_host(text if text.isascii() else text.encode("idna").decode())
    except UnicodeError:
        raise NotAnAddress(f"{text!r} is not a host") from None


def parse_origin(text: str) -> Origin:
    """Parse an origin such as `https://a.example:8443`; one slash may follow. Raises NotAnAddress."""
    found = _ORIGIN.fullmatch(text.strip())
    if found is None:
        raise NotAnAddress(f"{text!r} is not an origin")
    scheme = found[1].lower()
    host = parse_host_name(found[2])
    return Origin(scheme, Host(host.name, None if host.port == _DEFAULT_PORTS.get(scheme) else host.port))


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Parse an address or a network such as `10.0.0.0/8`. Raises NotAnAddress."""
    try:
        return ip_network(text.strip().strip("[]"), strict=False)
    except ValueError:
        raise NotAnAddress(f"{text!r} is not an address or a network") from None


def parse_ip(text: str) -> IPv4Address | IPv6Address:
    """Parse an address, whose port is dropped; one of IPv4 written as IPv6 becomes IPv4. Raises NotAnAddress."""
    text = text.strip()
    try:
        address = ip_address(text if text.count(":") > 1 and "[" not in text else _split_port(text)[0].strip("[]"))
    except ValueError:
        raise NotAnAddress(f"{text!r} is not an address") from None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_loopback(host: str) -> bool:
    """Tell whether only programs on this machine can reach what listens at this host."""
    try:
        return host.lower().rstrip(".") == "localhost" or parse_ip(host).is_loopback
    except NotAnAddress:
        return False


class HostPatterns:
    """Hosts by name: `a.example`, `*.a.example` for all below it, `*` for all; with a port, for that port alone."""

    def __init__(self, patterns: list[str]) -> None:
        self._any = "*" in patterns
        self._exact: set[Host] = set()
        self._below: set[Host] = set()
        for pattern in patterns:
            if pattern.startswith("*."):
                self._below.add(parse_host_name(pattern[2:]))
            elif pattern != "*":
                self._exact.add(parse_host_name(pattern))

    def match(self, host: Host) -> bool:
        """Tell whether one of the patterns is for this host."""
        ports = {None, *(_DEFAULT_PORTS.values() if host.port is None else (host.port,))}
        return (
            self._any
            or any(Host(host.name, port) in self._exact for port in ports)
            or any(host.name.endswith(f".{pattern.name}") and pattern.port in ports for pattern in self._below)
        )


def shown(text: str | None) -> str:
    """Give what a stranger sent in a form that can stand in a log: on one line, in ASCII, and short."""
    if text is None:
        return "none"
    return ascii(text if len(text) <= 100 else f"{text[:100]}...")


def _split_port(text: str) -> tuple[str, int | None]:
    name, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        return text, None
    if not re.fullmatch(r"[0-9]{0,5}", port) or int(port or 0) > 65_535:
        raise NotAnAddress(f"{text!r} has no port after the colon")
    return name, int(port) if port else None


def _ipv6(text: str) -> str:
    try:
        if "%" not in text:
            return IPv6Address(text).compressed
    except ValueError:
        pass
    raise NotAnAddress(f"{text!r} is not an IPv6 address")
