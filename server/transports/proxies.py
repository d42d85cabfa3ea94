"""What proxies in front tell of a request: the client's address, and the scheme and host that the client used.

Anybody can send these headers, so they are believed of the proxies that the settings name, and of nobody else.
"""

from collections.abc import Awaitable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.addresses import Host, NotAnAddress, parse_host, parse_ip

Network = IPv4Network | IPv6Network


class TrustedProxies:
    """Puts what a trusted proxy says into the place of what the connection says: `client`, `scheme`, `Host`."""

    def __init__(self, app: ASGIApp, networks: Sequence[Network]) -> None:
        self._app = app
        self._networks = networks

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve."""
        if scope["type"] in {"http", "websocket"} and self._trusts(scope["client"]):
            self._believe(scope, Headers(scope=scope))
        return self._app(scope, receive, send)

    def _trusts(self, client: tuple[str, int] | None) -> bool:
        try:
            return client is not None and self._is_proxy(parse_ip(client[0]))
        except NotAnAddress:
            return False

    def _is_proxy(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)

    def _believe(self, scope: Scope, headers: Headers) -> None:
        client = self._client(_values(headers, "x-forwarded-for"))
        if client is not None:
            scope["client"] = (client, 0)
        scheme = _last(headers, "x-forwarded-proto").lower()
        if scheme in {"http", "https", "ws", "wss"}:
            secure = scheme in {"https", "wss"}
            plain = "ws" if scope["type"] == "websocket" else "http"
            scope["scheme"] = f"{plain}s" if secure else plain
        host = _last(headers, "x-forwarded-host")
        if host:
            value = _with_port(host, _last(headers, "x-forwarded-port")).encode("latin-1")
            scope["headers"] = [*((name, it) for name, it in scope["headers"] if name != b"host"), (b"host", value)]

    def _client(self, hops: list[str]) -> str | None:
        """Go back over the hops, the last of which the nearest proxy told, to the first that is no proxy of ours."""
        client: str | None = None
        for hop in reversed(hops):
            try:
                address = parse_ip(hop)
            except NotAnAddress:
                break
            client = str(address)
            if not self._is_proxy(address):
                break
        return client


def _values(headers: Headers, name: str) -> list[str]:
    return [value.strip() for value in ",".join(headers.getlist(name)).split(",") if value.strip()]


def _last(headers: Headers, name: str) -> str:
    """Give what the nearest proxy said; before it may stand what others said to it."""
    return (_values(headers, name) or [""])[-1]


def _with_port(text: str, port: str) -> str:
    try:
        host = parse_host(text)
        return text if host.port is not None or not port else str(parse_host(f"{Host(host.name, None)}:{port}"))
    except NotAnAddress:
        return text
