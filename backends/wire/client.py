"""The client of one model server: what is sent with every request to it, and its connections."""

import ssl
from collections.abc import Mapping

import httpx

from backends.wire.transport import HttpTransport, head_of, lines_of


class Client(httpx.AsyncClient):
    """httpx's client, with a shorter way for what every generation asks.

    httpx merges addresses and headers anew for each request, and looks for cookies in each response: an eighth of the
    time from an operation's arrival to the request that it makes. And what cookies one user's answer brought went with
    the next one's request. `ask` puts the head of a request together once for each path.
    """

    def __init__(self, url: httpx.URL, headers: Mapping[str, str], connect_timeout: float) -> None:
        tls = ssl.create_default_context() if url.scheme == "https" else None
        self._wire = HttpTransport(url.host, url.port or (443 if tls else 80), tls)
        self._heads: dict[tuple[str, str], list[bytes]] = {}
        super().__init__(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(None, connect=connect_timeout),
            transport=self._wire,
            trust_env=False,
            follow_redirects=False,
        )

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a request, with JSON where it has a body, and give the response as it begins. Raises httpx.HTTPError."""
        lines = self._heads.get((method, path))
        if lines is None:
            lines = self._heads[method, path] = self._lines(method, path)
        if body is not None:
            lines = [*lines, b"content-type: application/json", b"content-length: %d" % len(body)]
        if headers:
            lines = [*lines, *(f"{name}: {value}".encode() for name, value in headers.items())]
        return await self._wire.ask(head_of(lines), body or b"", self.timeout.connect)

    def _lines(self, method: str, path: str) -> list[bytes]:
        """Give the lines with which every request for this path begins."""
        request = self.build_request(method, path)
        if request.url.username or request.url.password:
            request = next(httpx.BasicAuth(request.url.username, request.url.password).auth_flow(request))
        request.headers.pop("content-length", None)
        return lines_of(request)
